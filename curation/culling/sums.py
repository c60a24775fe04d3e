"""Sums over the boxes of a frame that do not depend on the order of the boxes, and what is made of them.

How: numbers are rounded to multiples of 2^-30 first. Sums of these are exact in float64 up to 2^22 times the largest
number here, so every order gives the same bits.
Legend: N frames, B boxes, C classes.
"""

import numpy as np
from numpy.typing import NDArray

from tamis.curation.culling.detections import Detections

Floats = NDArray[np.float64]
_STEPS = 2.0**30


def by_frame_and_class(
    detections: Detections,
    numbers_C: NDArray[np.int64],
    values_B: NDArray[np.floating] | NDArray[np.bool_] | None = None,
) -> Floats:
    """Sums of numbers of the boxes, or how many boxes there are, of each frame and class.

    Args:
        detections: the boxes.
        numbers_C: labels of the classes, the columns.
        values_B: finite [B]; None counts.

    Returns:
        float64 [N, C].
    """
    n, c = len(detections), len(numbers_C)
    columns = np.full(max(len(detections.classes), 1), c)  # of all other classes: one more, cut off below
    columns[numbers_C] = np.arange(c)
    cells_B = detections.frames_B * (c + 1) + columns[detections.labels_B]
    weights = None if values_B is None else np.rint(values_B.astype(np.float64) * _STEPS)
    sums = np.bincount(cells_B, weights, n * (c + 1)).reshape(n, c + 1)[:, :c]
    return sums.astype(np.float64) if weights is None else sums / _STEPS


def mean_over_classes(values_NC: Floats, looked_N: NDArray[np.bool_], *, standardize: bool) -> Floats:
    """One number a frame: the mean over the classes, each turned into z-scores over the frames first if asked for.

    Args:
        values_NC: a number of each frame and class.
        looked_N: the frames that take part; the others are NaN.
        standardize: less the class's mean, over its standard deviation (of the population); 0 where all are equal.
    """
    found_N, seen_PC = np.full(len(values_NC), np.nan), values_NC[looked_N]
    if not len(seen_PC):
        return found_N
    if standardize:
        flat_C = seen_PC.min(axis=0) == seen_PC.max(axis=0)  # said so, for the rounding of a mean is not 0
        spread_C = np.where(flat_C, 1.0, seen_PC.std(axis=0))
        seen_PC = np.where(flat_C, 0.0, (seen_PC - seen_PC.mean(axis=0)) / spread_C)
    found_N[looked_N] = seen_PC.mean(axis=1)
    return found_N
