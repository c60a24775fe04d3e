"""What a detector saw in each frame, as flat arrays: `Detections`.

How: compressed rows. The boxes of frame i are the rows offsets[i] to offsets[i + 1] of the other arrays, in any order:
nothing that is computed from them depends on it.
Cost: 24 bytes a box and 9 a frame; checking is one pass.
Legend: N frames, B boxes, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError, NonFiniteError

LOOKED = 1
NOT_LOOKED = 0
FAILED = -1
_NAMED = 5


class BoxesLike(Protocol):
    """Stored boxes: whatever has these arrays."""

    @property
    def offsets_N1(self) -> NDArray[np.int64]: ...
    @property
    def labels_B(self) -> NDArray[np.int32]: ...
    @property
    def scores_B(self) -> NDArray[np.float32]: ...
    @property
    def corners_B4(self) -> NDArray[np.float32]: ...
    @property
    def status_N(self) -> NDArray[np.int8]: ...
    @property
    def classes(self) -> Sequence[str]: ...


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes of one detector in N frames.

    Attributes:
        offsets_N1: int64 [N + 1], the first row of each frame's boxes, from 0 to B.
        labels_B: int32 [B], class numbers of `classes`.
        scores_B: float32 [B], 0 to 1.
        corners_B4: float32 [B, 4], left, top, right, bottom in pixels; finite, right >= left and bottom >= top. Boxes
            may reach out of the image (`within` cuts them) and may have no area; such boxes match nothing.
        status_N: int8 [N], 1 where the detector looked, 0 where it did not, -1 where it failed. Frames that it did not
            look at have no boxes.
        classes: the names that labels are numbers of, each once.

    Raises:
        CurationError: a shape, type or value other than these; the message counts and names the first ones.
        NonFiniteError: scores or corners that are NaN or infinite.
    """

    offsets_N1: NDArray[np.int64]
    labels_B: NDArray[np.int32]
    scores_B: NDArray[np.float32]
    corners_B4: NDArray[np.float32]
    status_N: NDArray[np.int8]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_forms(self)
        _check_rows(self)
        _check_boxes(self)

    @classmethod
    def of(cls, boxes: BoxesLike) -> "Detections":
        """Stored boxes as detections; classes without names are called by their numbers."""
        labels_B = np.asarray(boxes.labels_B, np.int32)
        numbered = map(str, range(int(labels_B.max(initial=-1)) + 1))
        return cls(
            np.asarray(boxes.offsets_N1, np.int64), labels_B,
            np.asarray(boxes.scores_B, np.float32), np.asarray(boxes.corners_B4, np.float32),
            np.asarray(boxes.status_N, np.int8), tuple(boxes.classes or numbered),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.status_N)

    @property
    def looked_N(self) -> NDArray[np.bool_]:
        """Where the detector looked, and did not fail."""
        return self.status_N == LOOKED

    @property
    def frames_B(self) -> NDArray[np.int64]:
        """The frame of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets_N1))

    @property
    def sides_B2(self) -> NDArray[np.float32]:
        """Width and height of each box, pixels."""
        return self.corners_B4[:, 2:] - self.corners_B4[:, :2]

    def only(self, kept_B: NDArray[np.bool_]) -> "Detections":
        """Those boxes alone, of the same frames."""
        if kept_B.all():
            return self
        sums = np.concatenate([[0], np.cumsum(kept_B)])
        offsets_N1 = sums[self.offsets_N1]
        return replace(
            self, offsets_N1=offsets_N1, labels_B=self.labels_B[kept_B], scores_B=self.scores_B[kept_B],
            corners_B4=self.corners_B4[kept_B],
        )  # fmt: skip

    def mapped(self, classes: Sequence[str], mapping: Mapping[str, str | None] | None = None) -> "Detections":
        """The same boxes with labels of another list of classes.

        Args:
            classes: the list.
            mapping: for each class here its name there, or None for boxes to leave out; several may become one (cars,
                trucks and buses). It may be left out where both lists have the same names.

        Raises:
            CurationError: the lists differ and there is no mapping, or it leaves out a class or names one that there is
                not.
        """
        there = {name: number for number, name in enumerate(classes)}
        if mapping is None:
            if tuple(classes) == self.classes:
                return self
            if set(classes) != set(self.classes):
                raise CurationError(
                    f"the classes differ: {_listed(self.classes)} and {_listed(classes)}; expected the same names, "
                    "or a mapping from the first to the second"
                )
            mapping = {name: name for name in self.classes}
        missing = [name for name in self.classes if name not in mapping]
        unknown = sorted({name for name in mapping.values() if name is not None} - set(there))
        if missing or unknown:
            raise CurationError(
                f"the mapping of classes has nothing for {_listed(missing)}, and names unknown {_listed(unknown)}; "
                f"expected for each of {_listed(self.classes)} one of {_listed(classes)}, or None"
            )
        new_C = np.array([-1 if (to := mapping[name]) is None else there[to] for name in self.classes], np.int32)
        kept = self.only(new_C[self.labels_B] >= 0)
        return replace(kept, labels_B=new_C[kept.labels_B], classes=tuple(classes))

    def within(self, sizes_N2: NDArray[np.integer]) -> "Detections":
        """The boxes cut to the images; those outside are left out.

        Args:
            sizes_N2: width and height of each frame, pixels [N, 2].
        """
        if sizes_N2.shape != (len(self), 2):
            raise CurationError(f"sizes are {list(sizes_N2.shape)}; expected width and height, [{len(self)}, 2]")
        ends_B4 = np.tile(sizes_N2[self.frames_B], 2).astype(np.float32)
        cut = replace(self, corners_B4=np.clip(self.corners_B4, np.float32(0), ends_B4))
        touched_B = (cut.corners_B4 != self.corners_B4).any(axis=1)
        return cut.only(~touched_B | (cut.sides_B2 > 0).all(axis=1))


def unseen(classes: Sequence[str]) -> Detections:
    """Boxes of no frame at all, of some classes: to see whether classes go together."""
    none = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros(0, np.int8)
    return Detections(np.zeros(1, np.int64), *none, tuple(classes))


def same_frames(student: Detections, teacher: Detections) -> None:
    """Refuse detections of different numbers of frames."""
    if len(student) != len(teacher):
        raise CurationError(
            f"the student's boxes are of {len(student)} frames, the teacher's of {len(teacher)}; expected the same "
            "frames in the same order"
        )


def numbers_of(detections: Detections, classes: Sequence[str] | None) -> NDArray[np.int64]:
    """The label numbers of some classes, all of them where none are named.

    Raises:
        CurationError: a name that is not among the detector's, or is there twice.
    """
    if classes is None:
        return np.arange(len(detections.classes))
    unknown = sorted(set(classes) - set(detections.classes))
    if unknown or len(set(classes)) != len(classes) or not classes:
        raise CurationError(
            f"classes of interest are {_listed(classes)}; expected some of {_listed(detections.classes)}, each once"
        )
    return np.array([detections.classes.index(name) for name in classes], np.int64)


def _check_forms(given: Detections) -> None:
    n, count = len(given.status_N), len(given.scores_B)
    forms: dict[str, tuple[NDArray[Any], type, tuple[int, ...]]] = {
        "offsets": (given.offsets_N1, np.int64, (n + 1,)), "labels": (given.labels_B, np.int32, (count,)),
        "scores": (given.scores_B, np.float32, (count,)), "corners": (given.corners_B4, np.float32, (count, 4)),
        "status": (given.status_N, np.int8, (n,)),
    }  # fmt: skip
    for name, (array, kind, shape) in forms.items():
        if array.dtype != kind or array.shape != shape:
            raise CurationError(
                f"{name} of detections are {array.dtype} {list(array.shape)}; expected {kind.__name__} {list(shape)}"
            )
    if len(set(given.classes)) != len(given.classes):
        raise CurationError(f"the classes are {_listed(given.classes)}; expected each name once")


def _check_rows(given: Detections) -> None:
    steps = np.diff(given.offsets_N1)
    ends = (int(given.offsets_N1[0]), int(given.offsets_N1[-1]))
    if ends != (0, len(given.scores_B)) or bool((steps < 0).any()):
        raise CurationError(
            f"offsets run from {ends[0]} to {ends[1]}; expected ascending ones from 0 to the "
            f"{len(given.scores_B)} boxes"
        )
    strange = ~np.isin(given.status_N, (LOOKED, NOT_LOOKED, FAILED))
    unseen = (given.status_N != LOOKED) & (steps > 0)
    for bad_N, expected in ((strange, "1, 0 or -1"), (unseen, "no boxes where the detector did not look")):
        if bad_N.any():
            raise CurationError(f"the status of {_rows(bad_N, 'frames')} is wrong; expected {expected}")


def _check_boxes(given: Detections) -> None:
    corners_B4, scores_B = given.corners_B4, given.scores_B
    for what, values in (("scores", scores_B[:, None]), ("boxes", corners_B4)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise NonFiniteError(what, len(bad), len(values), given.frames_B[bad[:_NAMED]].tolist())
    checks = (
        ((scores_B < 0) | (scores_B > 1), "a score that is none", "0 to 1"),
        ((given.labels_B < 0) | (given.labels_B >= len(given.classes)), "an unknown class",
         f"numbers of the {len(given.classes)} classes"),
        ((corners_B4[:, 2] < corners_B4[:, 0]) | (corners_B4[:, 3] < corners_B4[:, 1]), "corners in the wrong order",
         "left, top, right, bottom"),
    )  # fmt: skip
    for bad_B, found, expected in checks:
        if bad_B.any():
            raise CurationError(f"{_rows(bad_B, 'boxes')} have {found}; expected {expected}")


def _rows(bad: NDArray[np.bool_], what: str) -> str:
    rows = np.flatnonzero(bad)
    more = ", ..." if len(rows) > _NAMED else ""
    return f"{len(rows)} of {len(bad)} {what} (rows {', '.join(map(str, rows[:_NAMED].tolist()))}{more})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "") or "none"
