"""Shards, wherever they lie: what one looks like from outside, whether it is still what was indexed, and its index.

A local shard is mapped and its headers are read in place. A shard on an object store is fetched once, in pieces, into a
temporary file, hashed on the way, and indexed there: memory stays that of a piece, the disk holds as many shards as are
indexed at once.
"""

import contextlib
import datetime as dt
import fnmatch
import glob
import hashlib
import os
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tamis.store.errors import ShardChanged, ShardError, TamisError
from tamis.store.roots import requests
from tamis.store.roots.regular import not_regular, open_regular
from tamis.store.roots.roots import reporting_full
from tamis.store.roots.urls import SCHEMES, is_remote, refuse_credentials, shown, split_url
from tamis.store.shards.tars import ShardIndex, index_shard

if TYPE_CHECKING:
    from obstore import ObjectMeta

PART = "part:"  # how the index digest of a shard begins that is not the file as it lies: some samples, other labels
RELABELLED = f"{PART}labels:"  # ... of which a dataset has other labels than the file
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Look(NamedTuple):
    """A shard from outside."""

    bytes: int
    stamp: int  # modification time, ns; on object stores it has whole seconds


@dataclass(frozen=True)
class Shard:
    """One tar of a dataset, as it was when it was indexed."""

    uri: str  # absolute path, or URL
    bytes: int
    digest: str | None  # sha256 of the file, None where it was not hashed
    index_digest: str  # sha256 of what the index says; of a part, of the shard's content and its samples or labels
    stamp: int  # modification time, ns
    first_sample: int
    count: int
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    @property
    def content(self) -> str:
        """What identifies the content: the file's digest, else the index's; of a part, the file and what is taken."""
        return self.index_digest if self.is_part else self.file

    @property
    def file(self) -> str:
        """What identifies the file: its digest, else what there is."""
        return self.digest or f"index:{self.index_digest}"

    @property
    def is_part(self) -> bool:
        """Whether the dataset has some of the file's samples only, or other labels (`splitting`, `flipping`)."""
        return self.index_digest.startswith(PART)

    @property
    def is_relabelled(self) -> bool:
        """Whether the dataset has other labels than the file (`tamis.store.datasets.flipping`)."""
        return self.index_digest.startswith(RELABELLED)

    def is_there(self) -> bool:
        """Whether there is anything where the shard was indexed."""
        try:
            look(self.uri, self.options)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def check(self) -> None:
        """Refuse a shard that is not the one that was indexed. Unchanged size and time are trusted; else it is hashed.

        Raises:
            ShardChanged: names the shard and the difference.
        """
        size, stamp = self._look()
        if size != self.bytes:
            raise ShardChanged(
                f"Shard {self.uri} changed after it was indexed: it had {self.bytes} bytes and has {size}. "
                "Restore it, or add the new file under another dataset name."
            )
        if stamp != self.stamp:
            self.check_bytes()

    def check_bytes(self) -> None:
        """Hash the whole shard and compare; without a stored digest, nothing can be compared, and it is refused."""
        if self.digest is None:
            raise ShardChanged(
                f"Shard {self.uri} was touched after it was indexed, and was indexed without a digest that would tell "
                "whether its bytes are the same. Add it under another name, with digests."
            )
        found = shard_digest(self.uri, self.options)
        if found != self.digest:
            raise ShardChanged(
                f"Shard {self.uri} changed after it was indexed: expected sha256 {self.digest[:12]}…, the file has "
                f"{found[:12]}…. Restore it, or add the new file under another dataset name."
            )

    def problem(self) -> str | None:
        """What is wrong with the shard's bytes, in a sentence; all of them are read where its size is right."""
        try:
            if self.digest is None or self._look().bytes != self.bytes:
                self.check()
            else:
                self.check_bytes()
        except (TamisError, OSError) as error:
            return str(error)
        return None

    def _look(self) -> Look:
        try:
            return look(self.uri, self.options)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ShardChanged(f"Shard {self.uri} is missing. Restore it.") from error


def shard_uri(shard: str | os.PathLike[str]) -> str:
    """A shard as it is kept: an absolute path, or a URL as it was given.

    Raises:
        ShardError: a URL of a scheme that is not read.
    """
    text = os.fspath(shard)
    refuse_credentials(text)
    if is_remote(text):
        return text
    if "://" in text:
        raise ShardError(
            f"{shown(text)!r}: shards must be in folders or under {', '.join(s + '://' for s in SCHEMES)}; "
            f"{text.partition('://')[0]}:// is not one of them."
        )
    if "\0" in text:
        raise ShardError(f"{text!r} is not a file name: it contains a null byte.")
    return str(Path(text).expanduser().absolute())


