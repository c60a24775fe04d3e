"""Boxes of samples: what a detector, or a person, found in each frame; as rows of two tables and back as arrays.

What: a `Boxes` has the boxes of a whole dataset, frame after frame. `Frames` are some frames on their way into the
store; `cleaned` makes of them what is kept. The table `boxes` has a row a box, the table `detections` a row for every
frame that was looked at, so a frame without boxes, one that the detector failed on, and one that nobody looked at are
told apart.
How: within a frame boxes are in one order (score descending, then class, then corners), so nothing depends on the order
in which they came. Boxes are cut to the image. Left out and counted: scores that are not finite, corners that are not
finite, boxes without an area inside the image, and classes that the run does not name.
Cost: 28 bytes a box and 9 a frame.
Legend: N samples of a dataset, F frames of a batch, B boxes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import RunNotFound, SelectionError
from tamis.store.tables.tables import rows_of

if TYPE_CHECKING:
    from tamis.store.datasets import Dataset
    from tamis.store.run import Run
    from tamis.store.tables.tables import Tables

DETECT, ANNOTATIONS = "detect", "annotations"  # kinds of runs that have boxes: a model's, and those of people
LOOKED, UNSEEN, FAILED = 1, 0, -1  # of `Boxes.status_N`
_OK, _FAILED = "ok", "failed"  # of the table `detections`
_LONGEST = 300  # characters of an error
_ROWS = 1 << 16  # of a batch

Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of every frame of a dataset, one frame after another.

    Attributes:
        offsets_N1: int64 [N + 1]; those of frame i are `offsets_N1[i]` to `offsets_N1[i + 1]`.
        labels_B: int32 [B], class numbers.
        scores_B: float32 [B]; 1 of annotations.
        corners_B4: float32 [B, 4]: x1, y1, x2, y2 in pixels of the image as it is stored.
        status_N: int8 [N]: 1 where it was looked at, 0 where not, -1 where the detector failed.
        classes: their names by number; may be empty.
    """

    offsets_N1: Ints
    labels_B: Labels
    scores_B: Floats
    corners_B4: Floats
    status_N: npt.NDArray[np.int8]
    classes: tuple[str, ...] = ()

    def frame(self, sample: int) -> slice:
        """Where the boxes of one frame lie."""
        return slice(int(self.offsets_N1[sample]), int(self.offsets_N1[sample + 1]))


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames that were looked at, and what was found in each.

    Attributes:
        samples_F: int64 [F].
        offsets_F1: int64 [F + 1], as in `Boxes`.
        labels_B, scores_B, corners_B4: as in `Boxes`, in any order within a frame.
        sizes_F2: int32 [F, 2]: width and height; 0 where they are not known.
        errors: of each frame None, or what the detector said when it failed.
        ms_F: float32 [F], what it took, NaN where that was not measured; None where nothing was.
    """

    samples_F: Ints
    offsets_F1: Ints
    labels_B: Labels
    scores_B: Floats
    corners_B4: Floats
    sizes_F2: npt.NDArray[np.int32]
    errors: Sequence[str | None]
    ms_F: Floats | None = None


@dataclass
class Tally:
    """What frames came to, gathered while they go by.

    Attributes:
        frames: looked at, failed ones among them.
        failed: on which the detector failed.
        empty: that have no boxes, failed ones not among them.
        boxes: kept.
        nonfinite: boxes left out because a score or a corner is NaN or infinite.
        outside: boxes left out because nothing of them lies inside the image, or they have no area.
        unknown: boxes left out because the run names no such class.
    """

    frames: int = 0
    failed: int = 0
    empty: int = 0
    boxes: int = 0
    nonfinite: int = 0
    outside: int = 0
    unknown: int = 0

    def note(self) -> dict[str, str]:
        return {name: str(count) for name, count in asdict(self).items()}

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> "Tally":
        return cls(**{name: int(note.get(name, 0)) for name in asdict(cls())})


def cleaned(frames: Frames, classes: int, tally: Tally) -> Frames:
    """The same frames with what is kept of their boxes, in the one order; what is left out is counted.

    Args:
        frames: as they came.
        classes: how many the run names; 0 where it names none and takes all.
        tally: is added to.
    """
    frame_B = np.repeat(np.arange(len(frames.samples_F)), np.diff(frames.offsets_F1))
    corners_B4, failed_F = _inside(frames, frame_B), np.asarray([e is not None for e in frames.errors], np.bool_)
    finite_B = np.isfinite(frames.scores_B) & np.isfinite(frames.corners_B4).all(axis=1)
    known_B = (frames.labels_B >= 0) & ((frames.labels_B < classes) if classes else True)
    with np.errstate(invalid="ignore"):  # infinities less infinities; those are left out already
        area_B = ((corners_B4[:, 2:] - corners_B4[:, :2]) > 0).all(axis=1)
    keep_B = finite_B & known_B & area_B & ~failed_F[frame_B]
    order = ordered(frame_B[keep_B], frames.labels_B[keep_B], frames.scores_B[keep_B], corners_B4[keep_B])
    kept, counts_F = np.flatnonzero(keep_B)[order], np.bincount(frame_B[keep_B], minlength=len(frames.samples_F))
    tally.frames, tally.failed = tally.frames + len(counts_F), tally.failed + int(failed_F.sum())
    tally.empty += int(((counts_F == 0) & ~failed_F).sum())
    tally.boxes += len(kept)
    tally.nonfinite += int((~finite_B).sum())
    tally.unknown += int((finite_B & ~known_B).sum())
    tally.outside += int((finite_B & known_B & ~area_B).sum())
    found = frames.labels_B[kept], frames.scores_B[kept], corners_B4[kept]
    return Frames(frames.samples_F, starts(counts_F), *found, frames.sizes_F2, frames.errors, frames.ms_F)


def ordered(frame_B: npt.NDArray[Any], labels_B: Labels, scores_B: Floats, corners_B4: Floats) -> Ints:
    """The order of boxes: by frame, then score descending, class, corners."""
    return np.lexsort((*corners_B4.T[::-1], labels_B, -scores_B, frame_B))


def starts(counts: npt.NDArray[Any]) -> Ints:
    """[F + 1] where each frame's boxes begin, from how many each has [F]."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def box_rows(run: str, attempt: str, frames: Frames) -> Iterator[pa.RecordBatch]:
    """Rows of the table `boxes`."""
    samples = np.repeat(frames.samples_F, np.diff(frames.offsets_F1))
    for a in range(0, len(samples), _ROWS):
        some = slice(a, a + _ROWS)
        columns: dict[str, Any] = {"run": run, "attempt": attempt, "sample": samples[some]}
        columns |= {"label": frames.labels_B[some], "score": frames.scores_B[some]}
        columns |= dict(zip(("x1", "y1", "x2", "y2"), np.ascontiguousarray(frames.corners_B4[some].T), strict=True))
        yield from rows_of("boxes", columns, len(samples[some])).to_batches()


