"""Confidence loss: how unsure a detector is of what it sees in a frame, from its scores alone (stage one).

What: a box of score x counts as f(x) = -Q x log10(x + 1e-5) + (1 - x) sigmoid(x) + 0.5 (at Q = 4: 1.53 for .3, 1.41
for .5, .95 for .8, .5 for 1). The loss of a frame and class is the sum over its boxes. It becomes a z-score over the
frames, class by class, and the loss of a frame is the mean over the classes of interest.
When: to find, without a teacher, the frames that are worth a teacher's look: the authors keep four times as many as
they want in the end. A frame in which the student sees nothing has the least loss, also where it misses everything.
Cost: one pass over the boxes, 40 bytes a box and 24 a frame and class.
Departs: the authors divide by the standard deviation plus 1e-5; here a class whose losses are all equal is 0. Their
`--Q` has no effect and their classes are fixed for each dataset; here both are parameters.
Source: K. Yoshioka, E. Lee, S. Wong, M. Horowitz. Dataset Culling. ICIP 2019, arXiv:1902.00173, and the authors' code.
Legend: N frames, B boxes, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tamis.curation.culling.detections import Detections, numbers_of
from tamis.curation.culling.floors import PRESETS, Floors
from tamis.curation.culling.sums import Floats, by_frame_and_class, mean_over_classes
from tamis.curation.errors import CurationError

Q = 4.0
_EPSILON = 1e-5


def confidence_of(scores: NDArray[np.floating], q: float = Q) -> Floats:
    """The loss of single boxes, f(x).

    Args:
        scores: x, 0 to 1, of any shape.
        q: the weight of x log x, at least 0.
    """
    if not 0 <= q < np.inf:
        raise CurationError(f"q is {q}; expected a finite number, at least 0")
    x = scores.astype(np.float64)
    return -q * x * np.log10(x + _EPSILON) + (1 - x) / (1 + np.exp(-x)) + 0.5


def class_confidence_losses(
    student: Detections, *, classes: Sequence[str] | None = None, q: float = Q, floors: Floors = PRESETS["authors"]
) -> Floats:
    """The loss of each frame and class, before it is standardized.

    Args:
        student: what the student saw.
        classes: those of interest, the columns; None: all.
        q: of f.
        floors: which boxes count.

    Returns:
        float64 [N, C], 0 where there is no box.
    """
    kept = floors.kept(student)
    return by_frame_and_class(kept, numbers_of(kept, classes), confidence_of(kept.scores_B, q))


def confidence_losses(
    student: Detections,
    *,
    classes: Sequence[str] | None = None,
    q: float = Q,
    floors: Floors = PRESETS["authors"],
    standardize: bool = True,
) -> Floats:
    """The loss of each frame.

    Args:
        student: what the student saw.
        classes: those of interest; None: all.
        q: of f.
        floors: which boxes count.
        standardize: z-scores by class over the frames, as in the paper; without it frames with many boxes rank first.

    Returns:
        float64 [N], higher for less sure; NaN where the student did not look or failed.

    Raises:
        CurationError: a class of interest that there is not, or a q that is none.
    """
    losses_NC = class_confidence_losses(student, classes=classes, q=q, floors=floors)
    return mean_over_classes(losses_NC, student.looked_N, standardize=standardize)
