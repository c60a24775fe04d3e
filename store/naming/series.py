"""The versions of a name, and the row that a key leads to, with what became of them since they were published.

Cost: a few small reads, however many versions there are and whatever became of them.
"""

from dataclasses import dataclass

from tamis.store.keys import NAME
from tamis.store.tables.lives import Life, is_life, said_of, thing_of
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables


@dataclass(frozen=True)
class Series:
    """The versions of one name.

    Attributes:
        thing: their first name, which their rows have.
        newest: the last version that was published, 0 for none.
        life: what became of them.
    """

    thing: str
    newest: int
    life: Life

    @property
    def called(self) -> str:
        """What they are called now."""
        return self.life.name or self.thing

    @property
    def last(self) -> int:
        """The newest version that is there; 0 for none."""
        return next((v for v in range(self.newest, 0, -1) if self.life.alive(v)), 0)


def series_of(tables: Tables, table: str, name: str) -> Series:
    """The versions of a name, or of what was given that name, or had it once."""
    if not NAME.fullmatch(name):
        return Series(name, 0, Life())
    newest, life = tables.last_of(table, name)
    if not newest and (said := tables.found(table, f"label/{name}", 1)) is not None:
        thing = thing_of(table, said.rows[0])
        return Series(thing, *tables.last_of(table, thing))
    return Series(name, newest, life)


def row_of_key(tables: Tables, table: str, key: str) -> tuple[Row | None, int]:
    """The row that a key leads to, if that is there, and how often the key was claimed."""
    return _row_of(tables, table, f"key/{key}", key)


def further_of(tables: Tables, table: str, key: str, thing: str) -> tuple[Row | None, int]:
    """As `row_of_key`, of a further name that has the key."""
    return _row_of(tables, table, f"named/{thing}/{key}", key)


def _row_of(tables: Tables, table: str, what: str, key: str) -> tuple[Row | None, int]:
    first = tables.found(table, what, 1)
    if first is None:
        return None, 0
    row = first.rows[0]
    claimed, moves = tables.claimed_of(table, what, f"moves/{thing_of(table, row)}")
    if claimed == 1 and not moves:
        return row, 1
    newest = tables.found(table, what, claimed)
    row = row if newest is None else newest.rows[0]
    if is_life(table, row):  # the name that had the key was removed, and another has it still
        name, version, _ = said_of(table, row)["heirs"][key]
        said = tables.found(table, f"name/{name}", version)
        if said is None:
            return None, claimed
        row = said.rows[0]
    alive = tables.life(table, thing_of(table, row)).alive(row["version"])
    return (row if alive else None), claimed
