"""Precision loss: what a student gets wrong in a frame, the teacher's boxes being the truth (stage two).

What: of a frame and class with n boxes of the teacher, TP of the student's that match one and FP that match none
(`tamis.curation.culling.matching`), the loss is

    n / (TP + e) + (TP + FP) / (TP + e),   e = 0.5 where TP = 0, else 0:

a recall loss and a precision loss, inverses of recall and precision. A perfect match gives 2, the least where there is
anything to find; nothing to find and nothing found gives 0. The loss of a frame is the mean over its classes.
When: to keep, of the frames that the student is unsure of, those it gets wrong.
Cost: the matching's; 24 bytes a frame and class.
Departs: matching is one to one (the authors' depends on the order of boxes), and counts are those of all boxes: by
their cumulative sums a perfect match of two boxes is 1.67. Their z-scores by class, whose sum ranks, are `standardize`.
Source: K. Yoshioka, E. Lee, S. Wong, M. Horowitz. Dataset Culling. ICIP 2019, arXiv:1902.00173, and the authors' code.
Legend: N frames, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.curation.culling.detections import Detections, numbers_of, same_frames
from tamis.curation.culling.floors import PRESETS, Floors
from tamis.curation.culling.matching import match
from tamis.curation.culling.sums import Floats, by_frame_and_class, mean_over_classes


@dataclass(frozen=True, eq=False)
class Agreement:
    """How a student's boxes agree with a teacher's.

    Attributes:
        found_NC: boxes that match, of each frame and class: TP.
        student_NC: the student's boxes: TP + FP.
        teacher_NC: the teacher's boxes: n.
        looked_N: the frames that both looked at.
        classes: the columns.
    """

    found_NC: Floats
    student_NC: Floats
    teacher_NC: Floats
    looked_N: NDArray[np.bool_]
    classes: tuple[str, ...]

    @property
    def recall_losses_NC(self) -> Floats:
        """n / (TP + e)."""
        return self.teacher_NC / self._found()

    @property
    def precision_losses_NC(self) -> Floats:
        """(TP + FP) / (TP + e)."""
        return self.student_NC / self._found()

    def losses(self, *, standardize: bool = False) -> Floats:
        """The loss of each frame, both parts, the mean over the classes.

        Args:
            standardize: z-scores by class over the frames first, as the authors' code ranks: a rare class counts as
                much as a common one, and a perfect match is no longer 2.

        Returns:
            float64 [N], higher for more wrong; NaN where one of them did not look.
        """
        both_NC = self.recall_losses_NC + self.precision_losses_NC
        return mean_over_classes(both_NC, self.looked_N, standardize=standardize)

    def precision(self) -> Floats:
        """TP / (TP + FP) of each frame over all its classes, 1 without boxes of the student; NaN where not looked."""
        return self._share(self.student_NC)

    def recall(self) -> Floats:
        """TP / n of each frame over all its classes, 1 without boxes of the teacher; NaN where not looked."""
        return self._share(self.teacher_NC)

    def _share(self, of_NC: Floats) -> Floats:
        of_N = of_NC.sum(axis=1)
        share_N = np.where(of_N > 0, self.found_NC.sum(axis=1) / np.maximum(of_N, 1), 1.0)
        return np.where(self.looked_N, share_N, np.nan)

    def _found(self) -> Floats:
        return np.where(self.found_NC > 0, self.found_NC, 0.5)


def agreement(
    student: Detections,
    teacher: Detections,
    *,
    classes: Sequence[str] | None = None,
    mapping: Mapping[str, str | None] | None = None,
    iou: float = 0.5,
    floors: Floors = PRESETS["authors"],
    teacher_floors: Floors | None = None,
) -> Agreement:
    """Compare a student's boxes with a teacher's.

    Args:
        student, teacher: boxes of the same frames.
        classes: those of interest, names of the student's; None: all.
        mapping: from the teacher's classes to the student's, where they are not the same.
        iou: the least intersection over union of a match.
        floors: which boxes count.
        teacher_floors: which of the teacher's; None: the same.

    Raises:
        CurationError: different frames, classes that differ without a mapping, a class that there is not.
    """
    same_frames(student, teacher)
    mine = floors.kept(student)
    theirs = (teacher_floors or floors).kept(teacher.mapped(student.classes, mapping))
    numbers_C = numbers_of(student, classes)
    mine, theirs = (one.only(np.isin(one.labels_B, numbers_C)) for one in (mine, theirs))
    found_B = match(mine, theirs, iou=iou) >= 0
    return Agreement(
        by_frame_and_class(mine, numbers_C, found_B), by_frame_and_class(mine, numbers_C),
        by_frame_and_class(theirs, numbers_C), student.looked_N & teacher.looked_N,
        tuple(student.classes[number] for number in numbers_C),
    )  # fmt: skip
