"""Writing a shard so that it is there whole or not at all, and never in place of another file.

A shard is written beside its place, under a name of its own that its writer holds locked, and then linked to its name:
linking refuses to replace. What a killed writer leaves is known by its lock, which nobody holds any more.
"""

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from tamis.store.errors import ShardError
from tamis.store.shards.dialects import LONGEST_NAME
from tamis.store.shards.members import split_name

_KEY = re.compile(r"(?!/)(?:[^\0]*/)?[^./\0][^./\0]*\Z")
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
_SUFFIX = ".tmp"
_TRIES = 10


class NewShard:
    """A shard that is being written; leaving it without `publish` leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "NewShard":
        self.file, self._unfinished = _locked_file(self._path)
        return self

    def publish(self) -> None:
        """Give the whole shard its name.

        Raises:
            ShardError: another file has it.
        """
        self.file.flush()
        try:
            _link(self._unfinished, self._path)
        except FileExistsError as error:
            if not self._path.is_file() or not filecmp.cmp(self._unfinished, self._path, shallow=False):
                raise ShardError(
                    f"{self._path} already exists and holds other samples; nothing was overwritten. Choose "
                    "another folder (--out), or remove it if no dataset has it."
                ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unfinished.unlink(missing_ok=True)
        self.file.close()


class Hashed:
    """What is written to, and of which only the digest is kept."""

    def __init__(self) -> None:
        self.total, self._written = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.total.update(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written


def write_members(file: IO[bytes] | Hashed, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a whole tar of members: time 0, owner 0, mode 0644.

    Raises:
        ShardError: a name or a size is beyond what a plain tar holds.
    """
    with tarfile.open(fileobj=cast("IO[bytes]", file), mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError as error:
                raise ShardError(
                    f"Member {name[:200]!r} of {len(data):,} bytes does not fit into a plain tar: {error}. Names have "
                    "up to 100 bytes, 255 with their folders, and contents less than 8 GiB."
                ) from error


def check_key(key: str) -> None:
    """Refuse a key that would not come back from a shard, or would lead out of a folder.

    Raises:
        ShardError: says what a key is.
    """
    wrong = not _KEY.match(key) or ".." in key.split("/") or split_name(key.encode("utf-8", "ignore") + b".x") is None
    encoded = key.encode("utf-8", "ignore")  # lone surrogates are no UTF-8: names of files with other bytes
    if wrong or len(encoded) > LONGEST_NAME or encoded.decode() != key:
        raise ShardError(
            f"{key[:200]!r} is not a valid sample key: expected a name without dots; folders are allowed, "
            "but not a leading slash, '..', or a name such as '__meta__'."
        )


def remove_abandoned(prefix: Path) -> None:
    """Remove what killed writers of shards with this prefix left behind."""
    for path in prefix.parent.glob(f".{_escaped(prefix.name)}-*{_SUFFIX}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if _try_lock(file.fileno()):
                path.unlink()


def _locked_file(path: Path) -> tuple[IO[bytes], Path]:
    """A new file beside a path, locked."""
    for _ in range(_TRIES):
        descriptor, name = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
        file = os.fdopen(descriptor, "w+b")
        if _try_lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
            os.chmod(name, 0o666 & ~_umask())  # mkstemp's files are their owner's alone
            return file, Path(name)
        file.close()  # `remove_abandoned` of another writer was there between the two calls
    raise ShardError(f"{path} cannot be written: another program keeps removing its temporary file.")


def _try_lock(descriptor: int) -> bool | None:
    """Lock a file for as long as it is open; False where another has it, None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):  # a file system without links: two writers at once are told apart only by this
            raise FileExistsError(errno.EEXIST, "File exists", str(target)) from error
        source.replace(target)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
