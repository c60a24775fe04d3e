"""Taking a removal back, as long as its files were not freed.

A removed thing is whole until `tamis gc` frees it, so that one more row says that it is there again. Two things forbid
it: files that are freed, and an answer that was computed anew meanwhile, which has the key now.
Cost: a few small reads and a commit.
"""

from functools import partial

from tamis.store.errors import NotFound, RestoreRefused
from tamis.store.keys import split_ref
from tamis.store.naming.series import row_of_key, series_of
from tamis.store.tables.heads import Barred
from tamis.store.tables.lives import RESTORED, Life, inside, place_of, without
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables, now, until_claimed

_KEYS = {"selections": "selection", "packages": "package"}


def restore(tables: Tables, table: str, ref: str) -> list[str]:
    """Take a removal back.

    Args:
        tables: the store's.
        table: the head table.
        ref: name@version, a name for all versions of it that can be restored, or a run's key.

    Returns:
        What is there again.

    Raises:
        NotFound: nothing of this name was removed.
        RestoreRefused: its files are freed, or its answer was computed anew.
    """
    step = partial(_run if table == "runs" else _versions, tables, table, ref)
    return until_claimed(step, f"Restoring {ref}")


def _versions(tables: Tables, table: str, ref: str) -> list[str] | None:
    name, version = split_ref(ref)
    series = series_of(tables, table, name)
    life = series.life
    gone = [n for n in range(1, series.newest + 1) if not life.alive(n) and version in (None, n)]
    if not gone:
        raise NotFound(f"{ref[:200]!r} names nothing in table {table} that was removed.")
    freed = [n for n in gone if inside(life.freed, n)]
    numbers = [n for n in gone if n not in freed]
    if not numbers:
        raise RestoreRefused(f"The files of {ref} were freed by `tamis gc`: make it again.")
    if table == "datasets":
        _check_last(tables, series.thing, series.newest, numbers, life)
    claims, heirs = _keys(tables, table, series.thing, numbers)
    left = Life(life.moves + 1, without(life.gone, numbers), life.freed, life.name)
    refs = [f"{series.called}@{n}" for n in numbers]
    row = left.to_row(table, series.thing, RESTORED, now(), what=refs, heirs=heirs)
    claims[f"moves/{series.thing}"] = left.moves
    free = {f"name/{series.thing}": series.newest + 1} if table == "datasets" else {}
    return refs if _published(tables, table, row, claims, free) else None


def _check_last(tables: Tables, thing: str, newest: int, numbers: list[int], life: Life) -> None:
    """Refuse versions of a dataset behind which another was published without them."""
    later = next((n for n in range(numbers[-1] + 1, newest + 1) if life.alive(n)), None)
    if later is not None:
        raise RestoreRefused(
            f"{thing}@{later} was published after {thing}@{numbers[-1]} was removed, with samples of the same "
            "numbers: append the shards again instead."
        )


def _keys(
    tables: Tables, table: str, thing: str, numbers: list[int]
) -> tuple[dict[str, int], dict[str, tuple[str, int, int]]]:
    """The keys that lead to what is restored again."""
    column = _KEYS.get(table)
    heirs: dict[str, tuple[str, int, int]] = {}
    for number in numbers if column else ():
        row = _row(tables, table, thing, number)
        key = str(row[column or ""])
        there, claimed = row_of_key(tables, table, key)
        if there is not None and there.get("attempt") != row.get("attempt"):
            raise RestoreRefused(
                f"{thing}@{number} was computed anew as {there['name']}@{there['version']}: use that one."
            )
        if there is None:
            heirs.setdefault(key, (thing, number, claimed + 1))
    return {f"key/{key}": heir[2] for key, heir in heirs.items()}, heirs


def _row(tables: Tables, table: str, thing: str, number: int) -> Row:
    said = tables.found(table, f"name/{thing}", number)
    assert said is not None
    return said.rows[0]


def _run(tables: Tables, table: str, key: str) -> list[str] | None:
    life = tables.life(table, key)
    event = tables.claimed(table, f"run/{key}")
    said = tables.found(table, f"run/{key}", event) if event else None
    if said is None or not life.gone:
        raise NotFound(f"{key[:200]!r} is no run that was removed.")
    if life.alive(place_of(said.rows[0])):
        raise RestoreRefused(f"Run {key[:12]} was begun anew since it was removed: use that one.")
    if life.gone[-1] in life.freed:
        raise RestoreRefused(f"The files of run {key[:12]} were freed by `tamis gc`: run it again.")
    left = Life(life.moves + 1, life.gone[:-1], life.freed, life.name)
    row = left.to_row(table, key, RESTORED, now(), what=[key])
    claims = {f"moves/{key}": left.moves}
    return [key] if _published(tables, table, row, claims, {f"run/{key}": event + 1}) else None


def _published(tables: Tables, table: str, row: Row, claims: dict[str, int], unless: dict[str, int]) -> bool:
    try:
        return tables.publish(table, [row], claims, unless=unless)
    except Barred:
        return False
