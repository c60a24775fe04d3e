"""The time line of labelled frames: how long events are, how often they come, and whether misses follow each other.

What: `pieces_of` cuts frames into pieces of consecutive ones, `figures_of` gives the figures of a package's events,
measured or given. The measures themselves are `tamis.training.mainstream.events.measuring`'s.
How: a camera's line is cut where two frames are more than 1.5 of its median steps apart: what lies between was not
labelled, or is in another part of the data. A piece of one frame says nothing of time and is left out.
The correlation of a package is the mean of its candidates', each weighing as it had misses to count.
Cost: a sort of the frames.

Legend: N frames.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tamis.store.datasets import Dataset
from tamis.store.datasets.frames import Frames
from tamis.store.errors import PackageError
from tamis.store.packages import Candidate, EventFigures
from tamis.training.mainstream.events.measuring import Labelled, Measured, measure_events, smooth
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.sources import Ints

_APART = 1.5  # median steps
_GIVEN = ("average", "minimum", "frequency")


def pieces_of(frames: Frames, rows: Ints | None = None) -> list[Ints]:
    """Pieces of consecutive frames, each in the order of time; frames of one piece are of one camera.

    Args:
        frames: of a dataset.
        rows: which of its samples; None for all.

    Returns:
        Places in `rows`, or sample numbers, of at least two frames each.
    """
    some = np.arange(len(frames.camera_N)) if rows is None else rows
    camera_N, seconds_N = frames.camera_N[some], frames.seconds_N[some]
    found = list[Ints]()
    for camera in range(len(frames.cameras)):
        whole = np.sort(frames.seconds_N[frames.camera_N == camera])
        mine = np.flatnonzero(camera_N == camera)
        if len(whole) < 2 or not len(mine):
            continue
        line = mine[np.argsort(seconds_N[mine], kind="stable")]
        gaps = np.diff(seconds_N[line]) > _APART * np.median(np.diff(whole))
        found += [piece for piece in np.split(line, np.flatnonzero(gaps) + 1) if len(piece) > 1]
    return found


def figures_of(
    config: PackageConfig, dataset: Dataset, event: int, candidates: Sequence[Candidate] = ()
) -> EventFigures:
    """The figures of a package's events.

    Args:
        config: has those that are given.
        dataset: whose labelled time line the others are measured on.
        event: the class that is the event.
        candidates: whose misses were counted.

    Raises:
        PackageError: figures are neither given nor to be measured.
        EventsError: there are no events on the time line.
    """
    given = {name: getattr(config, name) for name in _GIVEN}
    lacking = [name for name, value in given.items() if value is None]
    measured = _measured(dataset, event, config.smooth, lacking) if lacking else None
    numbers = {name: getattr(measured, name) if name in lacking else given[name] for name in _GIVEN}
    if numbers["minimum"] > numbers["average"]:
        raise PackageError(
            f"The shortest event, {numbers['minimum']:g} s, is longer than the mean, {numbers['average']:g} s: "
            "give both."
        )
    correlation = config.correlation
    counted = _correlation(candidates) if correlation is None else None
    told = [*lacking, *(["correlation"] if counted is not None else [])]
    known = correlation if correlation is not None else 0.0 if counted is None else counted
    return EventFigures(**numbers, correlation=known, measured=tuple(told))


def _measured(dataset: Dataset, event: int, seconds: float, lacking: Sequence[str]) -> Measured:
    frames = dataset.frames()
    pieces = [] if frames is None else pieces_of(frames)
    if frames is None or not pieces:
        flags = ", ".join(f"--{name}" for name in lacking)
        raise PackageError(
            f"{dataset.ref} has no time line to measure events on (it was not made of videos): give {flags}."
        )
    inside: npt.NDArray[np.bool_] = dataset.labels() == event
    lines = [Labelled(frames.seconds_N[piece], inside[piece]) for piece in pieces]
    return measure_events([smooth(line, seconds, seconds) for line in lines] if seconds else lines)


def _correlation(candidates: Sequence[Candidate]) -> float | None:
    """The mean of the candidates' correlations by their misses; None where there were none to count."""
    counted = [(one.correlation, one.metrics["misses"]) for one in candidates if one.correlation is not None]
    misses = sum(count for _, count in counted)
    return sum(value * count for value, count in counted) / misses if misses else None
