"""Which boxes of a student are those of a teacher: one to one, within a frame and class, best score first.

What: each student box, in the order of the scores, takes the teacher's box of its class with the highest intersection
over union (IoU) among those that are still free, if that is at least the threshold. Equal scores are settled by the
corners, and so are equal IoUs: the order of the boxes never matters, but between twins that are alike in everything.
How: IoU of all pairs, a block of frames of like size at a time, of which only pairs at the threshold are kept. A pair
whose boxes have no other is a match. The others are matched by deferred acceptance: all free student boxes propose to
their next teacher box at once, which keeps the one of the higher score. As all teacher boxes prefer alike, that ends in
the one stable matching, which is the one of taking turns.
Cost: 15 operations a pair of boxes of a frame, in blocks of 2^17 pairs; for each frame and box beside it 60 bytes. Ten
thousand frames of 20 boxes take a tenth of a second.
Departs: the authors' code compares student box i with teacher box i alone; VOC lets several boxes claim one. Corners
are coordinates: a box of left 0 and right 10 is 10 pixels wide (the authors add one).
Source: the greedy order is that of M. Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010, section
4.2, with the free box of COCO's evaluation. D. Gale, L. Shapley. College Admissions. 1962.
Legend: N frames, B boxes, P pairs of boxes; S boxes of the student, T of the teacher and F frames of a block.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tamis.curation.culling.detections import Detections, same_frames
from tamis.curation.errors import CurationError

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]
NONE = -1
_PAIRS = 1 << 17  # of a block: its arrays stay in the cache


def match(student: Detections, teacher: Detections, *, iou: float = 0.5) -> Ints:
    """Match a student's boxes with a teacher's.

    Args:
        student, teacher: boxes of the same frames, with the same classes.
        iou: the least intersection over union of a match, above 0, at most 1.

    Returns:
        int64 [B], the row of the teacher's box that each of the student's is, -1 where there is none.

    Raises:
        CurationError: different frames or classes, or a threshold out of range.
    """
    same_frames(student, teacher)
    if student.classes != teacher.classes:
        raise CurationError("student and teacher have different classes; expected the same: see Detections.mapped")
    if not 0 < iou <= 1:
        raise CurationError(f"iou is {iou}; expected a number above 0, at most 1")
    parts = [_pairs(student, teacher, frames, iou) for frames in _blocks(student, teacher)]
    found_B = np.full(len(student.scores_B), NONE)
    if parts:
        rows_P, others_P, overlaps_P = (np.concatenate(part) for part in zip(*parts, strict=True))
        _settle(student, teacher, rows_P, others_P, overlaps_P, found_B)
    return found_B


def _blocks(student: Detections, teacher: Detections) -> Iterator[Ints]:
    """Frames in which both have boxes, those of like numbers of boxes together."""
    counts_N2 = np.stack([np.diff(student.offsets_N1), np.diff(teacher.offsets_N1)], axis=1)
    frames = np.flatnonzero((counts_N2 > 0).all(axis=1))
    frames = frames[np.lexsort((counts_N2[frames, 1], counts_N2[frames, 0]))]
    start = 0
    while start < len(frames):
        stop = min(len(frames), start + max(1, _PAIRS // int(counts_N2[frames[start]].prod())))
        # The most boxes of the block may come anywhere: halve until what is padded fits.
        while stop - start > 1 and (stop - start) * counts_N2[frames[start:stop]].max(axis=0).prod() > _PAIRS:
            stop = start + (stop - start) // 2
        yield np.sort(frames[start:stop])
        start = stop


def _pairs(student: Detections, teacher: Detections, frames: Ints, iou: float) -> tuple[Ints, Ints, Singles]:
    """Pairs of boxes of one class at the threshold: rows of the student and the teacher, and their IoU."""
    rows_SF, corners_4SF, labels_SF = _padded(student, frames, unlike=-1)
    others_TF, theirs_4TF, labels_TF = _padded(teacher, frames, unlike=-2)
    step = max(1, _PAIRS // others_TF.size)  # of one frame with very many boxes, some of them at a time
    found: list[tuple[Ints, Ints, Singles]] = []
    for a in range(0, len(rows_SF), step):
        part = slice(a, a + step)
        overlaps_STF = _overlaps(corners_4SF[:, part], theirs_4TF, iou)
        overlaps_STF *= labels_SF[part, None] == labels_TF[None]
        at = np.flatnonzero(overlaps_STF > 0)
        s, t, f = np.unravel_index(at, overlaps_STF.shape)
        found.append((rows_SF[part][s, f], others_TF[t, f], overlaps_STF.reshape(-1)[at]))
    rows_P, others_P, overlaps_P = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows_P, others_P, overlaps_P


def _padded(boxes: Detections, frames: Ints, unlike: int) -> tuple[Ints, Singles, NDArray[np.int32]]:
    """Rows [S, F], corners [4, S, F] and labels [S, F] of some frames' boxes; the label of none is `unlike`."""
    first_F, counts_F = boxes.offsets_N1[frames], np.diff(boxes.offsets_N1)[frames]
    places_S1 = np.arange(counts_F.max())[:, None]
    there_SF = places_S1 < counts_F
    rows_SF = np.where(there_SF, first_F + places_S1, 0)
    labels_SF = np.where(there_SF, boxes.labels_B[rows_SF], np.int32(unlike))
    return rows_SF, np.ascontiguousarray(np.moveaxis(boxes.corners_B4[rows_SF], 2, 0)), labels_SF


