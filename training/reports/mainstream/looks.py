"""Time lines of runs: every look of every application, hit or miss, and the events that were reported (figure 5.14).

What: `by_looks` draws rows that it is given; `looked` reads them from a store's tables `looks` and `events`, which
`tamis package run` writes. With a labelled dataset the spans of its events lie behind the marks.
Cost: the looks of the window in memory, at most `MOST` of them.
Source: A. H. Jiang, thesis, figure 5.14.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tamis.store import Store
from tamis.store.errors import QueryError
from tamis.training.errors import ReportError
from tamis.training.mainstream.trainer.timeline import pieces_of
from tamis.training.reports.mainstream.charts import Chart, Line, Panel, Style
from tamis.training.reports.mainstream.replaying import stretches

MOST = 200_000  # looks of a drawing
Span = tuple[float, float]


@dataclass(frozen=True)
class Looked:
    """What one run saw.

    Attributes:
        name: of the run, for people.
        looks: rows with application, seconds and hit.
        events: rows with application, reported, begins and ends.
        spans: of labelled events, seconds; by application, or of "" for all of them.
    """

    name: str
    looks: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]] = ()
    spans: Mapping[str, Sequence[Span]] = field(default_factory=dict[str, Sequence[Span]])


def by_looks(runs: Sequence[Looked], window: Span | None = None) -> Chart:
    """The time line of some runs, a row an application of each.

    Args:
        runs: one or more.
        window: seconds from and to; None for all.

    Raises:
        ReportError: there are no looks in it.
    """
    panels, rows = list[Panel](), list[dict[str, Any]]()
    for run in runs:
        looks = _within(run.looks, window, "seconds")
        names = sorted({row["application"] for row in looks})
        if not names:
            when = "" if window is None else f" from {window[0]:g} to {window[1]:g} s"
            raise ReportError(f"Run {run.name} has no looks{when}: record a run with `tamis package run`, or widen it.")
        reports = _within(run.events, window, "reported")
        lines = _lines(names, looks, reports, run.spans, window)
        panels.append(Panel(run.name, "seconds", "", lines, rows=tuple(names)))
        rows += [_row(run.name, name, looks, reports) for name in names]
    return Chart("timeline", "5.14", "Looks of each application", tuple(panels), tuple(rows))


def looked(store: Store, run: str, dataset: str | None = None, event: str | None = None) -> Looked:
    """What a run of a store saw.

    Args:
        store: the store.
        run: its key or the beginning of it.
        dataset: labelled frames whose events are drawn behind; name or name@version.
        event: name or number of the class that is the event; None for 1.

    Raises:
        RunNotFound, DatasetNotFound: there is no such run or dataset.
        ReportError: the run has no looks, too many, or the dataset no time line or no such class.
    """
    key = store.runs.get(run).key
    looks = _rows(store, "looks", "application, seconds, hit", "seconds", key)
    events = _rows(store, "events", "application, begins, ends, reported", "reported", key)
    spans = {} if dataset is None else {"": labelled(store, dataset, event)}
    return Looked(key[:12], looks, events, spans)


def labelled(store: Store, ref: str, event: str | None = None) -> list[Span]:
    """When the events of a labelled dataset begin and end, of all its cameras.

    Raises:
        ReportError: it has no time line, or no such class.
    """
    dataset = store.datasets.get(ref)
    frames = dataset.frames()
    if frames is None:
        raise ReportError(f"{dataset.ref} has no time line: expected frames of videos.")
    names = dataset.classes
    number = 1 if event is None else names.index(event) if event in names else int(event) if event.isdecimal() else None
    if number is None:
        raise ReportError(f"{dataset.ref} has no class {event!r}: expected one of {', '.join(names) or 'its numbers'}.")
    inside = dataset.labels() == number
    found = list[Span]()
    for piece in pieces_of(frames):
        seconds = frames.seconds_N[piece]
        step = float(np.median(np.diff(seconds)))
        found += [(float(seconds[a]), float(seconds[b - 1]) + step) for a, b in stretches(inside[piece])]
    return found


def _rows(store: Store, table: str, columns: str, order: str, run: str) -> list[dict[str, Any]]:
    try:
        found = store.query(f"select {columns} from {table} where run = ? order by {order} limit {MOST + 1}", [run])
    except QueryError as error:
        raise ReportError(f"This store has no table {table}: `tamis package run` of this version writes it.") from error
    if len(found) > MOST:
        raise ReportError(f"Run {run[:12]} has more than {MOST:,} {table}: too many for a time line.")
    return found.to_pylist()


def _within(rows: Sequence[Mapping[str, Any]], window: Span | None, when: str) -> list[Mapping[str, Any]]:
    known = [row for row in rows if row[when] is not None]
    return [row for row in known if window is None or window[0] <= row[when] <= window[1]]


def _lines(
    names: Sequence[str], looks: Sequence[Mapping[str, Any]], reports: Sequence[Mapping[str, Any]],
    spans: Mapping[str, Sequence[Span]], window: Span | None,
) -> tuple[Line, ...]:  # fmt: skip
    place = {name: float(i) for i, name in enumerate(names)}
    behind = [
        (a, b) for some in spans.values() for a, b in some if window is None or (b >= window[0] and a <= window[1])
    ]
    if window is not None:
        behind = [(max(a, window[0]), min(b, window[1])) for a, b in behind]
    lines = (
        [Line("labelled events", tuple(a for a, _ in behind), tuple(b for _, b in behind), "spans")] if behind else []
    )
    marks: tuple[tuple[str, Style, bool], ...] = (("miss", "misses", False), ("hit", "hits", True))
    for name, style, hit in marks:
        some = [row for row in looks if bool(row["hit"]) is hit]
        at = tuple(float(row["seconds"]) for row in some)
        lines.append(Line(name, at, tuple(place[row["application"]] for row in some), style))
    said = [row for row in reports if row["application"] in place]
    at = tuple(float(row["reported"]) for row in said)
    return (*lines, Line("reported", at, tuple(place[row["application"]] for row in said), "reports"))


def _row(
    run: str, name: str, looks: Sequence[Mapping[str, Any]], reports: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    mine = [row for row in looks if row["application"] == name]
    hits = sum(bool(row["hit"]) for row in mine)
    said = [row for row in reports if row["application"] == name]
    first = min((float(row["reported"]) for row in said), default=None)
    span = float(mine[-1]["seconds"]) - float(mine[0]["seconds"])
    rate = (len(mine) - 1) / span if span > 0 else None
    return {
        "run": run, "application": name, "looks": len(mine), "hits": hits, "misses": len(mine) - hits,
        "fps": rate, "reports": len(said), "first report": first,
    }  # fmt: skip
