"""Rules by which things are removed: so many versions of a name stay, and whatever is young, and whatever is needed.

What is removed by a rule is removed as by hand (`tamis.store.lifecycle`): it can be restored until its files are freed,
and nothing goes that something else needs. The newest version of a name always stays.
Cost: reading the heads; a few commits for each name of which something goes.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamis.store.errors import StillNeeded
from tamis.store.lifecycle.going import Going, chosen, going, runs_alive
from tamis.store.lifecycle.needing import needed_by
from tamis.store.lifecycle.removing import go
from tamis.store.run import RUNNING
from tamis.store.tables.lives import numbered
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables, moment_of, now, until_claimed

if TYPE_CHECKING:
    from tamis.store.store import Store

TABLES = ("selections", "packages", "runs")  # in this order: what goes first needs what comes later
_TOGETHER = 50  # versions that are removed in one commit at most


@dataclass(frozen=True)
class Rule:
    """What goes.

    Attributes:
        versions: so many of each name stay at least; 1 or more.
        older: what is younger stays too.
    """

    versions: int = 1
    older: dt.timedelta = dt.timedelta(0)


@dataclass(frozen=True)
class Retired:
    """Something that a rule is about.

    Attributes:
        table: the head table.
        ref: name@version, or a run's key.
        needed_by: why it stays all the same; None where it goes.
    """

    table: str
    ref: str
    needed_by: str | None


def retire(
    store: "Store", rule: Rule, tables: Iterable[str] = ("selections",), *, dry_run: bool = False
) -> list[Retired]:
    """Remove what a rule says, but for what is needed.

    Args:
        store: an open store.
        rule: what goes.
        tables: of which; any of `TABLES`. Runs are alike, as versions of a name are, that are of one kind, dataset and
            model; a run that is under way stays.
        dry_run: only say what would go. What would be needed no more once something else is gone is not seen.

    Returns:
        What was removed, or would be, and what a rule is about and is needed.
    """
    found: list[Retired] = []
    for table in (one for one in TABLES if one in set(tables)):
        parts = _runs(store.tables, rule) if table == "runs" else _versions(store.tables, table, rule)
        for part in parts:
            found += _retired(store.tables, part, dry_run=dry_run)
    return found


def _versions(tables: Tables, table: str, rule: Rule) -> list[Going]:
    state = tables.state(table)
    rows = tables.alive(state).to_pylist()
    thing, _ = numbered(table)
    by_name: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["version"]):
        by_name.setdefault(row[thing], []).append(row)
    found: list[Going] = []
    for name, some in by_name.items():
        old = _old(some[: -max(rule.versions, 1)], rule, "created")
        found += [chosen(tables, table, name, part, rows, state) for part in _parts(old)]
    return found


def _runs(tables: Tables, rule: Rule) -> list[Going]:
    alike: dict[tuple[str, str, str], list[Row]] = {}
    for row in runs_alive(tables):
        if row["status"] != RUNNING:
            alike.setdefault((row["kind"], row["dataset"].partition("@")[0], row["model"] or ""), []).append(row)
    old = [row for some in alike.values() for row in _old(some[: -max(rule.versions, 1)], rule, "updated")]
    return [what for row in old if (what := going(tables, "runs", row["run"])) is not None]


def _old(rows: Sequence[Row], rule: Rule, column: str) -> list[Row]:
    moments = ((row, moment_of(row[column])) for row in rows)
    return [row for row, made in moments if made is not None and now() - made >= rule.older]


def _retired(tables: Tables, what: Going, *, dry_run: bool) -> list[Retired]:
    """Remove a part, or those of it that nothing needs."""
    needed = needed_by(tables, what)
    if needed and len(what.rows) > 1 and what.table != "runs":
        return [one for part in _each(tables, what) for one in _retired(tables, part, dry_run=dry_run)]
    if not needed and not dry_run:
        try:
            until_claimed(lambda: _gone(tables, what), f"Removing {what.refs[0]}")
        except StillNeeded as error:  # since a moment ago
            needed = [str(error)]
    return [Retired(what.table, ref, needed[0] if needed else None) for ref in what.refs]


def _parts(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[i : i + _TOGETHER] for i in range(0, len(rows), _TOGETHER)]


def _each(tables: Tables, what: Going) -> list[Going]:
    rows = tables.alive(what.state).to_pylist()
    return [chosen(tables, what.table, what.thing, [row], rows, what.state) for row in what.rows]


def _gone(tables: Tables, what: Going) -> bool | None:
    """Remove a part as the table is now."""
    state = tables.state(what.table)
    rows = tables.alive(state).to_pylist()
    thing, _ = numbered(what.table)
    mine = [r for r in rows if r[thing] == what.thing and (what.table == "runs" or r["version"] in what.numbers)]
    if not mine:
        return True
    if what.table == "runs":
        again = going(tables, "runs", what.thing)
        return True if again is None else go(tables, again)
    return go(tables, chosen(tables, what.table, what.thing, mine, rows, state))
