"""Entropy of a detector's boxes: the baseline of active learning that Dataset Culling compares itself with.

What: the binary entropy of each box, -x ln x - (1 - x) ln(1 - x) nats, whose sum, mean or largest value over the boxes
is that of the frame; 0 where there is none.
When: as a baseline for the confidence loss, or where no class is of more interest than another.
Source: the aggregations are those of C.-A. Brust, C. Käding, J. Denzler. Active Learning for Deep Object Detection.
VISAPP 2019, arXiv:1809.09875; the entropy of the score alone, as a detector that stores one score a box allows. Dataset
Culling names an entropy baseline and no formula.
Legend: N frames, B boxes.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tamis.curation.culling.detections import Detections, numbers_of
from tamis.curation.culling.floors import PRESETS, Floors
from tamis.curation.culling.sums import Floats, by_frame_and_class

Over = Literal["sum", "mean", "max"]


def entropy_of(scores: NDArray[np.floating]) -> Floats:
    """The binary entropy of scores, nats; 0 at 0 and at 1."""
    x = scores.astype(np.float64)
    inside = (x > 0) & (x < 1)
    x = np.where(inside, x, 0.5)
    return np.where(inside, -x * np.log(x) - (1 - x) * np.log1p(-x), 0.0)


def box_entropies(
    student: Detections,
    *,
    classes: Sequence[str] | None = None,
    floors: Floors = PRESETS["authors"],
    over: Over = "sum",
) -> Floats:
    """The entropy of each frame.

    Args:
        student: what the student saw.
        classes: those of interest; None: all.
        floors: which boxes count.
        over: sum, mean or max over the boxes of a frame.

    Returns:
        float64 [N], nats; NaN where the student did not look or failed.
    """
    numbers_C = numbers_of(student, classes)
    kept = floors.kept(student)
    kept = kept.only(np.isin(kept.labels_B, numbers_C))
    entropies_B, n = entropy_of(kept.scores_B), len(student)
    if over == "max":
        found_N = np.zeros(n)
        np.maximum.at(found_N, kept.frames_B, entropies_B)
    else:
        found_N = by_frame_and_class(kept, numbers_C, entropies_B).sum(axis=1)  # exact: no order of the classes
        if over == "mean":
            found_N /= np.maximum(np.diff(kept.offsets_N1), 1)
    return np.where(student.looked_N, found_N, np.nan)
