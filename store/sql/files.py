"""The connection that one query runs on, and all that it can open.

What a connection may open is settled before anybody's SQL reaches it, whatever that says. It is in memory; access to
files, extensions and the network is off (`enable_external_access`), and its configuration is locked last. On an object
store nothing else is needed: the views stand over pyarrow datasets. In a folder the views read Parquet files, and those
are reached through a file system that is registered with the connection and that is the only place it may look
(`allowed_directories = ['tamis://']`): it knows the files of this query's views under names of their own, opens them
for reading, and refuses every other name, mode and verb. To allow the tables folder itself would be to allow writing
there.

What does not fit into memory goes into a folder of this query alone, which DuckDB may write to, of bounded size, out of
reach of other users, and gone with the connection.

DuckDB seeks and reads one Python file from many threads, so a file keeps one position for each of them.
"""

import contextlib
import datetime as dt
import functools
import os
import shutil
import stat
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pyarrow as pa
from fsspec import AbstractFileSystem

from tamis.store.errors import QueryError, QueryRefused, StoreFormatError, TamisError
from tamis.store.sql.sizes import parse_size

MEMORY = "TAMIS_SQL_MEMORY"
_SCHEME = "tamis"
_READ_ONLY = "SQL here is read-only: a query reads the files of the store's own tables, and writes none."
_LEAST = 64 * 2**20  # bytes: with less, DuckDB cannot begin


class TableFiles(AbstractFileSystem):
    """Files of tables under names of their own, to be read and nothing else.

    Attributes:
        fault: what the last refusal or failed reading was; DuckDB hands on no more than a text.
    """

    protocol = _SCHEME
    cachable = False  # fsspec would hand out the same object for every query

    def __init__(self) -> None:
        super().__init__()
        self.fault: TamisError | None = None
        self._spilled: Callable[[], object] = lambda: None
        self._paths: dict[str, str] = {}

    def add(self, table: str, folder: str, files: pa.Table) -> list[str]:
        """Make files known; answers their names, in which what Hive writes into folders (`run=...`) is kept.

        Args:
            table: the table that they are of.
            folder: where it lies.
            files: `path` of each, in the folder.
        """
        paths: list[str] = files["path"].to_pylist()
        names = ["/".join((table, *path.split("/")[:-1], f"{i}.parquet")) for i, path in enumerate(paths)]
        self._paths.update(zip(names, (f"{folder}/{path}" for path in paths), strict=True))
        return [f"{_SCHEME}://{name}" for name in names]

    def spill(self) -> str | None:
        """Make the folder for what does not fit into memory: it goes when this does. None where there can be none."""
        try:
            folder = tempfile.mkdtemp(prefix="tamis-sql-")  # 0700
        except OSError:  # read-only or full: then memory must do
            return None
        self._spilled = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def drop_spill(self) -> None:
        """Remove that folder now: the process may be about to be ended."""
        self._spilled()

    def open(  # pyright: ignore[reportIncompatibleMethodOverride] - DuckDB reads what it opens, and no more
        self, path: str, mode: str = "rb", *_: Any, **__: Any
    ) -> "TableFile":
        if mode != "rb" or not self.exists(path):
            self.refuse()
        return TableFile(self, self._paths[_bare(path)])

    def exists(self, path: str, **_: Any) -> bool:
        return _bare(path) in self._paths

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def isdir(self, path: str) -> bool:
        return False

    def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:
        """A name, where it is one of ours; nothing else is a pattern."""
        return [_bare(path)] if self.exists(path) else []

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self.size(path), "type": "file"}

    def size(self, path: str) -> int:
        if not self.exists(path):
            self.refuse()
        return os.stat(self._paths[_bare(path)]).st_size

    def modified(self, path: str) -> dt.datetime:
        """Always the same: what is published is not written again."""
        return dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

    def unstrip_protocol(self, name: str) -> str:
        return f"{_SCHEME}://{_bare(name)}"

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        self.fault = QueryRefused(_READ_ONLY)
        raise self.fault

    def fail(self, path: str, why: str) -> NoReturn:
        """Give up reading a file."""
        self.fault = StoreFormatError(
            f"{path} cannot be read: {why}. It is a file of the store's own; `tamis verify` says what else is damaged."
        )
        raise self.fault


