"""What became of things after they were published: removed, restored, called something else.

What: nothing that was published is changed. A row of the same head table, in a file of its own (`life.<version>-...`),
says what became of a thing; the newest says all of it, so that one row is read however much happened. The order of the
log decides, as between versions: a state of the table from before the row shows the thing as it was.
How: rows about one thing are numbered, `moves/<thing>` = 1, 2, ..., and each number is claimed once: of two who change
the same thing at once one looks again. The row has the thing in one text column and JSON in another (`COLUMNS`), and is
null otherwise: it has no version, or no status.

What is needed may not go. Whoever publishes something that needs a thing, and whoever removes the thing, write to two
logs; who comes second must notice the other. So a remover first puts a *bar* for the thing into the log of every table
that may need it, then looks whether anything needs it, then removes it. A publisher whose commit would come behind a
bar that it does not know looks what came of it: the thing is gone, or was kept, or that is open. Then the publisher
decides it: bar and removal have the same number, `fate/<thing>`, which is claimed once, by the removal or by a row that
says that the thing was kept. So nobody waits for anybody, and a remover that was killed is in nobody's way.

Cost: publishing asks for one more file for each thing that it needs, a lookup by name for one more.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tamis.store.tables.log import Row
from tamis.store.tables.specs import LOG

# Of each table whose things may go: the column that names a thing, and the one that has the JSON.
COLUMNS = {
    "datasets": ("dataset", "label"),
    "runs": ("run", "metrics"),
    "selections": ("name", "stats"),
    "packages": ("name", "lineage"),
}
# Which tables have rows that may need things of a table.
NEEDED_BY = {
    "datasets": ("datasets", "runs", "selections", "packages"),
    "runs": ("runs", "selections"),
    "selections": ("runs", "packages"),
    "packages": ("runs",),
}
REMOVED, RESTORED, RENAMED, KEPT, FREED = "removed", "restored", "renamed", "kept", "freed"

Span = tuple[int, int]
Spans = tuple[Span, ...]


@dataclass(frozen=True)
class Need:
    """Something that a publication cannot do without.

    Attributes:
        table: the head table that it is in.
        thing: what bars and fates call it: a dataset's name, the key of a run or selection, a package's name.
        version: of a dataset or package; 0 for others.
    """

    table: str
    thing: str
    version: int = 0


@dataclass(frozen=True)
class Life:
    """What became of one thing: of the versions of a name, or of a run's events by their place in the log.

    Attributes:
        moves: how many rows say something of it.
        gone: first and last of those that were removed, an entry for each removal.
        freed: those of them whose files may be gone too.
        name: what it is called now; None where it has its first name.
    """

    moves: int = 0
    gone: Spans = ()
    freed: Spans = ()
    name: str | None = None

    def alive(self, number: int) -> bool:
        """Whether a version is there."""
        return not inside(self.gone, number)

    @property
    def number(self) -> int:
        """Of a run, how many times it was begun anew after a removal, and one: claims of its end have this number."""
        return len(self.gone) + 1

    def to_row(self, table: str, thing: str, action: str, when: Any, **more: Any) -> dict[str, Any]:
        """The row that says so.

        Args:
            table: the head table.
            thing: a name, or a run's key.
            action: what was done.
            when: the moment.
            more: what else the row says: `fates`, `heirs`.
        """
        column, said = COLUMNS[table]
        moment = "updated" if table == "runs" else "created"
        state = {"gone": self.gone, "freed": self.freed, "name": self.name, "move": self.moves}
        text = json.dumps({"action": action, **state, **more}, separators=(",", ":"))
        return {column: thing, said: text, moment: when}


@dataclass(frozen=True)
class Lives:
    """What became of the things of a head table, in one state of it."""

    of: Mapping[str, Life] = field(default_factory=dict[str, Life])

    def alive(self, thing: str, number: int | None) -> bool:
        """Whether a version of a thing is there; rows of old have no place in the log, which counts as 0."""
        life = self.of.get(thing)
        return life is None or life.alive(number or 0)

    def called(self, thing: str) -> str:
        """What a thing is called."""
        life = self.of.get(thing)
        return thing if life is None or life.name is None else life.name

    @property
    def gone(self) -> list[tuple[str, int, int]]:
        """What was removed: thing, first and last."""
        return [(thing, low, high) for thing, life in self.of.items() for low, high in life.gone]

    @property
    def renamed(self) -> dict[str, str]:
        """What things are called that have another name than at first."""
        return {thing: life.name for thing, life in self.of.items() if life.name is not None}

    @classmethod
    def told(cls, table: str, rows: Iterable[Row]) -> "Lives":
        """From the rows that say what became of things, in any order."""
        found: dict[str, Life] = {}
        for row in rows:
            thing, life = thing_of(table, row), life_of(table, row)
            if thing and life.moves > found.get(thing, Life()).moves:
                found[thing] = life
        return cls(found)


def numbered(table: str) -> tuple[str, str]:
    """The columns of a head that say which thing a row is of, and by which number it is told from others of it."""
    return COLUMNS[table][0], LOG if table == "runs" else "version"


def is_life(table: str, row: Row) -> bool:
    """Whether a row of a head publishes nothing, and says what became of things."""
    return table in COLUMNS and row.get("status" if table == "runs" else "version") is None


def thing_of(table: str, row: Row) -> str:
    """The thing that a row is about; "" for one that says of none what became of it."""
    return str(row.get(COLUMNS[table][0]) or "")


def said_of(table: str, row: Row) -> dict[str, Any]:
    """All that a row says of what became of a thing."""
    return json.loads(row[COLUMNS[table][1]])


def life_of(table: str, row: Row) -> Life:
    """What became of a thing by a row."""
    said = said_of(table, row)
    return Life(said["move"], _spans(said["gone"]), _spans(said["freed"]), said["name"])


def claims_of_life(table: str, row: Row) -> dict[str, int]:
    """By which claims such a row is found."""
    said, thing = said_of(table, row), thing_of(table, row)
    claims = {f"fate/{one}": number for one, number in said.get("fates", {}).items()}
    claims |= {f"key/{key}": heir[2] for key, heir in said.get("heirs", {}).items()}
    if thing:
        claims[f"moves/{thing}"] = said["move"]
    if said["action"] == RENAMED and said.get("claimed"):
        claims[f"label/{said['name']}"] = 1
    return claims


def inside(spans: Spans, number: int) -> bool:
    """Whether a number is in one of some spans."""
    return any(low <= number <= high for low, high in spans)


def spans_of(numbers: Iterable[int]) -> Spans:
    """Numbers as spans: 1, 2, 3, 7 -> (1, 3), (7, 7)."""
    found: list[Span] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def without(spans: Spans, numbers: Iterable[int]) -> Spans:
    """Spans less some numbers."""
    taken = set(numbers)
    return spans_of(n for low, high in spans for n in range(low, high + 1) if n not in taken)


def place_of(row: Row) -> int:
    """A row's place in the log, 0 for rows of earlier versions, which have none."""
    return int(row.get(LOG) or 0)


def _spans(said: Iterable[Iterable[int]]) -> Spans:
    return tuple((int(low), int(high)) for low, high in said)
