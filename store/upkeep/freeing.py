"""Freeing what only removed things need, once their removal is older than the history that is kept.

How: first a row says that a thing's files may be gone (`freed`), which is claimed, so that nobody can restore it from
then on; then the files go. A file that holds rows of other things too is written anew without. A collection that is
killed in between is finished by the next one: what is freed stands in the tables.
Cost: for tables with removed things, reading which attempts their merged files hold.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from tamis.store.tables import datafiles
from tamis.store.tables.arrow import pc
from tamis.store.tables.lives import COLUMNS, FREED, Life, Span, inside, numbered, spans_of
from tamis.store.tables.log import Row
from tamis.store.tables.merging import rewritten
from tamis.store.tables.specs import LOG, TABLES
from tamis.store.tables.tables import now

if TYPE_CHECKING:
    from tamis.store.store import Store
    from tamis.store.tables.snapshot import Snapshot


@dataclass(frozen=True)
class Freed:
    """What is freed of a head table.

    Attributes:
        lives: what became of its things, with what is freed by this collection.
        attempts: whose payload may go.
        runs: of runs, the keys of those of which nothing is left.
    """

    lives: Mapping[str, Life]
    attempts: frozenset[str]
    runs: frozenset[str]


NOTHING = Freed({}, frozenset(), frozenset())


def free(store: "Store", table: str, begin: int | None, *, dry_run: bool) -> Freed:
    """Free what is gone, and was so when the history that is kept begins.

    Args:
        store: an open store.
        table: a head table.
        begin: the version of it with which that history begins; None where all of its history is younger.
        dry_run: only say what would be freed.
    """
    if table not in COLUMNS:
        return NOTHING
    state = store.tables.state(table)
    lives = dict(store.tables.lives(state).of) if len(state.life) else {}
    old = store.tables.lives(store.tables.state(table, {table: begin})).of if lives and begin is not None else {}
    for thing, life in lives.items():
        fresh = _fresh(table, life, old.get(thing, Life()))
        if fresh:
            made = Life(life.moves + 1, life.gone, (*life.freed, *fresh), life.name)
            if dry_run or _said(store, table, thing, made):
                lives[thing] = made
    return _freed(store, state, lives)


def _fresh(table: str, life: Life, before: Life) -> tuple[Span, ...]:
    """What is to be freed: gone now and then, and not freed yet."""
    if table == "runs":
        return tuple(span for span in life.gone if span in before.gone and span not in life.freed)
    numbers = [n for low, high in life.gone for n in range(low, high + 1)]
    return spans_of(n for n in numbers if inside(before.gone, n) and not inside(life.freed, n))


def _said(store: "Store", table: str, thing: str, made: Life) -> bool:
    row = made.to_row(table, thing, FREED, now())
    return store.tables.publish(table, [row], {f"moves/{thing}": made.moves})


def _freed(store: "Store", state: "Snapshot", lives: Mapping[str, Life]) -> Freed:
    if not any(life.freed for life in lives.values()):
        return Freed(lives, frozenset(), frozenset())
    thing, number = numbered(state.table)
    rows = store.tables.rows(state, [thing, number, "attempt"] if "attempt" in state.layout.schema.names else [thing])
    gone, kept = set[str](), set[str]()
    for row in rows.to_pylist():
        freed = inside(lives.get(row[thing], Life()).freed, row.get(number) or 0)
        (gone if freed else kept).add(str(row.get("attempt") or ""))
    over = _over(rows.to_pylist(), lives) if state.table == "runs" else frozenset[str]()
    return Freed(lives, frozenset(gone - kept - {""}), over)


def _over(rows: list[Row], lives: Mapping[str, Life]) -> frozenset[str]:
    """The runs of which every event is freed."""
    found: dict[str, bool] = {}
    for row in rows:
        life = lives.get(row["run"], Life())
        found[row["run"]] = found.get(row["run"], True) and inside(life.freed, row.get(LOG) or 0)
    return frozenset(run for run, over in found.items() if over)


def thinned(store: "Store", table: str, freed: Freed, moment: int) -> None:
    """Write merged files anew without the rows of freed attempts.

    Args:
        store: an open store.
        table: a payload table.
        freed: what is freed of its head.
        moment: now, ms since 1970.
    """
    if not freed.attempts or TABLES[table].head == "runs":
        return
    for file in _shared(store.tables.state(table)):
        rows = datafiles.read(store.root, table, store.tables.state(table).layout, file["path"], dict(file))
        if rows is None:
            continue
        mine = pc.is_in(rows["attempt"], value_set=pa.array(sorted(freed.attempts), pa.string()))
        if pc.any(mine, min_count=0).as_py():
            rewritten(store.root, store.tables.state(table), file, rows.filter(pc.invert(mine)), moment)


def _shared(state: "Snapshot") -> Iterator[Row]:
    if len(state.files):
        yield from state.files.filter(pc.is_valid(state.files["upto"])).to_pylist()
