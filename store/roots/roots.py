"""A root: one folder, or one prefix of an object store, behind five verbs.

Every write is atomic (a name shows its whole content or nothing) and nothing is locked. `put_new` is the
put-if-absent that content-addressed blobs and finished parts of a flow rest on. Tables live beside these files and are
written by `tamis.store.tables.tables`. How an object store is reached stands in `tamis.store.roots.objects`.
"""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

from deltalake.exceptions import DeltaError
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from tamis.store.errors import InvalidName, StoreExists, StoreFull, StoreNotFound, TamisError, is_full
from tamis.store.roots import requests
from tamis.store.roots.objects import client, delta_options, reaching
from tamis.store.roots.options import Options, checked
from tamis.store.roots.urls import SCHEMES, is_remote, refuse_credentials, shown, split_url

UNFINISHED = ".tmp"  # what files end in until they have their name
_UNSAFE = set("%*?[]\\")
_PARTITIONS = ("dataset=", "run=", "selection=", "attempt=")


def open_objects(url: str | os.PathLike[str], options: Options | None = None) -> tuple[ObjectStore, str]:
    """The object store that holds a file, for `obstore.get_ranges` and its like, and the file's path in it.

    Opening the same bucket again costs nothing: clients and their connections are shared by a process. An object store
    cannot be used in a process that was forked from one that used any: workers are started by "forkserver" or "spawn".

    Args:
        url: a URL of one of `SCHEMES`, or the path of a local file.
        options: the storage options of the store (`Root.options`, `Dataset.options`); ignored for a local file.

    Raises:
        TamisError: no bucket, another scheme, unknown options, or a forked process.
    """
    text = os.fspath(url)
    refuse_credentials(text)
    if is_remote(text):
        bucket, path = split_url(text)
        return client(bucket, options), path
    if "://" in text:
        raise TamisError(
            f"{shown(text)!r}: shards must be in folders or under {', '.join(s + '://' for s in SCHEMES)}."
        )
    return LocalStore(), Path(text).expanduser().absolute().as_posix().lstrip("/")