def expand(patterns: Sequence[str]) -> list[str]:
    """Paths and URLs, with what matches in place of each pattern (*, ?, [...]), by name.

    Raises:
        ShardError: a pattern matches nothing.
    """
    found: list[str] = []
    for pattern in patterns:
        if not any(c in pattern for c in "*?["):
            found.append(pattern)
            continue
        names = matching(pattern) if is_remote(pattern) else sorted(glob.glob(pattern))
        if not names:
            raise ShardError(f"{pattern!r} matches no file.")
        found += names
    return found


def matching(pattern: str, options: Mapping[str, str] | None = None) -> list[str]:
    """The URLs on an object store that match a pattern (*, ?, [...]), by name. As in a shell, * stops at a slash."""
    bucket, path = split_url(pattern)
    folder = path[: min(path.index(c) for c in "*?[" if c in path)].rpartition("/")[0]
    names = [str(o["path"]) for o in requests.names(bucket, folder or None, options or {})]
    found = [n for n in names if n.count("/") == path.count("/") and fnmatch.fnmatchcase(n, path)]
    return [f"{bucket}/{name}" for name in sorted(found)]


def look(uri: str, options: Mapping[str, str]) -> Look:
    """A shard's size and time, without reading it.

    Raises:
        FileNotFoundError: it is not there.
        ShardError: it is no regular file.
    """
    if not is_remote(uri):
        stat = os.stat(uri)
        kind = not_regular(stat.st_mode)
        if kind is not None:
            raise ShardError(f"Shard {uri} cannot be read: {kind}. Expected a tar file.")
        return Look(stat.st_size, stat.st_mtime_ns)
    bucket, path = split_url(uri)
    return look_of(requests.head(bucket, path, options, named=uri))


def shard_digest(uri: str, options: Mapping[str, str]) -> str:
    """sha256 of a shard's bytes, in hex."""
    if not is_remote(uri):
        with open_regular(uri) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for piece in _pieces(uri, options)[1]:
        total.update(piece)
    return total.hexdigest()


def read_index(uri: str, label: str | None, digests: bool, options: Mapping[str, str]) -> tuple[Shard, ShardIndex]:
    """Index a shard, and hash it where that is asked for. Its numbers begin at 0.

    Raises:
        ShardChanged: it is missing, or was written to meanwhile.
        ShardError: it cannot be indexed.
    """
    try:
        before = look(uri, options)
    except TamisError:
        raise
    except OSError as error:
        why = error.strerror or "there is no such object"
        raise ShardChanged(f"Shard {uri} cannot be read: {why}. Give existing shards.") from error
    with _at_hand(uri, options) as (path, hashed):
        index = index_shard(path, label, shown=uri)
        digest = (hashed or shard_digest(uri, options)) if digests else None
    after = look(uri, options)
    if before != after:
        raise ShardChanged(f"Shard {uri} changed while it was indexed. Wait until it is complete.")
    return Shard(uri, after.bytes, digest, index.digest(), after.stamp, 0, len(index.keys), options), index


@contextlib.contextmanager
def _at_hand(uri: str, options: Mapping[str, str]) -> Generator[tuple[Path, str | None]]:
    """A shard as a local file, and its digest where it had to be read whole for that."""
    if not is_remote(uri):
        yield Path(uri), None
        return
    total = hashlib.sha256()
    with tempfile.NamedTemporaryFile(prefix="tamis-shard-") as file:
        size, pieces = _pieces(uri, options)
        for piece in pieces:
            total.update(piece)
            with reporting_full(tempfile.gettempdir()):
                file.write(piece)
        with reporting_full(tempfile.gettempdir()):
            file.flush()
        if file.tell() != size:
            raise ShardChanged(
                f"Shard {uri} came as {file.tell()} bytes instead of {size}. Run the same command again."
            )
        yield Path(file.name), total.hexdigest()


def _pieces(uri: str, options: Mapping[str, str]) -> tuple[int, Iterator[bytes]]:
    """An object's size, and its bytes in pieces, from one request; a broken connection is taken up where it broke."""
    bucket, path = split_url(uri)
    return requests.pieces(bucket, path, options, named=uri)


def look_of(meta: "ObjectMeta") -> Look:
    """What an object store says of an object. A listing may tell parts of a second, a request never does."""
    return Look(meta["size"], (meta["last_modified"] - _EPOCH) // dt.timedelta(seconds=1) * 10**9)