# Whatever else a file system can be asked to do, now or in a later version of fsspec, is refused.
for _verb in dir(AbstractFileSystem):
    if not _verb.startswith("_") and callable(getattr(AbstractFileSystem, _verb)) and _verb not in vars(TableFiles):
        setattr(TableFiles, _verb, TableFiles.refuse)


class TableFile:
    """One open file, read by many threads at once."""

    def __init__(self, owner: TableFiles, path: str) -> None:
        self._owner, self._path = owner, path
        self._at: dict[int, int] = {}
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            owner.fail(path, error.strerror or str(error))
        self._closing = weakref.finalize(self, os.close, self._fd)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            owner.fail(path, "it is no regular file")

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET:
            position += os.fstat(self._fd).st_size if whence == os.SEEK_END else self.tell()
        self._at[threading.get_ident()] = position
        return position

    def tell(self) -> int:
        return self._at.get(threading.get_ident(), 0)

    def read(self, count: int) -> bytes:
        """Exactly that many bytes: DuckDB would take what is missing for whatever lay in its memory before."""
        begin = self.tell()
        try:
            data = os.pread(self._fd, count, begin)
            while len(data) < count and (more := os.pread(self._fd, count - len(data), begin + len(data))):
                data += more
        except OSError as error:
            self._owner.fail(self._path, error.strerror or str(error))
        if len(data) < count:
            self._owner.fail(self._path, f"it ends after {begin + len(data)} bytes, expected {begin + count}")
        self.seek(begin + count)
        return data

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._closing()

    def write(self, *_: Any) -> NoReturn:
        self._owner.refuse()

    flush = truncate = write


def _bare(path: str) -> str:
    return path.removeprefix(f"{_SCHEME}://")


def connect(files: TableFiles, memory: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that can be given views, and must be locked (`lock`) before it is given SQL.

    Args:
        files: what it may open.
        memory: bytes that a query may take; None for `memory_limit()`.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": f"{(memory or memory_limit()) // 1024}KiB",
            **_spilling(files),
        },
    )
    connection.register_filesystem(files)
    return connection


def lock(connection: duckdb.DuckDBPyConnection, reads_files: bool) -> None:
    """Let a connection open the files that are registered with it, or nothing, and let nothing change that."""
    allowed = f"'{_SCHEME}://'" if reads_files else ""
    connection.execute(
        f"set allowed_directories = [{allowed}]; set enable_external_access = false; set lock_configuration = true"
    )


def _spilling(files: TableFiles) -> dict[str, str]:
    """Where a query may put what does not fit into memory: a folder that goes when `files` does, or nowhere."""
    folder = files.spill()
    if folder is None:
        return {"temp_directory": ""}
    free = shutil.disk_usage(folder).free
    # DuckDB makes and removes a folder of its own in it.
    return {"temp_directory": os.path.join(folder, "spill"), "max_temp_directory_size": f"{free // 2048}KiB"}


def memory_limit() -> int:
    """Bytes that a query may take: TAMIS_SQL_MEMORY, or half of what the machine (or the container) has.

    Raises:
        QueryError: TAMIS_SQL_MEMORY is no size.
    """
    said = os.environ.get(MEMORY)
    return parse_memory(said) if said else max(_LEAST, _machine_memory() // 2)


def parse_memory(text: str) -> int:
    """'500MB', '2GiB' or a number of bytes -> bytes.

    Raises:
        QueryError: it is no size, or too small a one.
    """
    size = parse_size(text) or 0
    if size < _LEAST:
        raise QueryError(f"{text!r} is not a memory limit: expected at least 64 MiB, such as 500MB or 2GiB.")
    return size


@functools.cache
def _machine_memory() -> int:
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # none, or "max"
            found.append(int(Path(limit).read_text()))
    return min(found)
