"""F1 of the events that a run found, against labels of the same video.

What: `Labels` are the stretches of time that are labelled, with and without the event; `judge_events` counts.
How: as the event model does (`tamis.training.mainstream.events.model`). An event is found if one that was reported
overlaps it. A reported event that overlaps none is false, and all of one gap count once: precision is events found over
events found and gaps with a false event. What overlaps nothing that is labelled counts neither way.
Labels are a dataset's with a time line, smoothed as those of the package were, or intervals in a CSV file with the
columns application, begins and ends (seconds), between which all is gap.
Cost: a sort of the labels.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.packages import Package
from tamis.training.errors import RunnerError
from tamis.training.mainstream.events.measuring import Labelled, smooth, spans
from tamis.training.mainstream.trainer.timeline import pieces_of

_COLUMNS = ("application", "begins", "ends")
_MOST = 16 << 20  # bytes of a file of intervals


class Stretch(NamedTuple):
    """Time that is labelled.

    Attributes:
        begins, ends: seconds on the source's clock.
        event: whether it is one.
    """

    begins: float
    ends: float
    event: bool


class Found(NamedTuple):
    """An event that was reported.

    Attributes:
        begins, ends: seconds of its first and its last hit.
    """

    begins: float
    ends: float


@dataclass(frozen=True)
class Verdict:
    """One application against labels.

    Attributes:
        events: labelled ones.
        found: of those.
        gaps: labelled stretches without the event.
        false: gaps in which an event was reported that is none.
        recall, precision, f1: of events; 0 where nothing was reported.
    """

    events: int
    found: int
    gaps: int
    false: int

    @property
    def recall(self) -> float:
        """Share of the events that were found."""
        return self.found / self.events if self.events else 0.0

    @property
    def precision(self) -> float:
        """Events found over those and gaps with a false one."""
        return self.found / (self.found + self.false) if self.found else 0.0

    @property
    def f1(self) -> float:
        """Of recall and precision."""
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0


def judge_events(stretches: Sequence[Stretch], found: Sequence[Found], until: float = math.inf) -> Verdict:
    """Hold reported events against labels.

    Args:
        stretches: of the labels.
        found: reported events, in any order.
        until: seconds at which the run ended; what begins later counts neither way.
    """
    seen = [one for one in stretches if one.begins <= until]
    events, gaps = [one for one in seen if one.event], [one for one in seen if not one.event]
    true = [one for one in events if any(_overlap(one, each) for each in found)]
    wrong = [each for each in found if not any(_overlap(one, each) for one in events)]
    false = [one for one in gaps if any(_overlap(one, each) for each in wrong)]
    return Verdict(len(events), len(true), len(gaps), len(false))


def labels_of(store: Store, text: str, source: str, applications: Sequence[tuple[str, Package]]) -> "Labels":
    """Labels by name.

    Args:
        store: with the dataset.
        text: a dataset's "name" or "name@version", or the path of a CSV file.
        source: the source's name: of a dataset of several videos, the video.
        applications: with their packages.

    Raises:
        RunnerError: an application has no labels, no event, or the labels are no intervals.
        DatasetNotFound: there is none.
    """
    if text.endswith(".csv"):
        every = _intervals(Path(text))
        return Labels("", {name: _with_gaps(name, text, every.get(name, [])) for name, _ in applications})
    dataset = store.datasets.get(text)
    return Labels(dataset.ref, {name: _labelled(dataset, source, package) for name, package in applications})


@dataclass(frozen=True)
class Labels:
    """What a run is judged by.

    Attributes:
        dataset: name@version; "" where the labels are intervals.
        stretches: of each application.
    """

    dataset: str
    stretches: dict[str, list[Stretch]]


def _labelled(dataset: Dataset, source: str, package: Package) -> list[Stretch]:
    event, frames = package.event_class, dataset.frames()
    if frames is None or event not in dataset.classes:
        what = "no time line (it was not made of videos)" if frames is None else f"no class {event!r}"
        raise RunnerError(
            f"{dataset.ref} has {what}, so {package.ref} cannot be judged by it: give labels of the video."
        )
    rows = np.flatnonzero(frames.camera_N >= 0)
    if len(frames.videos) > 1:
        if source not in frames.videos:
            listed = ", ".join(frames.videos[:5])
            raise RunnerError(
                f"{dataset.ref} has no labels of {source}; it has videos {listed}: give labels of the video."
            )
        rows = np.flatnonzero(frames.video_N == frames.videos.index(source))
    inside = dataset.labels() == dataset.classes.index(event)
    seconds, found = float(package.config.get("smooth") or 0.0), list[Stretch]()
    for piece in pieces_of(frames, rows):
        some = rows[piece]
        line = Labelled(frames.seconds_N[some], inside[some])
        found += _stretches(smooth(line, seconds, seconds) if seconds else line)
    if not any(one.event for one in found):
        raise RunnerError(
            f"{dataset.ref} has no event {event!r} of {source}: there is nothing to judge {package.ref} by."
        )
    return found


def _stretches(line: Labelled) -> list[Stretch]:
    """Events and gaps, one after the other."""
    first_I, after_I = spans(line.event_N)
    turns = [0, *np.stack([first_I, after_I], 1).reshape(-1).tolist(), len(line.time_N)]
    borders = line.borders
    return [
        Stretch(float(borders[a]), float(borders[b]), bool(i % 2)) for i, (a, b) in enumerate(pairwise(turns)) if b > a
    ]


def _intervals(path: Path) -> dict[str, list[tuple[float, float]]]:
    try:
        if path.stat().st_size > _MOST:
            raise RunnerError(f"{path} has more than {_MOST:,} bytes: expected a list of intervals.")
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunnerError(f"{path} cannot be read as a list of intervals: {error}.") from error
    found = dict[str, list[tuple[float, float]]]()
    for number, line in enumerate(lines, 2):
        try:
            name, begins, ends = line["application"], float(line["begins"]), float(line["ends"])
        except (KeyError, TypeError, ValueError):
            name, begins, ends = "", 1.0, 0.0
        if not 0 <= begins <= ends < math.inf:
            raise RunnerError(
                f"{path}, line {number}: expected {', '.join(_COLUMNS)}, with 0 <= begins <= ends in seconds."
            )
        found.setdefault(name, []).append((begins, ends))
    return found


def _with_gaps(name: str, text: str, events: Sequence[tuple[float, float]]) -> list[Stretch]:
    if not events:
        raise RunnerError(f"{text} has no interval of application {name}: there is nothing to judge it by.")
    found, at = list[Stretch](), 0.0
    for begins, ends in sorted(events):
        if begins > at:
            found.append(Stretch(at, begins, False))
        found.append(Stretch(begins, ends, True))
        at = max(at, ends)
    return [*found, Stretch(at, math.inf, False)]


def _overlap(one: Stretch, other: Found) -> bool:
    return other.begins < one.ends and other.ends >= one.begins
