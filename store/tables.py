"""The store's Delta tables: schemas, appends with claims, replacing by key, and which files are visible.

Two kinds of tables. A *head* has one row that makes a thing visible (a dataset version, a selection, a run's status); a
*payload* has the rows of the thing and is partitioned by its key and by the *attempt* that wrote them. An attempt's
payload is appended first, the head that names the attempt last, in one commit that also claims the thing's key and its
next version. Claims are Delta application transactions: of two commits that carry the same one, the log takes the first
and refuses the second, so there is no lock to hold or to leave behind. What a killed or beaten attempt wrote is never
named by a head and so never seen.

Partitioning by attempt makes visibility a matter of files: a view is a list of whole Parquet files, and reading it
costs nothing over reading the files.
"""

import datetime as dt
import functools
import operator
import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from tamis.store.arrow import pc
from tamis.store.errors import QueryError, StoreFormatError, TamisError, WriteConflict
from tamis.store.objects import reaching
from tamis.store.parquet import dataset_of
from tamis.store.roots import Root, reporting

TIME = pa.timestamp("us", tz="UTC")
MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))

At = dt.datetime | Mapping[str, int] | None


@dataclass(frozen=True)
class Spec:
    """A table: its columns, and for a payload the partition columns (the last one `attempt` where heads name it)."""

    schema: pa.Schema
    partition_by: tuple[str, ...] = ()


def _spec(partition_by: tuple[str, ...] = (), **columns: pa.DataType) -> Spec:
    return Spec(pa.schema(list(columns.items())), partition_by)


_TEXT, _INT, _LONG, _FLOAT, _REAL = pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.float64()

TABLES: dict[str, Spec] = {
    "datasets": _spec(
        dataset=_TEXT, version=_INT, key=_TEXT, samples=_LONG, shards=_INT, bytes=_LONG, image=_TEXT, label=_TEXT,
        classes=pa.list_(_TEXT), seconds=_REAL, created=TIME, attempt=_TEXT,
    ),
    "shards": _spec(
        ("dataset", "attempt"),
        dataset=_TEXT, shard=_INT, uri=_TEXT, bytes=_LONG, digest=_TEXT, index_digest=_TEXT, stamp=_LONG,
        first_sample=_LONG, count=_LONG, version=_INT, attempt=_TEXT,
    ),
    "samples": _spec(
        ("dataset", "attempt"),
        dataset=_TEXT, sample=_LONG, key=_TEXT, shard=_INT, offset=_LONG, size=_LONG, members=MEMBERS, label=_LONG,
        attempt=_TEXT,
    ),
    "runs": _spec(
        run=_TEXT, kind=_TEXT, dataset=_TEXT, model=_TEXT, config=_TEXT, selection=_TEXT, status=_TEXT, metrics=_TEXT,
        seconds=_TEXT, blob=_TEXT, error=_TEXT, code=_TEXT, updated=TIME,
    ),
    "scores": _spec(("run", "attempt"), run=_TEXT, metric=_TEXT, sample=_LONG, value=_REAL, attempt=_TEXT),
    "losses": _spec(
        ("run",),
        run=_TEXT, epoch=_INT, sample=_LONG, loss=_FLOAT, loss_epoch=_INT, probability=_FLOAT, selected=pa.bool_(),
    ),
    "selections": _spec(
        selection=_TEXT, name=_TEXT, version=_INT, dataset=_TEXT, method=_TEXT, method_version=_INT, params=_TEXT,
        inputs=pa.list_(_TEXT), seed=_LONG, rounds=_INT, size=_LONG, stats=_TEXT, seconds=_REAL, created=TIME,
        attempt=_TEXT,
    ),
    "selection_rounds": _spec(
        ("selection", "attempt"),
        selection=_TEXT, round=_INT, first_epoch=_INT, size=_LONG, objective=_REAL, attempt=_TEXT,
    ),
    "selection_samples": _spec(
        ("selection", "attempt"),
        selection=_TEXT, round=_INT, sample=_LONG, weight=_FLOAT, rank=_LONG, attempt=_TEXT,
    ),
}  # fmt: skip

