"""Reading a store's Delta tables: which files a state has, their rows, and which of those are of things that are there.

How: the log says which files there are; partitions and attempts choose among them before any is looked at. What became
of published things stands in files of their own (`tamis.store.tables.lives`), which `rows` leaves out.
Cost: small readings check the digest of every file; larger ones leave that to `tamis verify`.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
from deltalake import DeltaTable

from tamis.store.errors import StoreFormatError
from tamis.store.roots.objects import reaching
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import patiently
from tamis.store.tables import datafiles
from tamis.store.tables.arrow import pc
from tamis.store.tables.datafiles import Layout
from tamis.store.tables.lives import Lives, numbered
from tamis.store.tables.log import Log, Row, damaged
from tamis.store.tables.parquet import dataset_of
from tamis.store.tables.snapshot import At, Snapshot, open_table, snapshot
from tamis.store.tables.specs import LOG, TABLES
from tamis.store.tables.states import States

_BATCH = 1 << 12  # rows, of what is read a little at a time
_CHECKED = 64 << 20  # bytes of a reading up to which every file is checked against its digest


class Reading:
    """What can be read of the Delta tables of one root. Every call reads the log as it is now."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._states = States(root)
        self._named: tuple[Snapshot, set[str]] | None = None  # the attempts of the head that was asked for last
        self._lives: dict[str, tuple[Snapshot, Lives]] = {}  # what became of things, by the head asked for last

    @property
    def options(self) -> dict[str, str]:
        """The storage options of the root."""
        return self._root.options

    def folder(self, name: str) -> str:
        """Where a table's files are: a folder's path, or a URL."""
        return self._root.table_uri(name)

    def open(self, name: str, at: At = None) -> DeltaTable:
        """A table as the Delta library has it.

        Raises:
            StoreFormatError: the store has none, or it is damaged.
        """
        table = open_table(self._root, name, at)
        if table is None:
            raise StoreFormatError(f"{self._root.url} has no table {name}: the first writer creates it.")
        return table

    def state(self, name: str, at: At = None) -> Snapshot:
        """Which files a table has, now or at a time, or at a version (`{"scores": 3}`; other tables as now)."""
        now = at is None or (isinstance(at, Mapping) and name not in at)
        return self._states.now(name) if now else snapshot(self._root, name, at)

    def forget(self) -> None:
        """Read every table anew from its whole log, whatever was seen of it before."""
        self._states.forget()

    def versions(self) -> dict[str, int]:
        """The version each table is at now; -1 where the store has no such table."""
        return {name: Log(self._root, name).latest() for name in TABLES}

    def rows_in_order(self, name: str, at: At = None) -> list[Row]:
        """As `table_in_order`, a row at a time."""
        return self.table_in_order(name, at).to_pylist()

    def table_in_order(self, name: str, at: At = None) -> pa.Table:
        """All rows of a head, in the order of its log.

        Rows of earlier versions have no place in the log; they come first, by their own time.
        """
        return in_order(self.rows(self.state(name, at)))

    def read(
        self, name: str, at: At = None, columns: list[str] | None = None, /, **equal: str | Collection[str]
    ) -> pa.Table:
        """Rows whose text columns equal the given values (one, or any of several), in no stated order."""
        return self.rows(self.state(name, at), columns, **equal)

    def rows(self, state: Snapshot, columns: list[str] | None = None, /, **equal: str | Collection[str]) -> pa.Table:
        """As `read`, of one state. Partitions and attempts choose files before any is looked at.

        Raises:
            StoreFormatError: a file is damaged, or missing.
        """
        wanted = {c: pa.array([v] if isinstance(v, str) else list(v), pa.string()) for c, v in equal.items()}
        files = state.of(**wanted)
        schema = state.layout.schema if columns is None else pa.schema([state.layout.schema.field(c) for c in columns])
        return self._rows_of(state, files, schema, wanted)

    def _rows_of(
        self,
        state: Snapshot,
        files: pa.Table,
        schema: pa.Schema | None = None,
        wanted: Mapping[str, pa.Array] | None = None,
    ) -> pa.Table:
        """The rows of some of a state's files: these columns, and those that have the wanted values."""
        shown = state.layout.schema if schema is None else schema
        wanted = wanted or {}
        if not len(files):
            return shown.empty_table()
        if (pc.sum(files["bytes"]).as_py() or 0) > _CHECKED:
            terms = [pc.field(column).isin(values) for column, values in wanted.items()]
            with reaching(self._root.url), datafiles.reading(f"Table {state.table} of {self._root.url}"):
                source, where = self.dataset(state, files), datafiles.either(terms)
                scan = partial(source.to_table, columns=shown.names, filter=where)
                return patiently(self._root.url, self.options, scan, size=pc.sum(files["bytes"]).as_py())
        read = [*dict.fromkeys([*shown.names, *wanted])]
        parts = [datafiles.matching(self._file(state, f, read), wanted) for f in files.to_pylist()]
        return pa.concat_tables(parts).select(shown.names)

    def alive(self, heads: Snapshot, columns: list[str] | None = None) -> pa.Table:
        """The rows of a head whose things are there, with their first names."""
        lives = self.lives(heads)
        if not lives.gone:
            return self.rows(heads, columns)
        thing, number = numbered(heads.table)
        wanted = list(columns or heads.layout.schema.names)
        rows = self.rows(heads, list(dict.fromkeys([*wanted, thing, number])))
        pairs = zip(rows[thing].to_pylist(), rows[number].to_pylist(), strict=True)
        return rows.filter(pa.array([lives.alive(*one) for one in pairs], pa.bool_())).select(wanted)

    def batches(self, name: str, columns: list[str], /, **equal: str) -> Iterator[pa.RecordBatch]:
        """As `read`, a few thousand rows at a time: memory stays that of some batches, and digests are not checked.

        Raises:
            StoreFormatError: a file is damaged, or missing.
        """
        state = self.state(name)
        files = state.of(**{column: pa.array([value]) for column, value in equal.items()})
        if not len(files):
            return
        terms = [pc.field(column) == value for column, value in equal.items()]
        with reaching(self._root.url), datafiles.reading(f"Table {name} of {self._root.url}"):
            yield from self.dataset(state, files).to_batches(
                columns=columns, filter=datafiles.either(terms), batch_size=_BATCH, batch_readahead=2,
                fragment_readahead=1,
            )  # fmt: skip

    def file_rows(self, name: str, path: str) -> pa.Table | None:
        """The rows of one file that was appended, checked; None where it was merged into another, or is gone."""
        return datafiles.read(self._root, name, Layout(TABLES[name].schema, ()), path, {})

    def dataset(self, state: Snapshot, files: pa.Table) -> pads.Dataset:
        """Some of a state's files, at least one, for Arrow and for whatever reads Arrow's datasets."""
        base = self._root.table_uri(state.table)
        paths = pa.array([f"{base}/{p}" for p in files["path"].to_pylist()], pa.string())
        there = files.set_column(files.column_names.index("path"), "path", paths)
        return dataset_of(self._root, base, state.layout.schema, list(state.layout.parts), there)

    def _file(self, state: Snapshot, file: Mapping[str, Any], columns: list[str]) -> pa.Table:
        values = {c: file[c] for c in state.layout.parts}
        rows = datafiles.read(self._root, state.table, state.layout, file["path"], values, columns)
        if rows is None:
            name = f"{self._root.table_uri(state.table)}/{file['path']}"
            raise StoreFormatError(damaged(name, "the table's log names it, and it is missing"))
        return rows

    def check_file(self, state: Snapshot, file: Mapping[str, Any]) -> None:
        """Read a data file whole.

        Raises:
            StoreFormatError: it is damaged, or missing.
        """
        self._file(state, file, state.layout.schema.names)

    def lives(self, heads: Snapshot) -> Lives:
        """What became of the things of a head table, in one state of it."""
        kept = self._lives.get(heads.table)
        if kept is None or kept[0] is not heads:
            rows = self._rows_of(heads, heads.life).to_pylist() if len(heads.life) else []
            kept = self._lives[heads.table] = (heads, Lives.told(heads.table, rows))
        return kept[1]

    def attempts(self, heads: Snapshot) -> set[str]:
        """The attempts that a state of a head table names, of things that are there."""
        last = self._named
        if last is None or last[0] is not heads:
            rows = self.alive(heads, ["attempt"])
            last = self._named = (heads, set(rows["attempt"].to_pylist()) - {None})
        return last[1]


def in_order(rows: pa.Table) -> pa.Table:
    """Rows of a head in the order of its log."""
    moment = "updated" if "updated" in rows.column_names else "created"
    placed = rows.set_column(rows.column_names.index(LOG), LOG, rows[LOG].fill_null(-1))
    return rows.take(pc.sort_indices(placed, [(LOG, "ascending"), (moment, "ascending")]))
