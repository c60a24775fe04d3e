"""Removing: a row says that something is gone, and nothing is deleted; `tamis gc` frees its files in time.

How: see `tamis.store.tables.lives`. Bars go into the logs of all tables that may need the thing, then whatever needs it
is looked for, then the row is published: if nobody decided otherwise meanwhile, and nothing of the thing was published
since it was looked at.
Cost: reading the heads; a commit for each table that may need the thing, and one.
"""

from collections.abc import Sequence
from functools import partial

from tamis.store.errors import StillNeeded
from tamis.store.lifecycle.going import Going, Removal, going, payload
from tamis.store.lifecycle.needing import needed_by
from tamis.store.naming.needs import keep
from tamis.store.tables.lives import NEEDED_BY, REMOVED, Life, is_life, spans_of
from tamis.store.tables.log import Commit
from tamis.store.tables.specs import TABLES
from tamis.store.tables.tables import Tables, now, until_claimed

_SHOWN = 10  # of what needs a thing, so many are named in an error


def plan(tables: Tables, table: str, ref: str) -> Removal | None:
    """What removing something would take, and what needs it; None where there is no such thing.

    Args:
        tables: the store's.
        table: the head table.
        ref: name@version, a name for all its versions, a key, or a run's key.
    """
    what = going(tables, table, ref)
    return None if what is None else said_of(tables, what, ref)


def remove(tables: Tables, table: str, ref: str) -> Removal | None:
    """Remove something; None where there is no such thing.

    Args:
        tables: the store's.
        table: the head table.
        ref: as of `plan`.

    Raises:
        StillNeeded: naming what needs it.
    """
    first = plan(tables, table, ref)
    if first is not None:
        until_claimed(partial(_removed, tables, table, ref), f"Removing {ref}")
    return first


def said_of(tables: Tables, what: Going, ref: str) -> Removal:
    """What a removal takes, for people."""
    own, shared = payload(tables, what)
    undo = f"tamis {what.table.removesuffix('s')} restore {what.called if '@' not in ref else ref}"
    size = sum(file["bytes"] for _, file in own)
    return Removal(tuple(what.refs), tuple(needed_by(tables, what)), len(own), size, shared, undo)


def _removed(tables: Tables, table: str, ref: str) -> bool | None:
    what = going(tables, table, ref)
    return True if what is None else go(tables, what)


def go(tables: Tables, what: Going) -> bool | None:
    """Remove what was looked at; None where something came between, and it must be looked at anew.

    Raises:
        StillNeeded: naming what needs it.
    """
    _refuse(what, needed_by(tables, what))
    fates = {one: tables.claimed(what.table, f"fate/{one}") + 1 for one in what.subjects}
    bars = {f"bar/{what.table}/{one}": number for one, number in fates.items()}
    _bar(tables, what.table, bars)
    needed = needed_by(tables, what)
    if needed:
        for one, number in fates.items():
            keep(tables, what.table, [one], number)
        _refuse(what, needed)
    if any(tables.found(other, *bar) is None for other in NEEDED_BY[what.table] for bar in bars.items()):
        return None  # an index was made again since
    life = tables.life(what.table, what.thing)
    heirs = {key: _heir(tables, what.table, key, row) for key, row in what.heirs.items() if _leads(tables, what, key)}
    more = {"parts": _parts(tables)} if what.table == "runs" else {}
    gone = _gone(what, life)
    row = gone.to_row(what.table, what.thing, REMOVED, now(), what=what.refs, fates=fates, heirs=heirs, **more)
    claims = {f"moves/{what.thing}": life.moves + 1, **{f"fate/{one}": number for one, number in fates.items()}}
    claims |= {f"key/{key}": heir[2] for key, heir in heirs.items()}
    done = tables.publish(what.table, [row], claims, good=partial(_same, what), since=what.state.version)
    return done or None


def _gone(what: Going, life: Life) -> Life:
    """What became of the thing once this is gone."""
    if what.table == "runs":
        spans = (*life.gone, (min(what.numbers), max(what.numbers)))
    else:
        spans = spans_of([n for low, high in life.gone for n in range(low, high + 1)] + what.numbers)
    return Life(life.moves + 1, spans, life.freed, life.name)


def _parts(tables: Tables) -> dict[str, int]:
    """How far the tables are that runs write part by part: what they have of a removed run goes if it is begun anew."""
    return {name: tables.state(name).version for name, spec in TABLES.items() if spec.by_parts}


def _bar(tables: Tables, table: str, bars: dict[str, int]) -> None:
    """Put bars where publications may need the thing, but for those that are there."""
    for other in NEEDED_BY[table]:
        while missing := {what: n for what, n in bars.items() if tables.found(other, what, n) is None}:
            tables.publish(other, [], missing)


def _leads(tables: Tables, what: Going, key: str) -> bool:
    """Whether a key leads to what goes."""
    newest = tables.claimed(what.table, f"key/{key}")
    said = tables.found(what.table, f"key/{key}", newest)
    if said is None or is_life(what.table, said.rows[0]):
        return True
    return said.rows[0]["name"] == what.thing and said.rows[0]["version"] in what.numbers


def _heir(tables: Tables, table: str, key: str, row: dict[str, object]) -> tuple[object, object, int]:
    return row["name"], row["version"], tables.claimed(table, f"key/{key}") + 1


def _same(what: Going, commits: Sequence[Commit]) -> bool:
    """Whether nothing of what goes was published behind the state that it was told from."""
    rows = (row for commit in commits if commit.published is not None for row in commit.published.rows)
    return not any(what.touched(row) for row in rows)


def _refuse(what: Going, needed: Sequence[str]) -> None:
    if not needed:
        return
    more = f"; and {len(needed) - _SHOWN} more" if len(needed) > _SHOWN else ""
    raise StillNeeded(
        f"{what.table.removesuffix('s').capitalize()} {', '.join(what.refs)[:200]} is needed: "
        f"{'; '.join(needed[:_SHOWN])}{more}. Nothing was removed: remove those first."
    )