def frame_rows(run: str, attempt: str, frames: Frames) -> Iterator[pa.RecordBatch]:
    """Rows of the table `detections`."""
    count = len(frames.samples_F)
    ms = np.full(count, np.nan, np.float32) if frames.ms_F is None else frames.ms_F
    columns: dict[str, Any] = {"run": run, "attempt": attempt, "sample": frames.samples_F}
    columns["status"] = pa.array([_OK if error is None else _FAILED for error in frames.errors], pa.string())
    columns["boxes"] = np.diff(frames.offsets_F1).astype(np.int32)
    columns["width"], columns["height"] = np.ascontiguousarray(frames.sizes_F2.T)
    columns["ms"] = pa.array(ms, mask=~np.isfinite(ms))
    columns["error"] = pa.array([one_line(error) for error in frames.errors], pa.string())
    yield from rows_of("detections", columns, count).to_batches()


def one_line(error: str | None) -> str | None:
    """An error as one line that any table takes."""
    return None if error is None else " ".join(error.split())[:_LONGEST].encode("utf-8", "replace").decode()


def boxes_of(tables: "Tables", run: "Run", attempt: str | None, dataset: "Dataset") -> Boxes:
    """The boxes of a finished run as arrays; see `tamis.store.runs.Runs.boxes`."""
    if run.kind not in (DETECT, ANNOTATIONS) or attempt is None:
        raise RunNotFound(
            f"Run {run.key[:12]} is a {run.kind} run and has no boxes: name one that tamis score boxes made, or the "
            "annotations of a dataset."
        )
    of, frames = {"run": run.key, "attempt": attempt}, ["sample", "status"]
    seen = tables.read("detections", None, frames, **of)
    rows = tables.read("boxes", None, ["sample", "label", "score", "x1", "y1", "x2", "y2"], **of)
    samples, sample_B = np.asarray(seen["sample"]), np.asarray(rows["sample"])
    if run.dataset.partition("@")[0] != dataset.name or samples.max(initial=-1) >= dataset.samples:
        raise SelectionError(
            f"Run {run.key[:12]} has boxes of {run.dataset}, which are not those of {dataset.ref}: make them of this "
            "version (only what is new is computed)."
        )
    labels_B, scores_B = np.asarray(rows["label"]), np.asarray(rows["score"])
    corners_B4 = np.stack([np.asarray(rows[c]) for c in ("x1", "y1", "x2", "y2")], axis=1)
    order = ordered(sample_B, labels_B, scores_B, corners_B4)
    status_N = np.full(dataset.samples, UNSEEN, np.int8)
    ok = np.asarray([status == _OK for status in seen["status"].to_pylist()], np.bool_)
    status_N[samples] = np.where(ok, LOOKED, FAILED)
    offsets_N1 = starts(np.bincount(sample_B, minlength=dataset.samples))
    classes = tuple(map(str, run.config.get("classes", ())))
    return Boxes(offsets_N1, labels_B[order], scores_B[order], corners_B4[order], status_N, classes)


def _inside(frames: Frames, frame_B: npt.NDArray[np.int64]) -> Floats:
    """[B, 4] corners cut to the images whose sizes are known."""
    size_B2 = frames.sizes_F2[frame_B].astype(np.float32)
    size_B2[size_B2 <= 0] = np.inf
    limit_B4 = np.concatenate([size_B2, size_B2], axis=1)
    return np.clip(frames.corners_B4.astype(np.float32, copy=False), 0, limit_B4)