class Root:
    """Where a store lies. `path` is the folder, or None on an object store.

    Args:
        where: a folder, or a URL of one of the schemes `SCHEMES`.
        options: storage options handed to the object store, see `tamis.store.roots.options`; ignored for a folder.
    """

    def __init__(self, where: str | os.PathLike[str], options: dict[str, str] | None = None) -> None:
        text = os.fspath(where)
        refuse_credentials(text)
        scheme = text.partition("://")[0] if "://" in text else ""
        if scheme and scheme not in SCHEMES:
            raise TamisError(
                f"{shown(text)!r}: a store is a folder or a URL with {', '.join(s + '://' for s in SCHEMES)}; "
                f"{scheme}:// is not one of them."
            )
        self.path = None if scheme else Path(text).expanduser().absolute()
        self.url = text.rstrip("/") if scheme else str(self.path)
        self.options: dict[str, str] = checked(options)
        _refuse_odd(self.path or Path(split_url(self.url)[1]), self.url)

    @property
    def table_options(self) -> dict[str, str] | None:
        """What Delta tables are opened with."""
        return delta_options(self.url, self.options) if self.path is None else None

    def prepare(self) -> None:
        """Make the folder, where it is one."""
        if self.path is not None:
            try:
                with reporting(self.url):
                    self.path.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise StoreExists(
                    f"{self.url} cannot be created: {error.filename} is a file or inside one. Choose another location."
                ) from error

    def put(self, name: str, data: bytes | Path) -> None:
        """Write a file, replacing what was there, all at once."""
        with reporting(self.url):
            if self.path is not None:
                with _unfinished(self.path / name, data) as made:
                    made.replace(self.path / name)
            else:
                requests.put(self.url, name, data, self.options)

    def put_new(self, name: str, data: bytes | Path) -> bool:
        """Write a file unless the name is taken; whether it was written."""
        try:
            with reporting(self.url):
                if self.path is not None:
                    with _unfinished(self.path / name, data) as made:
                        os.link(made, self.path / name)
                    return True
                return requests.put_new(self.url, name, data, self.options)
        except FileExistsError:
            return False

    def get(self, name: str) -> bytes | None:
        """The bytes of a file, or None."""
        if self.path is not None:
            return _read(self.path / name)
        return requests.get(self.url, name, self.options)

    def exists(self, name: str) -> bool:
        if self.path is not None:
            return (self.path / name).exists()
        return self.changed(name) is not None

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        if self.path is not None:
            (self.path / name).unlink(missing_ok=True)
            return
        requests.delete(self.url, name, self.options)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(name, bytes) of every file below a prefix, by name."""
        if self.path is not None:
            return sorted(_files_below(self.path, self.path / prefix))
        return sorted((str(o["path"]), int(o["size"])) for o in requests.names(self.url, prefix, self.options))

    def aged(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """(name, bytes, time of the last change in s) of every file below a prefix, in no stated order."""
        if self.path is not None:
            for name, size in _files_below(self.path, self.path / prefix):
                with contextlib.suppress(FileNotFoundError):
                    yield name, size, (self.path / name).stat().st_mtime
            return
        for o in requests.names(self.url, prefix, self.options):
            yield str(o["path"]), int(o["size"]), o["last_modified"].timestamp()

    def unfinished(self) -> Iterator[tuple[str, int, float]]:
        """What `aged` says of files that never got their name; object stores have none."""
        for at, _, names in os.walk(self.path) if self.path is not None else ():
            for path in (Path(at, n) for n in names if n.startswith(".") and n.endswith(UNFINISHED)):
                with contextlib.suppress(FileNotFoundError):
                    seen = path.stat()
                    yield path.relative_to(self.path or at).as_posix(), seen.st_size, seen.st_mtime

    def clock(self, *, probe: bool = True) -> float:
        """The medium's time, s since 1970: that of a file written now, or this machine's where none may be written."""
        if not probe:
            return time.time()
        name = f"probe-{uuid.uuid4().hex}"
        self.put(name, b"")
        try:
            return self.changed(name) or time.time()
        finally:
            self.delete(name)

    def changed(self, name: str) -> float | None:
        """When a file was last written, s since 1970 by the medium's clock; None where there is none."""
        try:
            if self.path is not None:
                return (self.path / name).stat().st_mtime
            return requests.head(self.url, name, self.options)["last_modified"].timestamp()
        except StoreNotFound:
            raise
        except (FileNotFoundError, NotADirectoryError):
            return None

    def behind(self, folder: str, name: str) -> tuple[str, ...]:
        """Names of the files of a folder on an object store that come behind a name, "" for all, in one listing."""
        found = requests.names(self.url, folder, self.options, after=f"{folder}/{name}" if name else None)
        return tuple(str(o["path"]).rpartition("/")[2] for o in found)

    def table_uri(self, name: str) -> str:
        return f"{self.url}/tables/{name}"

    def __repr__(self) -> str:
        return f"Root({self.url!r})"


@contextlib.contextmanager
def _unfinished(path: Path, data: bytes | Path) -> Generator[Path]:
    """The content of a file under a name that nobody looks for, in the folder where it belongs; gone at the end."""
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            shutil.copyfile(data, made)
        else:
            made.write_bytes(data)
        yield made
    finally:
        made.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _files_below(top: Path, folder: Path) -> Iterator[tuple[str, int]]:
    for at, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(UNFINISHED):
                path = Path(at, name)
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    yield path.relative_to(top).as_posix(), path.stat().st_size


def _refuse_odd(path: Path, named: str) -> None:
    """What reads tables takes some characters for patterns or escapes, and `run=5` for the partition of a table."""
    odd = sorted(_UNSAFE & set(str(path))) + [part for part in path.parts if part.startswith(_PARTITIONS)]
    if odd:
        raise InvalidName(
            f"{shown(named)} cannot hold a store: what reads tables would take {' '.join(odd)} in its name for a "
            "pattern, an escape or a partition. Choose or make a folder without it."
        )


@contextlib.contextmanager
def reporting(where: str) -> Generator[None]:
    """What can go wrong around a write, in our own words: a full medium, a server out of reach."""
    with reaching(where), reporting_full(where):
        yield


@contextlib.contextmanager
def reporting_full(where: str) -> Generator[None]:
    """Turn every library's way of saying 'no space left' into StoreFull; let all else pass."""
    try:
        yield
    except StoreFull:
        raise
    except (OSError, BaseError, DeltaError, RuntimeError, ValueError) as error:
        if not is_full(error):
            raise
        raise StoreFull(
            f"No space left while writing to {where}. Published data is intact; what was being written is "
            "not visible. Free some space and run the same command again."
        ) from error
