"""How a run stands: its last event, and what became of it; and what is left of one that was removed.

A run that was removed may be begun anew: its key is that of the question. Claims that are made once in the life of a
run (its end, its scores) are numbered by how often it was removed. What a removed run wrote part by part (losses) goes
when it is begun anew.
Cost: a few small reads.
"""

from dataclasses import dataclass

from tamis.store.keys import KEY
from tamis.store.run import Run
from tamis.store.tables.lives import Life, Need, place_of, said_of
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables


@dataclass(frozen=True)
class Last:
    """The last event of a run.

    Attributes:
        events: how many it has had.
        life: what became of it.
        row: the event; None where there is none, or the run was removed since.
    """

    events: int
    life: Life
    row: Row | None


def last_of(tables: Tables, key: str) -> Last:
    """The last event of a run."""
    events, life = tables.last_of("runs", key, "run")
    said = tables.found("runs", f"run/{key}", events) if events else None
    there = said is not None and life.alive(place_of(said.rows[0]))
    return Last(events, life, said.rows[0] if said is not None and there else None)


def needs_of(run: Run) -> list[Need]:
    """What a run cannot do without."""
    name, _, version = run.dataset.partition("@")
    needs = [Need("datasets", name, int(version) if version.isdigit() else 0)]
    if run.selection is not None and KEY.fullmatch(run.selection):
        needs.append(Need("selections", run.selection))
    return needs


def drop_parts(tables: Tables, key: str) -> None:
    """Remove what a removed run wrote part by part; what was written since it was removed stays."""
    moves = tables.claimed("runs", f"moves/{key}")
    said = tables.found("runs", f"moves/{key}", moves)
    for table, version in said_of("runs", said.rows[0]).get("parts", {}).items() if said is not None else ():
        tables.drop_run(table, key, version)
