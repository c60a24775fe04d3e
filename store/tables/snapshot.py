"""One state of a table: which files it has, and how they are laid out. Nothing of their rows is read for it."""

import contextlib
import datetime as dt
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from tamis.store.errors import QueryError, StoreDenied, StoreFormatError, TamisError
from tamis.store.roots.objects import reaching
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import patiently
from tamis.store.tables.arrow import pc
from tamis.store.tables.datafiles import LATE, LIFE, Layout, named
from tamis.store.tables.log import Log, damaged
from tamis.store.tables.specs import TABLES

At = dt.datetime | Mapping[str, int] | None


@dataclass(frozen=True)
class Snapshot:
    """A table as it is, or was.

    Attributes:
        table: its name.
        version: of its log; -1 where the store has no such table.
        layout: the columns, and which of them are in the files' paths.
        files: `path` (in the table's folder), `bytes`, `low` and `high` (epochs, where known), `attempt` and `upto`
            (see `tamis.store.tables.datafiles`), `whole` (it is known to have every column), and a text column for each
            partition.
    """

    table: str
    version: int
    layout: Layout
    files: pa.Table

    @property
    def life(self) -> pa.Table:
        """The files with rows that say what became of things (`tamis.store.tables.lives`)."""
        return self.files.filter(pc.starts_with(self.files["path"], LIFE))

    @property
    def published(self) -> pa.Table:
        """All other files."""
        return self.files.filter(pc.invert(pc.starts_with(self.files["path"], LIFE)))

    def of(self, **equal: pa.Array) -> pa.Table:
        """The files that may hold published rows whose partitions and attempt have one of the given values each."""
        files = self.published
        for column, values in equal.items():
            if column == "attempt" and "attempt" not in self.layout.parts:
                mine = pc.is_in(files["attempt"], value_set=values)
                files = files.filter(pc.or_(mine, pc.is_null(files["attempt"])))
            elif column in self.layout.parts:
                files = files.filter(pc.is_in(files[column], value_set=values))
        return files


def snapshot(root: Root, name: str, at: At = None) -> Snapshot:
    """A table now, or at a time, or at a version (`{"scores": 3}`; other tables as now).

    Raises:
        QueryError: it had no state then.
        StoreFormatError: it is damaged.
    """
    table = open_table(root, name, at)
    if table is None:
        return Snapshot(name, -1, Layout(TABLES[name].schema, ()), _no_files())
    with understood(root, name):
        parts = tuple(table.metadata().partition_columns)
        return Snapshot(name, table.version(), Layout(TABLES[name].schema, parts), _files(table, parts))


def open_table(root: Root, name: str, at: At = None, *, making: bool = False) -> DeltaTable | None:
    """A table as the Delta library has it; None where the store has none of the name.

    Raises:
        StoreFormatError: it is damaged; or gone, from a store that has had it (unless it is being made).
    """
    version = at.get(name) if isinstance(at, Mapping) else None
    if version == -1 and TABLES[name].since > 1:
        return None  # `Tables.versions` of a store that lacked it
    if isinstance(at, dt.datetime):
        version = _version_at(root, name, at)
        if version is None:
            return None
    try:
        with understood(root, name):
            return patiently(
                root.url,
                root.options,
                lambda: DeltaTable(root.table_uri(name), version=version, storage_options=root.table_options),
            )
    except TableNotFoundError as error:
        if not making and (TABLES[name].since == 1 or root.exists(layout_name(name))):
            raise StoreFormatError(damaged(f"Table {name} of {root.url}", "its log is missing")) from error
        return None
    except StoreFormatError as error:
        if version is None:
            raise
        newest = Log(root, name).latest()
        if 0 <= version <= newest:
            raise
        raise QueryError(f"Table {name} has no state at version {version}: it has 0 to {newest}.") from error


def layout_name(table: str) -> str:
    """The file that says how a table is laid out, once it was made."""
    return f"index/{table}/layout.json"


@contextlib.contextmanager
def understood(root: Root, name: str) -> Generator[None]:
    """What the Delta library says of a log that it cannot read, as one of our errors; table not found passes.

    Raises:
        StoreFormatError: the log, or a checkpoint, is damaged.
        StoreDenied: it may not be read.
    """
    try:
        with reaching(root.url):
            yield
    except (TamisError, TableNotFoundError, CommitFailedError):
        raise
    except (DeltaError, OSError, ValueError, OverflowError, RuntimeError) as error:
        raise _explained(root, name, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how a Rust library gives up: none of Python's ordinary ones
            raise
        raise _explained(root, name, error) from error


def _explained(root: Root, name: str, error: BaseException) -> TamisError:
    why = " ".join(str(error).split())[:300].rstrip(". ")
    if isinstance(error, PermissionError) or "ermission denied" in why:
        return StoreDenied(f"Table {name} of {root.url} may not be read: {why}. Check the rights on its files.")
    return StoreFormatError(damaged(f"Table {name} of {root.url}", why))


def _version_at(root: Root, name: str, moment: dt.datetime) -> int | None:
    """By the order of the log: the last version whose clock, which never goes back, is at most the moment."""
    aware = moment if moment.tzinfo else moment.astimezone()
    log = Log(root, name)
    if log.latest() < 0:
        return None
    found = log.at(int(aware.timestamp() * 1000))
    if found is None and log.first():
        raise QueryError(f"Table {name} has no state at {moment}: it was removed by `tamis gc`.")
    return found or 0  # before the first commit the table was as empty as that left it


def _files(table: DeltaTable, parts: tuple[str, ...]) -> pa.Table:
    actions = pa.table(table.get_add_actions(flatten=True))
    paths = [unquote(p) for p in actions["path"].to_pylist()]
    said = [named(p) for p in paths]
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "path": pa.array(paths, pa.string()),
        "bytes": actions["size_bytes"].cast(pa.int64()),
        "low": _number(actions, "min.epoch"),
        "high": _number(actions, "max.epoch"),
        "whole": pc.is_valid(_number(actions, f"null_count.{LATE}")),
        "upto": pa.array([s.upto for s in said], pa.int64()),
        "attempt": pa.array([s.attempt for s in said], pa.string()),
    }
    return pa.table(columns | {c: actions[f"partition.{c}"].cast(pa.string()) for c in parts})


def _number(actions: pa.Table, column: str) -> pa.Array | pa.ChunkedArray:
    if column in actions.column_names:
        return actions[column].cast(pa.int64())
    return pa.nulls(len(actions), pa.int64())


def _no_files() -> pa.Table:
    kinds = {"path": pa.string(), "bytes": pa.int64(), "low": pa.int64(), "high": pa.int64(), "upto": pa.int64()}
    return pa.schema([*kinds.items(), ("whole", pa.bool_()), ("attempt", pa.string())]).empty_table()
