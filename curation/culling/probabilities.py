"""Dataset Culling for classification: both stages from class probabilities in place of boxes.

What: stage one takes an image's likeliest class as its one box, and its confidence loss is f of that probability. Stage
two is the cross-entropy -sum_c t_c ln s_c of the student's distribution s against the teacher's t, nats.
When: a small classifier is to learn from a large one, and only some images can be shown to the large one.
Departs: the paper is about boxes; this is its natural reading for classes. A student's probability below 1e-12 counts
as that, so that a teacher's surprise is large, never infinite.
Legend: N images, C classes.
"""

import numpy as np
from numpy.typing import NDArray

from tamis.curation.culling.confidence import Q, confidence_of
from tamis.curation.culling.sums import Floats
from tamis.curation.errors import CurationError

LEAST = 1e-12
_TOLERANCE = 1e-3


def top_confidence_losses(student_NC: NDArray[np.floating], q: float = Q) -> Floats:
    """Stage one: f of the largest probability.

    Args:
        student_NC: the student's probabilities; a row of NaN where it did not look.
        q: of f (`tamis.curation.culling.confidence`).

    Returns:
        float64 [N], NaN where the student did not look.
    """
    return confidence_of(_distributions("student", student_NC).max(axis=1), q)


def teacher_cross_entropies(teacher_NC: NDArray[np.floating], student_NC: NDArray[np.floating]) -> Floats:
    """Stage two: the student's cross-entropy against the teacher.

    Args:
        teacher_NC: the teacher's probabilities; a row of NaN where it did not look.
        student_NC: the student's.

    Returns:
        float64 [N], nats, at least the entropy of the teacher; NaN where one of them did not look.

    Raises:
        CurationError: different shapes, or rows that are no distributions.
    """
    if teacher_NC.shape != student_NC.shape:
        raise CurationError(
            f"the teacher's probabilities are {list(teacher_NC.shape)}, the student's {list(student_NC.shape)}; "
            "expected the same images and the same classes"
        )
    teacher, student = _distributions("teacher", teacher_NC), _distributions("student", student_NC)
    return -(teacher * np.log(np.maximum(student, LEAST))).sum(axis=1)


def _distributions(whose: str, given_NC: NDArray[np.floating]) -> Floats:
    """As float64, rows that are NaN in part NaN in whole."""
    if given_NC.ndim != 2 or given_NC.shape[1] < 2 or given_NC.dtype.kind != "f":
        raise CurationError(
            f"the {whose}'s probabilities are {given_NC.dtype} {list(given_NC.shape)}; expected floats [N, C], "
            "C at least 2"
        )
    rows_NC = given_NC.astype(np.float64)
    rows_NC[np.isnan(rows_NC).any(axis=1)] = np.nan
    bad = np.flatnonzero((rows_NC < 0).any(axis=1) | (np.abs(rows_NC.sum(axis=1) - 1) > _TOLERANCE))
    if len(bad):
        raise CurationError(
            f"{len(bad)} of {len(rows_NC)} rows of the {whose} are no distributions (the first: {int(bad[0])}); "
            "expected probabilities that sum to 1: apply softmax to logits"
        )
    return rows_NC
