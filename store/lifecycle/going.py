"""What is to be removed: which versions of which name, or which run, and what goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tamis.store.keys import KEY, split_ref
from tamis.store.naming.series import series_of
from tamis.store.run import newest_runs
from tamis.store.tables.arrow import pc
from tamis.store.tables.lives import numbered, place_of
from tamis.store.tables.log import Row
from tamis.store.tables.snapshot import Snapshot
from tamis.store.tables.specs import TABLES
from tamis.store.tables.tables import Tables

_KEYS = {"selections": "selection", "packages": "package"}


@dataclass(frozen=True)
class Going:
    """What is to be removed of one thing.

    Attributes:
        table: the head table.
        thing: first name of what goes, or a run's key.
        called: what it is called now.
        rows: what goes; of a run its events.
        state: the table as it was when that was told.
        heirs: of the keys that go, those that another name has too: that name's row.
    """

    table: str
    thing: str
    called: str
    rows: Sequence[Row]
    state: Snapshot
    heirs: dict[str, Row] = field(default_factory=dict[str, Row])

    @property
    def numbers(self) -> list[int]:
        """The versions; of a run, the places of its events in the log."""
        return [place_of(r) if self.table == "runs" else r["version"] for r in self.rows]

    @property
    def refs(self) -> list[str]:
        """What goes, as people say it."""
        return [self.thing] if self.table == "runs" else [f"{self.called}@{n}" for n in self.numbers]

    @property
    def said(self) -> set[str]:
        """How others may name what goes: by the name that it has, and by the one that it had first."""
        return {*self.refs, *(f"{self.thing}@{n}" for n in self.numbers)}

    @property
    def keys(self) -> list[str]:
        """The keys of selections or packages that go."""
        column = _KEYS.get(self.table)
        return [] if column is None else list(dict.fromkeys(str(row[column]) for row in self.rows))

    @property
    def lost(self) -> list[str]:
        """Those of them that no other name has."""
        return [key for key in self.keys if key not in self.heirs]

    @property
    def subjects(self) -> list[str]:
        """What bars and fates call it."""
        return self.keys if self.table == "selections" else [self.thing]

    @property
    def attempts(self) -> set[str]:
        """Those whose payload nobody else has."""
        kept = {row["attempt"] for row in self.heirs.values() if "attempt" in row}
        return {str(row["attempt"]) for row in self.rows if row.get("attempt")} - kept

    def touched(self, row: Row) -> bool:
        """Whether a row that was published meanwhile changes what goes."""
        thing, _ = numbered(self.table)
        key = row.get(_KEYS.get(self.table, ""))
        return row.get(thing) == self.thing or key in self.keys


@dataclass(frozen=True)
class Removal:
    """What a removal takes, or would take.

    Attributes:
        removes: name@version of each, or a run's key.
        needed_by: a sentence for everything that needs it; nothing is removed while there is one.
        files: that `tamis gc` frees when the removal has lasted long enough.
        bytes: their size.
        shared: files that also hold what stays, which are written anew without.
        undo: the command that takes it back until then.
    """

    removes: tuple[str, ...]
    needed_by: tuple[str, ...]
    files: int
    bytes: int
    shared: int
    undo: str


def going(tables: Tables, table: str, ref: str) -> Going | None:
    """What a reference means: a version, all versions of a name, whatever has a key, or a run; None for nothing."""
    return _run(tables, ref) if table == "runs" else _versions(tables, table, ref)


def _run(tables: Tables, key: str) -> Going | None:
    state = tables.state("runs")
    rows = tables.alive(state).filter(pc.field("run") == key).to_pylist()
    return Going("runs", key, key, rows, state) if rows else None


def _versions(tables: Tables, table: str, ref: str) -> Going | None:
    state = tables.state(table)
    rows = tables.alive(state).to_pylist()
    thing_column, _ = numbered(table)
    column = _KEYS.get(table, "")
    mine = [row for row in rows if KEY.fullmatch(ref) and row.get(column) == ref]
    if mine:
        names = {row[thing_column] for row in mine}
        mine = [row for row in mine if row[thing_column] == min(names)]
        thing = str(mine[0][thing_column])
    else:
        name, version = split_ref(ref)
        series = series_of(tables, table, name)
        thing = series.thing
        if version is None and series.called != name:
            return None  # a bare name that is one no more
        mine = [r for r in rows if r[thing_column] == thing and version in (None, r["version"])]
    return chosen(tables, table, thing, mine, rows, state) if mine else None


def chosen(tables: Tables, table: str, thing: str, mine: Sequence[Row], rows: Sequence[Row], state: Snapshot) -> Going:
    """Some rows of one thing, of all that there are, as what is to be removed."""
    thing_column, _ = numbered(table)
    column = _KEYS.get(table, "")
    own = {(row[thing_column], row["version"]) for row in mine}
    keys = {row[column] for row in mine} if column else set[str]()
    heirs: dict[str, Row] = {}
    for row in rows:
        if column and row[column] in keys and (row[thing_column], row["version"]) not in own:
            heirs.setdefault(row[column], row)
    ordered = sorted(mine, key=lambda row: row["version"])
    return Going(table, thing, tables.lives(state).called(thing), ordered, state, heirs)


def payload(tables: Tables, what: Going) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """The files that nobody else needs, (table, file), and the number of those that hold also what stays."""
    own: list[tuple[str, dict[str, Any]]] = []
    shared = 0
    for name, spec in TABLES.items():
        if spec.head != what.table:
            continue
        files = tables.state(name).files
        if not len(files):
            continue
        if what.table == "runs":
            own += [(name, f) for f in files.filter(pc.equal(files["run"], what.thing)).to_pylist()]
            continue
        mine = pc.is_in(files["attempt"], value_set=pa.array(sorted(what.attempts), pa.string()))
        own += [(name, f) for f in files.filter(mine).to_pylist()]
        shared += pc.sum(pc.is_valid(files["upto"])).as_py() or 0 if what.attempts else 0
    return own, shared


def runs_alive(tables: Tables) -> list[Row]:
    """The newest event of every run that is there."""
    return newest_runs(tables.alive(tables.state("runs")))
