"""Matching and precision loss: by hand, against taking turns box by box, and for any order of boxes."""

import numpy as np
import pytest
from cullingkit import detections, random_detections, shuffled, square
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.curation import CurationError
from tamis.curation.culling import Agreement, Detections, Floors, agreement, matching
from tamis.curation.culling.matching import match

SEEDS = st.integers(0, 10_000)
ALL = Floors(0.0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    wide, high = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def turns(student: Detections, teacher: Detections, iou: float) -> list[int]:
    """Each box in the order of the scores takes the best that is free, in plain loops."""

    def key(boxes: Detections, row: int) -> tuple[float, ...]:
        return (-float(boxes.scores_B[row]), *boxes.corners_B4[row].tolist())

    found = [-1] * len(student.scores_B)
    for row in sorted(range(len(found)), key=lambda row: key(student, row)):
        frame = student.frames_B[row]
        near = [
            (-np.float32(overlap(student.corners_B4[row], teacher.corners_B4[other])), key(teacher, other), other)
            for other in range(teacher.offsets_N1[frame], teacher.offsets_N1[frame + 1])
            if teacher.labels_B[other] == student.labels_B[row] and other not in found
        ]
        if near and -min(near)[0] >= iou:
            found[row] = min(near)[2]
    return found


def test_the_better_score_takes_the_box_and_the_other_the_next_best() -> None:
    """IoU with the teacher's boxes at 0 and 10: student at 2 (.9): 38/42, 32/48; student at 0 (.8): 1, 30/50."""
    teacher = detections([("car", 1.0, square(0)), ("car", 1.0, square(10))])
    student = detections([("car", 0.8, square(0)), ("car", 0.9, square(2))])
    assert match(student, teacher).tolist() == [1, 0]
    assert match(student, teacher, iou=0.7).tolist() == [-1, 0]


def test_boxes_without_area_of_other_classes_and_of_other_frames_match_nothing() -> None:
    flat = (5.0, 5.0, 5.0, 9.0)
    teacher = detections([("car", 1.0, square(0)), ("car", 1.0, flat)], [])
    student = detections([("person", 1.0, square(0)), ("car", 1.0, flat)], [("car", 1.0, square(0))])
    assert match(student, teacher).tolist() == [-1, -1, -1]


@settings(deadline=None, max_examples=60)
@given(SEEDS, SEEDS, st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from([1, 40, 1 << 17]))
def test_it_is_taking_turns(seed: int, other: int, iou: float, pairs: int) -> None:
    """Also in blocks of a few pairs. Twins may change places: what they match has the same corners and score."""
    student, teacher = random_detections(seed), random_detections(other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_PAIRS", pairs)
        found = match(student, teacher, iou=iou)
    expected = np.array(turns(student, teacher, iou), np.int64)
    taken = found[found >= 0]
    assert len(set(taken.tolist())) == len(taken)
    cells = [
        sorted((int(student.frames_B[row]), *student.corners_B4[row], *teacher.corners_B4[to], teacher.scores_B[to])
               for row, to in enumerate(rows) if to >= 0)
        for rows in (found.tolist(), expected.tolist())
    ]  # fmt: skip
    assert cells[0] == cells[1]


def compare(student: Detections, teacher: Detections, **more: object) -> Agreement:
    return agreement(student, teacher, floors=ALL, **more)


def test_the_authors_formula_by_hand() -> None:
    """Cars of six frames: perfect 2; one of two found 2/1 + 1/1; one wrong beside a right one 1/1 + 2/1; all missed
    2/.5; two found where nothing is 2/.5; nothing at all 0."""
    car, far = ("car", 1.0, square(0)), ("car", 1.0, square(500))
    student = detections([car, far], [car], [car, far], [], [car, far], [])
    teacher = detections([car, far], [car, far], [car], [car, far], [], [])
    found = compare(student, teacher, classes=["car"])
    assert found.losses().tolist() == [2, 3, 3, 4, 4, 0]
    assert found.recall_losses_NC[:, 0].tolist() == [1, 2, 1, 4, 0, 0]
    assert found.precision_losses_NC[:, 0].tolist() == [1, 1, 2, 0, 4, 0]
    assert found.precision().tolist() == [1, 1, 0.5, 1, 0, 1]
    assert found.recall().tolist() == [1, 0.5, 1, 0, 1, 1]


def test_the_mean_over_classes_and_z_scores() -> None:
    """Persons are never seen: 0, flat. Cars 2 and 4: z of -1 and 1; means with the persons' halves."""
    car, far = ("car", 1.0, square(0)), ("car", 1.0, square(500))
    found = compare(detections([car, far], [], [car]), detections([car, far], [car, far], None))
    np.testing.assert_array_equal(found.losses(), [1, 2, np.nan])
    np.testing.assert_array_equal(found.losses(standardize=True), [-0.5, 0.5, np.nan])
    assert np.isnan(found.precision()[2])


def test_the_authors_drop_small_and_unsure_boxes_on_both_sides() -> None:
    small, unsure, good = ("car", 1.0, square(0, side=10)), ("car", 0.4, square(99)), ("car", 1.0, square(300))
    student, teacher = detections([small, good]), detections([unsure, good])
    assert agreement(student, teacher, classes=["car"]).losses().tolist() == [2]
    assert compare(student, teacher, classes=["car"]).losses().tolist() == [4]
    assert agreement(student, teacher, classes=["car"], floors=ALL, teacher_floors=Floors(0.5)).losses().tolist() == [3]


def test_classes_of_the_teacher_are_mapped_or_refused() -> None:
    student = detections([("car", 1.0, square(0))])
    teacher = detections([("bus", 1.0, square(0))], classes=("bus", "dog"))
    with pytest.raises(CurationError, match="the classes differ: bus, dog and car, person; expected the same names"):
        compare(student, teacher)
    assert compare(student, teacher, mapping={"bus": "car", "dog": None}, classes=["car"]).losses().tolist() == [2]
    with pytest.raises(CurationError, match="different classes"):
        match(student, teacher)


def test_other_frames_and_thresholds_are_refused() -> None:
    one, two = detections([]), detections([], [])
    with pytest.raises(CurationError, match="the student's boxes are of 1 frames, the teacher's of 2"):
        compare(one, two)
    for wrong in (0.0, 1.1, float("nan")):
        with pytest.raises(CurationError, match="iou is"):
            match(one, one, iou=wrong)


@settings(deadline=None, max_examples=40)
@given(SEEDS, SEEDS, SEEDS)
def test_the_order_of_boxes_does_not_matter(seed: int, other: int, order: int) -> None:
    student, teacher = random_detections(seed), random_detections(other)
    one = compare(student, teacher, iou=0.3)
    two = compare(shuffled(student, order), shuffled(teacher, order + 1), iou=0.3)
    np.testing.assert_array_equal(one.found_NC, two.found_NC)
    np.testing.assert_array_equal(one.losses(standardize=True), two.losses(standardize=True))


@settings(deadline=None, max_examples=30)
@given(SEEDS, SEEDS)
def test_a_perfect_match_gives_2_however_often_a_box_is_there(seed: int, order: int) -> None:
    """And no loss where there is something to find is less."""
    student, other = random_detections(seed), random_detections(order)
    perfect = compare(student, shuffled(student, order))
    both = perfect.recall_losses_NC + perfect.precision_losses_NC
    assert (both == np.where(perfect.teacher_NC > 0, 2, 0)).all()
    found = compare(student, other)
    assert ((found.recall_losses_NC + found.precision_losses_NC)[found.teacher_NC > 0] >= 2).all()
