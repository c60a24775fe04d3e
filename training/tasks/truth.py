"""Boxes as truth: those of a run, for each sample of a dataset, in the pixels of the image as it is decoded.

What: `truth_of` takes the boxes of an annotation or of a detector's pass out of the store; `padded` gives those of a
batch as one array.
How: where images are scaled and cut, boxes are too; one whose centre is cut off is left out (W. Liu et al., SSD, ECCV
2016, section 2.2, keep boxes by the same rule). The size of an image is read from its head.
Memory: 24 bytes a box.

Legend: N samples of a dataset, A boxes of all, B samples of a batch, M boxes of a sample at most.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamis.training.errors import LabelError

if TYPE_CHECKING:
    from tamis.store import Store
    from tamis.store.datasets import Dataset

MOST = 1_000  # boxes of a sample
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Truth:
    """The boxes of each sample.

    Attributes:
        run: key of the run that they are of.
        offsets_N1: those of sample i are `offsets_N1[i]` to `offsets_N1[i + 1]`.
        rows_A5: class from 0, then x1, y1, x2, y2 in pixels of the image as it is stored.
        looked_N: whether the run says anything of a sample.
        classes: their names.
    """

    run: str
    offsets_N1: Ints
    rows_A5: Floats
    looked_N: NDArray[np.bool_]
    classes: tuple[str, ...]

    @property
    def most(self) -> int:
        """M: boxes of a sample, at most; at least 1."""
        return max(1, int(np.diff(self.offsets_N1).max(initial=0)))


def truth_of(store: "Store", dataset: "Dataset", run: str, least_score: float = 0.0) -> Truth:
    """The boxes of a run as truth.

    Args:
        store: the store.
        dataset: that the run looked at.
        run: key of a finished run of kind "annotations" or "detect".
        least_score: boxes with a lower score are left out.

    Raises:
        RunNotFound, SelectionError: the run is not finished, has no boxes, or is of another dataset.
        LabelError: there is no box, or a sample has more than `MOST`.
    """
    boxes = store.runs.boxes(run, dataset)
    kept_A = boxes.scores_B >= least_score
    ends_A1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept_A, dtype=np.int64)])
    rows_A5 = np.concatenate([boxes.labels_B[kept_A, None], boxes.corners_B4[kept_A]], axis=1, dtype=np.float32)
    found = Truth(run, ends_A1[boxes.offsets_N1], rows_A5, boxes.status_N == 1, tuple(boxes.classes))
    if not len(rows_A5):
        raise LabelError(
            f"Run {run[:12]} has no box with a score of {least_score:g} or more on {dataset.ref}: there is nothing to "
            "learn. Lower truth_score, or give another run."
        )
    if found.most > MOST:
        raise LabelError(
            f"Run {run[:12]} has {found.most} boxes on one sample of {dataset.ref}; expected up to {MOST}: raise "
            "truth_score."
        )
    return found


def padded(
    truth: Truth,
    size: int | None,
    samples_B: Ints,
    encoded: Sequence[Any],
    sides: tuple[int, int],
    name: Callable[[int], str],
) -> Floats:
    """Boxes of a batch, float32 [B, M, 5]: class and corners in pixels of the decoded image; class -1 is padding.

    Args:
        truth: of the dataset.
        size: that images are scaled and cut to; None for as they are.
        samples_B: the batch.
        encoded: its images.
        sides: height and width of the decoded images.
        name: what sample i is called.

    Raises:
        LabelError: the run says nothing of a sample, or a box lies outside of its image.
    """
    found = np.full((len(samples_B), truth.most, 5), -1, np.float32)
    for i, sample in enumerate(samples_B.tolist()):
        if not truth.looked_N[sample]:
            raise LabelError(
                f"{name(i)}: run {truth.run[:12]} did not look at it, or failed on it, so its boxes are not known: "
                "train on a selection of what was looked at."
            )
        rows_M5 = truth.rows_A5[truth.offsets_N1[sample] : truth.offsets_N1[sample + 1]]
        if len(rows_M5):
            rows_M5 = _placed(rows_M5, size, encoded[i], sides, lambda i=i: name(i))
            found[i, : len(rows_M5)] = rows_M5
    return found


def _placed(rows_M5: Floats, size: int | None, encoded: Any, sides: tuple[int, int], name: Callable[[], str]) -> Floats:
    """Boxes where the image is scaled and cut."""
    from tamis.training.decoding.scaling import fitted

    height, width = sides if size is None else _sides(encoded)
    corners_M4 = rows_M5[:, 1:]
    outside_M = (corners_M4[:, :2] >= (width, height)).any(1) | (corners_M4[:, 2:] <= 0).any(1)
    empty_M = ~(corners_M4[:, 2:] > corners_M4[:, :2]).all(1)
    if (outside_M | empty_M).any():
        wrong = corners_M4[outside_M | empty_M][0].tolist()
        raise LabelError(
            f"{name()}: its box {', '.join(f'{one:g}' for one in wrong)} (x1, y1, x2, y2) has no area inside the image "
            f"of {width} x {height} pixels: correct it where the boxes come from."
        )
    if size is not None:
        down, across, top, left = fitted(height, width, size)
        corners_M4 = corners_M4 * (across, down, across, down) - (left, top, left, top)
    limit = (sides[1], sides[0])
    centre_M2 = (corners_M4[:, :2] + corners_M4[:, 2:]) / 2
    stays_M = (size is None) | ((centre_M2 > 0) & (centre_M2 < limit)).all(1)
    cut_M4 = np.clip(corners_M4, 0, (*limit, *limit))
    return np.concatenate([rows_M5[:, :1], cut_M4], axis=1, dtype=np.float32)[stays_M]


def _sides(encoded: Any) -> tuple[int, int]:
    """Height and width of an encoded image; nothing but its head is read."""
    from PIL import Image

    if isinstance(encoded, np.ndarray):
        encoded = encoded.tobytes()
    with Image.open(io.BytesIO(encoded)) as image:
        return image.height, image.width
