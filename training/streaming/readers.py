"""How the shards of a dataset are read: which reader, how much it trusts, and where whole shards are kept.

What: `Media` says it, `open_reader` makes the reader. Addresses that are neither absolute paths nor of an object
store's scheme are refused: nothing is piped through a shell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tamis.store.datasets import Locations, Shard
from tamis.store.errors import ShardChanged
from tamis.store.roots.urls import SCHEMES
from tamis.training.errors import SchemeRefused
from tamis.training.streaming.local import Bytes, Ints, Key, LocalReader, Ranges, Reader

HEADER = 512
READING = ("auto", "ranges", "shards")
CHECKS = ("stamp", "headers", "digest")
CACHE_LIMIT = 64 << 30


@dataclass(frozen=True)
class Media:
    """How shards are read.

    Attributes:
        reading: "ranges" asks for members only; "shards" keeps whole shards of an object store on this machine, and
            has whole files read into memory. (What "auto" means is decided before: `tamis.training.streaming.advice`.)
        check: "stamp" trusts a shard whose size and time are as they were when it was indexed; "headers" reads each
            member's tar header as well and compares name and size; "digest" hashes each shard before it is first read.
        sparse: most of the bytes will not be read.
        options: storage options of the object store.
        folder: where whole shards are kept.
        limit: bytes that they may take there.
    """

    reading: Literal["ranges", "shards"] = "ranges"
    check: Literal["stamp", "headers", "digest"] = "stamp"
    sparse: bool = False
    options: Mapping[str, str] = field(default_factory=dict[str, str], hash=False, repr=False)
    folder: Path | None = None
    limit: int = CACHE_LIMIT


def is_remote(shards: Sequence[Shard]) -> bool:
    """Whether shards lie on an object store.

    Raises:
        SchemeRefused: a shard's address has a scheme that no reader here opens, or they lie on several media.
    """
    schemes = {_scheme(shard.uri): shard.uri for shard in shards}
    refused = next((uri for scheme, uri in schemes.items() if scheme not in ("", *SCHEMES)), None)
    if refused is not None:
        raise SchemeRefused(
            f"Shard {refused!r} is not opened: shards are absolute paths on this machine or URLs with "
            f"{', '.join(s + '://' for s in SCHEMES)}; add the dataset again "
            "from its files."
        )
    if len(schemes) > 1:
        raise SchemeRefused(f"The shards are on several media ({', '.join(schemes.values())}): one reader reads one.")
    return next(iter(schemes), "") != ""


def open_reader(shards: Sequence[Shard], key: Key, media: Media) -> Reader:
    """A reader for one thread.

    Args:
        shards: of the dataset, in its order, all on one medium.
        key: what a sample is called, for error messages.
        media: how to read.

    Raises:
        SchemeRefused: as `is_remote`.
    """
    digests = media.check == "digest"
    if not is_remote(shards):
        whole = media.reading == "shards"
        reader: Reader = LocalReader(shards, key, sparse=media.sparse and not whole, whole=whole, digests=digests)
    else:  # obstore is loaded only where it is needed
        from tamis.training.streaming.remote import RemoteReader, ShardCache

        if media.reading == "shards":
            assert media.folder is not None
            cache = ShardCache(media.folder, media.options, limit=media.limit)
            reader = LocalReader(shards, key, sparse=media.sparse, path=cache.path)
        else:
            reader = RemoteReader(shards, key, media.options, digests=digests)
    return _HeaderChecked(reader, shards, key) if media.check == "headers" else reader


class _HeaderChecked:
    """Another reader, with the tar header in front of each member read and compared."""

    def __init__(self, reader: Reader, shards: Sequence[Shard], key: Key) -> None:
        self._reader, self._shards, self._key = reader, shards, key

    @property
    def bytes_read(self) -> int:
        return self._reader.bytes_read

    def each(self, samples_N: Ints, where: Locations) -> list[bytes]:
        found = self._reader.each(samples_N, _with_header(where))
        for i, data in enumerate(found):
            self._compare(data[:HEADER], int(samples_N[i]), where, i)
        return [data[HEADER:] for data in found]

    def views(self, samples_N: Ints, where: Locations) -> Sequence[bytes | memoryview]:
        return self.each(samples_N, where)

    def into(self, samples_N: Ints, where: Locations, out: Bytes) -> None:
        out[:] = np.frombuffer(b"".join(self.each(samples_N, where)), np.uint8)

    def read(self, samples_N: Ints, where: Locations) -> Ranges:
        found = self._reader.read(samples_N, _with_header(where))
        for i, view in enumerate(found.views()):
            self._compare(bytes(view[:HEADER]), int(samples_N[i]), where, i)
        return Ranges(found.data, found.starts + HEADER, found.sizes - HEADER)

    def expect(self, where: Callable[[], Locations]) -> None:
        self._reader.expect(lambda: _with_header(where()))

    def close(self) -> None:
        self._reader.close()

    def _compare(self, header: bytes, sample: int, where: Locations, i: int) -> None:
        key, name = self._key(sample), header[:100].rstrip(b"\0").decode("utf-8", "replace")
        prefix = header[345:500].rstrip(b"\0").decode("utf-8", "replace")
        size = header[124:135].strip(b" \0")
        right = size.isdigit() and int(size, 8) == where.size[i] and _checksum(header)
        whole = f"{prefix}/{name}" if prefix and header[257:262] == b"ustar" else name
        if right and (whole.startswith(f"{key}.") or len(f"{key}.") > 90):  # longer names stand in headers of their own
            return
        raise ShardChanged(
            f"Shard {self._shards[where.shard[i]].uri} has no member of {key} (number {sample}) with "
            f"{where.size[i]} bytes at byte {where.offset[i]}, where the index says it is: the shard was replaced or "
            "damaged. Restore it, or add the new file under another dataset name."
        )


def _with_header(where: Locations) -> Locations:
    return Locations(where.shard, where.offset - HEADER, where.size + HEADER)


def _checksum(header: bytes) -> bool:
    """Whether a header says its own sum, which counts the eight bytes of the sum itself as blanks."""
    said = header[148:156].strip(b" \0")
    return said.isdigit() and int(said, 8) == sum(header) - sum(header[148:156]) + 8 * 32


def _scheme(uri: str) -> str:
    """The scheme of an address; an absolute path has none, whatever colons it holds."""
    if uri.startswith("/"):
        return ""
    scheme, colon, _ = uri.partition("://")
    return scheme if colon else "?"
