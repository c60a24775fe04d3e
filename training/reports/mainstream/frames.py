"""Figures of single tasks: what sharing costs in accuracy and saves in time, and what the sample rate decides.

What: throughput and accuracy against sharing (figure 5.4), recall against sample rate (5.6), false positive frequency
against sample rate (5.15).
How: n applications that all branch off at b run 1 / (stem(b) + n own(b)) times a second. Recall is the event model's;
where a package keeps its candidates' answers to held-out video, what these find at the same rate is beside it
(`tamis.training.reports.mainstream.replaying`). A look at no event is a false report if it completes X hits in a row:
with the hit rate h = fpr and the chain of the event model that is h (h + c (1 - h))^(X - 1) of all looks; of all
frames, this times the share of frames that are looked at.
Source: A. H. Jiang, thesis, figures 5.4, 5.6 and 5.15.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.training.mainstream.events.model import Events, event_scores
from tamis.training.mainstream.scheduling.workload import Option
from tamis.training.reports.mainstream.charts import Chart, Line, Panel, Progress
from tamis.training.reports.mainstream.replaying import Profiled
from tamis.training.reports.mainstream.tasks import Task, Tasks, own_of
from tamis.training.reports.mainstream.workloads import Settings

_TOGETHER = (1, 2, 3, 4, 8)  # applications
_POINTS = 40

Floats = NDArray[np.float64]


def by_sharing(tasks: Tasks, settings: Settings, progress: Progress) -> Chart:
    """Frames a second of applications that share a stem, and accuracy of tasks, by branchpoint (figure 5.4)."""
    rows = [row for task in tasks.tasks for row in _shared(task, tasks.bases[task.base])]
    lines = list[Line]()
    for base in tasks.bases:
        first = next(task for task in tasks.tasks if task.base == base)
        of = "" if len(tasks.bases) == 1 else f", {base[:8]}"
        mine = [row for row in rows if row["task"] == first.name]
        for n in _TOGETHER:
            name = f"{n} application{'s' * (n > 1)}{of}"
            lines.append(Line(name, tuple(float(r["branch"]) for r in mine), tuple(r[f"rate of {n}"] for r in mine)))
    rate = "frames a second" if tasks.unit == "s" else "frames a unit of time"
    accuracy = [_accuracy(task, rows) for task in tasks.tasks]
    across = "segments of the base model that are shared"
    panels = (
        Panel("throughput", across, rate, tuple(lines)),
        Panel("accuracy", across, "accuracy of frames", tuple(accuracy)),
    )
    progress(1, 1)
    return Chart("sharing", "5.4", "What sharing saves, and what it costs", panels, tuple(rows))


def by_rate(
    tasks: Tasks, settings: Settings, progress: Progress, profiled: Mapping[str, Profiled] | None = None
) -> Chart:
    """Recall of events against the sample rate, by the correlation of misses (figure 5.6).

    Args:
        tasks: each a panel, with its most accurate candidate.
        settings: rates; and the middle of its ranges for tasks that do not say what their events are like.
        progress: called with (done, in all).
        profiled: of tasks, by name, what the candidate finds in held-out video.
    """
    rates = np.geomspace(min(settings.slow + settings.rates), settings.rates[-1], _POINTS)
    panels, rows = list[Panel](), list[dict[str, Any]]()
    for number, task in enumerate(tasks.tasks):
        best, events = most_accurate(task), events_of(task, settings)
        cases = {
            "uncorrelated": 0.0,
            f"correlation {events.correlation:.2g}": events.correlation,
            "fully correlated": 1.0,
        }
        lines = list[Line]()
        for name, correlation in cases.items():
            alike = Events(events.average, events.minimum, events.frequency, correlation)
            recall = _by_average(alike, best, rates)
            lines.append(Line(name, _told(rates), _told(recall)))
            rows += [
                {"task": task.name, "line": name, "fps": f, "recall": r} for f, r in zip(rates, recall, strict=True)
            ]
        seen = (profiled or {}).get(task.name)
        if seen is not None:
            lines.append(Line(f"held-out video ({seen.events} events)", seen.fps, seen.recall, "dashed"))
            rows += [
                {"task": task.name, "line": "held-out video", "fps": f, "recall": r}
                for f, r in zip(seen.fps, seen.recall, strict=True)
            ]
        lines.append(Line("1 / length", (1 / events.average,), (), "limits"))
        title = f"{task.name}: tpr {best.tpr:.3g}, events of {events.average:.3g} s"
        panels.append(Panel(title, "frames a second", "recall", tuple(lines), log=True, shares=True))
        progress(number + 1, len(tasks.tasks))
    return Chart("rate", "5.6", "Recall by sample rate", tuple(panels), tuple(rows))


def by_false_positives(tasks: Tasks, settings: Settings, progress: Progress) -> Chart:
    """False positive frequency against the share of frames that are looked at, by votes (figure 5.15)."""
    stream = settings.rates[-1]
    rates = np.linspace(0, stream, _POINTS + 1)[1:]
    panels, rows = list[Panel](), list[dict[str, Any]]()
    for number, task in enumerate(tasks.tasks):
        best, events = most_accurate(task), events_of(task, settings)
        lines = list[Line]()
        for votes in settings.tried:
            share = rates / stream
            often = share * false_rate(best.fpr, events.correlation, votes)
            alarms = event_scores(events, best.tpr, best.fpr, rates, votes).false_alarms
            lines.append(Line(f"{votes}-voting", _told(share), _told(often)))
            rows += [
                {"task": task.name, "votes": votes, "sample rate": s, "frequency": o, "false alarms an hour": a}
                for s, o, a in zip(_told(share), _told(often), _told(alarms), strict=True)
            ]
        title = f"{task.name}: fpr {best.fpr:.3g}, correlation {events.correlation:.2g}"
        panels.append(Panel(title, "sample rate", "false positive frequency", tuple(lines)))
        progress(number + 1, len(tasks.tasks))
    return Chart("false-positives", "5.15", "False positives by sample rate", tuple(panels), tuple(rows))


def false_rate(fpr: float, correlation: float, votes: int) -> float:
    """Share of looks at no event that complete so many hits in a row, once the chain has forgotten how it began."""
    return fpr * (fpr + correlation * (1 - fpr)) ** (votes - 1)


def most_accurate(task: Task) -> Option:
    """The candidate of the best accuracy; of several, the one that shares most."""
    return max(task.options, key=lambda one: (one.accuracy, one.branch))


def events_of(task: Task, settings: Settings) -> Events:
    """A task's events; if they are not known, in the middle of the ranges."""
    if task.events is not None:
        return task.events
    length, share, alike = (
        (low + high) / 2 for low, high in (settings.lengths, settings.frequencies, settings.correlations)
    )
    return Events(length, length, share, alike)


def _by_average(events: Events, option: Option, rates: Floats) -> Floats:
    """Recall of events of the average length."""
    as_long = Events(events.average, events.average, events.frequency, events.correlation)
    return event_scores(as_long, option.tpr, option.fpr, rates).recall


def _shared(task: Task, segments: tuple[float, ...]) -> list[dict[str, Any]]:
    whole = sum(segments[: task.options[-1].branch]) + own_of(task.options[-1], segments)
    rows = list[dict[str, Any]]()
    for one in task.options:
        stem, own = sum(segments[: one.branch]), own_of(one, segments)
        row = {"task": task.name, "branch": one.branch, "branchpoint": one.name, "share": stem / whole}
        row |= {"accuracy": one.accuracy, "tpr": one.tpr, "fpr": one.fpr}
        rows.append(row | {f"rate of {n}": 1 / (stem + n * own) for n in _TOGETHER})
    return rows


def _accuracy(task: Task, rows: list[dict[str, Any]]) -> Line:
    mine = [row for row in rows if row["task"] == task.name]
    return Line(task.name, tuple(float(row["branch"]) for row in mine), tuple(row["accuracy"] for row in mine))


def _told(values: Floats) -> tuple[float, ...]:
    return tuple(map(float, values))
