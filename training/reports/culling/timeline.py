"""Kept frames on the time lines of cameras.

What: `timeline` says of each camera of a dataset of videos how many frames a selection keeps, when the first and the
last of them are, and how long the longest time without one is; with the scores of a run it gives their curve, too.
When: to see whether culling left hours of a camera out, and whether what it kept lies where the scores are high.
How: a frame is kept that any round has (a warm start's rounds of everything are left out, as everywhere). The longest
gap counts from the camera's first frame to the first kept one, and from the last kept one to its last frame, too.
Cost: one read of the selections and of the table `frames`, and of the scores; no image is read.

Legend: N samples, K kept frames of a camera, F frames of a camera.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.frames import Frames
from tamis.store.selections import Selection, check_comparable
from tamis.training.errors import ReportError
from tamis.training.reports.priority import priority

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """What a selection keeps of a camera; times are seconds on the camera's time line.

    Attributes:
        selection: name@version.
        camera: its name.
        frames: F.
        kept: K.
        begins, ends: of the camera's first and last frame.
        first, last: of the first and last kept frame; None where none is.
        longest_gap: seconds without a kept frame, at most.
        at: [K] of the kept frames, rising.
    """

    selection: str
    camera: str
    frames: int
    kept: int
    begins: float
    ends: float
    first: float | None
    last: float | None
    longest_gap: float
    at: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores on a camera's time line.

    Attributes:
        seconds_F: rising.
        scores_F: NaN where a frame has none.
    """

    seconds_F: Floats
    scores_F: Floats


@dataclass(frozen=True)
class Timeline:
    """Selections on the time lines of cameras.

    Attributes:
        dataset: name@version.
        lines: by camera, in alphabetical order, and by selection.
        measure: what the curves are of; None without any.
        curves: by camera.
    """

    dataset: str
    lines: tuple[Line, ...]
    measure: str | None
    curves: dict[str, Curve]


def timeline(
    store: Store, selections: Sequence[str], *, scores: str | None = None, measure: str = "confidence_loss"
) -> Timeline:
    """Put the frames that selections keep on the time lines of their cameras.

    Args:
        store: the store.
        selections: names, or name@version, all of one dataset; at least one.
        scores: key of a scoring run of it, or the beginning of one; None: no curves.
        measure: which of its scores.

    Raises:
        SelectionNotFound, RunNotFound: naming what there is.
        SelectionError: of different datasets, or scores of another version.
        ReportError: no sample of the dataset is a frame of a video.
    """
    found = [store.selections.get(ref) for ref in selections]
    for one in found[1:]:
        check_comparable(found[0], one)
    dataset = max((store.datasets.get(one.dataset) for one in found), key=lambda one: one.version)
    frames = dataset.frames()
    if frames is None:
        raise ReportError(
            f"{dataset.ref} has no time line: its samples are not frames of videos. Name a selection of a dataset that "
            "was added from videos (tamis dataset add NAME VIDEO...)."
        )
    curves = {} if scores is None else _curves(store, dataset, frames, scores, measure)
    kept = [(one, priority(one, store.datasets.get(one.dataset).samples).times > 0) for one in found]
    lines = [_line(one, kept_N, camera, frames) for camera in range(len(frames.cameras)) for one, kept_N in kept]
    return Timeline(dataset.ref, tuple(lines), None if scores is None else measure, curves)


def longest_gap(kept_K: Floats, begins: float, ends: float) -> float:
    """The longest time without a kept frame.

    Args:
        kept_K: seconds of the kept frames, rising.
        begins, ends: of the time line.
    """
    return float(np.diff(np.concatenate([[begins], kept_K, [ends]])).max())


def _line(selection: Selection, kept_N: NDArray[np.bool_], camera: int, frames: Frames) -> Line:
    samples_F = np.flatnonzero(frames.camera_N == camera)
    seconds_F = frames.seconds_N[samples_F]
    known_F = samples_F < len(kept_N)  # frames that came after the version that was chosen from are not kept
    at_K = np.sort(seconds_F[known_F][kept_N[samples_F[known_F]]])
    begins, ends = float(seconds_F.min()), float(seconds_F.max())
    return Line(
        selection.ref, frames.cameras[camera], len(samples_F), len(at_K), begins, ends,
        float(at_K[0]) if len(at_K) else None, float(at_K[-1]) if len(at_K) else None,
        longest_gap(at_K, begins, ends), tuple(at_K.tolist()),
    )  # fmt: skip


def _curves(store: Store, dataset: Dataset, frames: Frames, run: str, measure: str) -> dict[str, Curve]:
    scores_N = store.runs.scores(store.runs.get(run).key, measure, dataset.samples)
    found: dict[str, Curve] = {}
    for number, camera in enumerate(frames.cameras):
        samples_F = np.flatnonzero(frames.camera_N == number)
        samples_F = samples_F[np.argsort(frames.seconds_N[samples_F], kind="stable")]
        found[camera] = Curve(frames.seconds_N[samples_F], scores_N[samples_F])
    return found
