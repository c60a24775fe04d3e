"""Publishing what needs other things: it is published only while they are there.

How: `tamis.store.tables.lives` says what bars and fates are. A publication whose log has no bar for what it needs goes
through, and whoever removes one of those afterwards sees it. Behind a bar it is looked what became of the thing; where
that is open, it is decided here that the thing is kept.
Cost: one file that is not there is asked for, for each need.
"""

from collections.abc import Mapping, Sequence

from tamis.store.errors import DatasetNotFound, NotFound, PackageNotFound, RunNotFound, SelectionNotFound
from tamis.store.naming.series import row_of_key
from tamis.store.tables.heads import Barred
from tamis.store.tables.lives import KEPT, Life, Need, place_of
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables, now

_ABSENT: dict[str, type[NotFound]] = {
    "datasets": DatasetNotFound, "runs": RunNotFound, "selections": SelectionNotFound, "packages": PackageNotFound,
}  # fmt: skip


def publish_needing(
    tables: Tables,
    table: str,
    rows: Sequence[Row],
    claims: Mapping[str, int],
    needs: Sequence[Need],
    unless: Mapping[str, int] | None = None,
) -> bool:
    """Publish rows of a head, if nobody has any of the claims and all that they need is there.

    Args:
        tables: the store's.
        table: the head table.
        rows: to publish.
        claims: what is claimed with them.
        needs: what must be there. Of things that the store never had nothing is asked.
        unless: claims that nobody may have.

    Raises:
        NotFound: something that is needed was removed.
        Barred: somebody has one of `unless`.
    """
    known = {f"bar/{need.table}/{need.thing}": (need, 0) for need in needs}
    while True:
        bars = {what: fate + 1 for what, (_, fate) in known.items()}
        try:
            return tables.publish(table, rows, claims, unless={**(unless or {}), **bars})
        except Barred as bar:
            if bar.what not in known:
                raise
            need = known[bar.what][0]
            known[bar.what] = need, settled(tables, need, bars[bar.what])


def settled(tables: Tables, need: Need, number: int) -> int:
    """What became of a thing that there is a bar for: the number of its last fate, if it was kept.

    Raises:
        NotFound: it was removed.
    """
    while (fate := tables.claimed(need.table, f"fate/{need.thing}")) < number:
        keep(tables, need.table, [need.thing], number)
    if not is_there(tables, need):
        what = f"{need.thing}@{need.version}" if need.version else need.thing
        word = need.table.removesuffix("s")
        raise _ABSENT[need.table](
            f"{word.capitalize()} {what} was removed meanwhile, and what was to be published needs it. Undo that with "
            f"`tamis {word} restore {what}`, or ask again for something else."
        )
    return fate


def keep(tables: Tables, table: str, things: Sequence[str], number: int) -> None:
    """Decide that things stay, whatever somebody was about to do; nothing, where that is decided already."""
    for thing in things:
        row = Life().to_row(table, "", KEPT, now(), fates={thing: number})
        tables.publish(table, [row], {f"fate/{thing}": number})


def is_there(tables: Tables, need: Need) -> bool:
    """Whether a thing that was published is there still."""
    if need.table == "runs":
        event = tables.claimed("runs", f"run/{need.thing}")
        said = tables.found("runs", f"run/{need.thing}", event) if event else None
        return said is not None and tables.life("runs", need.thing).alive(place_of(said.rows[0]))
    if need.table == "selections":
        return row_of_key(tables, "selections", need.thing)[0] is not None
    return tables.life(need.table, need.thing).alive(need.version)