def _overlaps(corners_4SF: Singles, theirs_4TF: Singles, iou: float) -> Singles:
    """IoU of all pairs [S, T, F], 0 where it is below the threshold or a box has no area."""
    left, top, right, bottom = corners_4SF[:, :, None]
    left_T, top_T, right_T, bottom_T = theirs_4TF[:, None]
    wide = np.minimum(right, right_T)
    other = np.maximum(left, left_T)
    wide -= other
    np.maximum(wide, 0, out=wide)
    high = np.minimum(bottom, bottom_T)
    np.maximum(top, top_T, out=other)
    high -= other
    np.maximum(high, 0, out=high)
    wide *= high  # the intersection
    np.add((right - left) * (bottom - top), (right_T - left_T) * (bottom_T - top_T), out=other)
    other -= wide  # the union
    np.maximum(other, np.finfo(np.float32).tiny, out=other)
    wide /= other
    wide *= wide >= np.float32(iou)
    return wide


def _settle(
    student: Detections, teacher: Detections, rows_P: Ints, others_P: Ints, overlaps_P: Singles, found_B: Ints
) -> None:
    """Write the matches of all pairs."""
    choices_B, wooers_B = np.bincount(rows_P, minlength=len(found_B)), np.bincount(others_P)
    alone_P = (choices_B[rows_P] == 1) & (wooers_B[others_P] == 1)
    found_B[rows_P[alone_P]] = others_P[alone_P]
    rows_P, others_P, overlaps_P = rows_P[~alone_P], others_P[~alone_P], overlaps_P[~alone_P]
    rows, at_P = np.unique(rows_P, return_inverse=True)
    order = _best_first(rows, student.scores_B, student.corners_B4)
    ranks = np.empty(len(rows), np.int64)
    ranks[order] = np.arange(len(rows))
    others, to_P = np.unique(others_P, return_inverse=True)
    theirs = np.empty(len(others), np.int64)
    theirs[_best_first(others, teacher.scores_B, teacher.corners_B4)] = np.arange(len(others))
    # Each student box's pairs together, in the order of the scores; its best teacher box first.
    preferred = np.lexsort((theirs[to_P], -overlaps_P, ranks[at_P]))
    taken = _defer(ranks[at_P][preferred], to_P[preferred], len(rows), len(others))
    has = taken >= 0
    found_B[rows[order[has]]] = others[taken[has]]


def _defer(suitors_P: Ints, wanted_P: Ints, count: int, others: int) -> Ints:
    """What each suitor gets, -1 for nothing. Lower suitors come first with everyone; pairs are in their order."""
    ends = np.searchsorted(suitors_P, np.arange(count), side="right")
    next_pair = np.searchsorted(suitors_P, np.arange(count))
    holder, taken = np.full(others, count), np.full(count, NONE)
    free = np.arange(count)
    while len(free := free[next_pair[free] < ends[free]]):
        asked = wanted_P[next_pair[free]]
        next_pair[free] += 1
        before = holder[asked]
        np.minimum.at(holder, asked, free)
        taken[before[before < count]] = NONE  # who still holds it gets it back just below
        holding = np.concatenate([free, before[before < count]])
        wants = np.concatenate([asked, asked[before < count]])
        kept = holder[wants] == holding
        taken[holding[kept]] = wants[kept]
        free = np.unique(holding[~kept])
    return taken


def _best_first(rows: Ints, scores_B: Singles, corners_B4: Singles) -> Ints:
    """The order of some boxes by score, equal ones by corners."""
    return np.lexsort((*corners_B4[rows].T[::-1], -scores_B[rows]))
