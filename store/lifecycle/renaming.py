"""Calling a name's versions something else. Their rows keep the first name; a row says what they are called now.

Old references with a version lead to the same version for ever, so nothing that was written down breaks; the bare old
name says what it was renamed to. A name that was used once is never another's.
Cost: a few small reads and a commit, however many versions there are.
"""

from functools import partial

from tamis.store.errors import InvalidName, NotFound
from tamis.store.keys import check_name
from tamis.store.naming.series import Series, series_of
from tamis.store.tables.heads import Barred
from tamis.store.tables.lives import RENAMED, Life
from tamis.store.tables.tables import Tables, now, until_claimed


def rename(tables: Tables, table: str, old: str, new: str) -> Series:
    """Rename all versions of a name.

    Args:
        tables: the store's.
        table: the head table.
        old: the name that they have.
        new: one that nothing in this table ever had, or that these versions had before.

    Raises:
        NotFound: there is no such name.
        InvalidName: the old one has a version, or the new one is none, or another's.
    """
    if "@" in old:
        raise InvalidName(f"{old[:200]!r}: versions keep their numbers, so leave out '@' and what follows.")
    check_name(new, table.removesuffix("s"))
    until_claimed(partial(_renamed, tables, table, old, new), f"Renaming {old}")
    return series_of(tables, table, new)


def _renamed(tables: Tables, table: str, old: str, new: str) -> bool | None:
    series, taken = series_of(tables, table, old), series_of(tables, table, new)
    word = table.removesuffix("s")
    if series.called == new and taken.thing == series.thing and series.newest:
        return True
    if not series.last or series.called != old:
        hint = f": it was renamed to {series.called!r}" if series.newest and series.called != old else ""
        raise NotFound(f"No {word} {old[:200]!r}{hint}.")
    mine = taken.thing == series.thing
    if taken.newest and not mine:
        raise InvalidName(f"{new!r} is, or was, the name of another {word}: use a name that none has had.")
    life = series.life
    made = Life(life.moves + 1, life.gone, life.freed, None if new == series.thing else new)
    row = made.to_row(table, series.thing, RENAMED, now(), what=[old], claimed=not mine)
    claims = {f"moves/{series.thing}": made.moves} | ({} if mine else {f"label/{new}": 1})
    try:
        return tables.publish(table, [row], claims, unless={} if mine else {f"name/{new}": 1}) or None
    except Barred:
        return None