# Without this, Delta drops the log's entries, and with them every earlier state, after 30 days.
_KEPT = {"delta.enableExpiredLogCleanup": "false"}
# A commit after the last checkpoint is one or two requests of every opening: on object stores they are kept few.
_KEPT_REMOTE = _KEPT | {"delta.checkpointInterval": "10"}
_TRIES = 40
_COMPACT_EVERY = 64
_WRITER = WriterProperties(compression="ZSTD", compression_level=1)


class Tables:
    """The Delta tables of one root. Holds no state: every call reads the log as it is now."""

    def __init__(self, root: Root) -> None:
        self._root = root

    @property
    def options(self) -> dict[str, str]:
        """The storage options of the root."""
        return self._root.options

    def create(self) -> None:
        """Make every table that is not there yet. Safe to repeat and to race."""
        for name, spec in TABLES.items():
            try:
                with reporting(self._root.url):
                    DeltaTable.create(
                        self._root.table_uri(name),
                        spec.schema,
                        mode="ignore",
                        partition_by=list(spec.partition_by) or None,
                        configuration=_KEPT if self._root.path is not None else _KEPT_REMOTE,
                        storage_options=self._root.table_options,
                    )
            except DeltaError:
                self.open(name)  # somebody else made it at the same time, or it is damaged and this says so

    def open(self, name: str, at: At = None) -> DeltaTable:
        """A table as it is now, or as it was: at a time, or at a version (`{"scores": 3}`; other tables as now)."""
        uri = self._root.table_uri(name)
        version = at.get(name) if isinstance(at, Mapping) else None
        try:
            with reaching(self._root.url):
                table = DeltaTable(uri, version=version, storage_options=self._root.table_options)
                if isinstance(at, dt.datetime):
                    table.load_as_version(at if at.tzinfo else at.astimezone())
        except TamisError:
            raise
        except (TableNotFoundError, DeltaError, OSError, OverflowError) as error:
            if at is not None:
                raise QueryError(
                    f"Table {name} has no state at {version if version is not None else at}: {error}"
                ) from error
            raise StoreFormatError(f"Table {name} of {self._root.url} cannot be read: {error}") from error
        return table

    def append(self, name: str, rows: pa.Table | pa.RecordBatchReader, claims: Mapping[str, int] | None = None) -> bool:
        """Append rows in one commit.

        With claims ({what: version}), the commit happens only if nobody has claimed any of them; returns whether it
        did. Without claims appends never conflict.
        """
        claims = claims or {}
        transactions = [Transaction(what, version) for what, version in claims.items()]
        for wait in _waits():
            table = self.open(name)
            # The log compares a commit with those after the state it was opened at; what is in that state we compare.
            if any((table.transaction_version(what) or 0) >= version for what, version in claims.items()):
                return False
            try:
                with reporting(self._root.url):
                    write_deltalake(
                        table,
                        rows,
                        mode="append",
                        writer_properties=_WRITER,
                        commit_properties=CommitProperties(
                            max_commit_retries=100, app_transactions=transactions or None
                        ),
                    )
            except CommitFailedError:
                if claims or not isinstance(rows, pa.Table):  # a reader's rows are spent: its caller starts over
                    return bool(claims) and self._holds(name, rows)
                time.sleep(wait)
            else:
                self._keep_compact(name, table)
                return True
        raise WriteConflict(
            f"Table {name} of {self._root.url}: {_TRIES} tries to append were all beaten by other writers."
        )

    def _holds(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> bool:
        """Whether a head that was refused is there all the same.

        When the answer to a commit gets lost, the client says it again, and is then beaten by itself.
        """
        if not isinstance(rows, pa.Table):
            return False
        first = TABLES[name].schema.names[0]
        there = self.read(name, None, None, **{first: rows[first].unique().to_pylist()}).to_pylist()
        return all(row in there for row in rows.to_pylist())

    def replace(self, name: str, where: str, rows: pa.Table) -> None:
        """Put rows in place of those that match a predicate, in one commit, however many others do the same."""
        for wait in _waits():
            try:
                with reporting(self._root.url):
                    write_deltalake(
                        self.open(name),
                        rows,
                        mode="overwrite",
                        predicate=where,
                        writer_properties=_WRITER,
                        commit_properties=CommitProperties(max_commit_retries=100),
                    )
            except CommitFailedError:
                time.sleep(wait)
            else:
                return
        raise WriteConflict(
            f"Table {name} of {self._root.url}: {_TRIES} tries to write {where} were beaten by other writers."
        )

    def drop_attempt(self, name: str, attempt: str) -> None:
        """Forget the payload of an attempt that was beaten. Nobody saw it; failing to forget it costs disk, no more."""
        try:
            self.open(name).delete(f"attempt = '{attempt}'")
        except (CommitFailedError, DeltaError, OSError):
            return

    def claimed(self, name: str, what: str) -> int:
        """The last version claimed for something, 0 for none."""
        return self.open(name).transaction_version(what) or 0

    def read(
        self, name: str, at: At = None, columns: list[str] | None = None, /, **equal: str | Collection[str]
    ) -> pa.Table:
        """Rows whose text columns equal the given values (one, or any of several), in no stated order."""
        return self.rows(name, self.open(name, at), columns, **equal)

    def rows(
        self, name: str, table: DeltaTable, columns: list[str] | None = None, /, **equal: str | Collection[str]
    ) -> pa.Table:
        """As `read`, of a table that is open. Partition columns choose files before any is looked at."""
        spec = TABLES[name]
        wanted = {c: pa.array([value] if isinstance(value, str) else list(value)) for c, value in equal.items()}
        terms = [pc.field(column).isin(values) for column, values in wanted.items()]
        condition = functools.reduce(operator.and_, terms) if terms else None
        files = self.files(name, table)
        for column in wanted.keys() & set(spec.partition_by):
            files = files.filter(pc.is_in(files[column], value_set=wanted[column]))
        if not len(files):
            return spec.schema.empty_table().select(columns or spec.schema.names)
        with reaching(self._root.url):
            return self.dataset(name, files).to_table(columns=columns, filter=condition)

    def files(self, name: str, table: DeltaTable) -> pa.Table:
        """The data files of an opened table: `path` (a URI or absolute), `bytes`, and a text column for each partition
        column."""
        actions = pa.table(table.get_add_actions(flatten=True))
        parts = {c: actions[f"partition.{c}"].cast(pa.string()) for c in TABLES[name].partition_by}
        base = self._root.table_uri(name) + "/"
        paths = pa.array([base + p for p in actions["path"].to_pylist()], pa.string())
        return pa.table({"path": paths, "bytes": actions["size_bytes"], **parts})

    def dataset(self, name: str, files: pa.Table) -> pads.Dataset:
        """Some of a table's files, at least one, for Arrow and for whatever reads Arrow's datasets."""
        spec = TABLES[name]
        return dataset_of(self._root, self._root.table_uri(name), spec.schema, list(spec.partition_by), files)

    def versions(self) -> dict[str, int]:
        """The version each table is at now."""
        return {name: self.open(name).version() for name in TABLES}

    def _keep_compact(self, name: str, table: DeltaTable) -> None:
        """Heads grow by one small file a commit: fold them together now and then, and yield to anybody in the way."""
        if TABLES[name].partition_by or table.version() % _COMPACT_EVERY:
            return
        try:
            table.optimize.compact()
        except (CommitFailedError, DeltaError, OSError):  # what was appended is there, with or without this
            return


def new_attempt() -> str:
    """A name that no other attempt has."""
    return uuid.uuid4().hex


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def rows_of(name: str, columns: Mapping[str, Any], count: int) -> pa.Table:
    """Columns as a table of the named schema; a scalar is repeated for every row."""
    schema = TABLES[name].schema
    arrays = [_column(columns[field.name], field.type, count) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(value: Any, kind: pa.DataType, count: int) -> pa.Array | pa.ChunkedArray:
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value if value.type == kind else value.cast(kind)
    if hasattr(value, "__array__"):
        return pa.array(value, kind)
    return pa.repeat(pa.scalar(value, kind), count)


def until_claimed(attempt: Callable[[], Any], what: str) -> Any:
    """Call `attempt` until it answers something other than None: each None is a commit that another writer beat."""
    for wait in _waits():
        answer = attempt()
        if answer is not None:
            return answer
        time.sleep(wait)
    raise WriteConflict(f"{what}: {_TRIES} tries were all beaten by other writers. Try again when fewer write at once.")


def _waits() -> list[float]:
    """Pauses between tries, s: doubling from 5 ms to half a second, each drawn at random so that rivals part."""
    return [random.random() * min(0.005 * 2**i, 0.5) for i in range(_TRIES)]
