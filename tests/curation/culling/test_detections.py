"""Detections: what is refused, and how classes are mapped and boxes cut."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cullingkit import detections, square

from tamis.curation import CurationError, NonFiniteError
from tamis.curation.culling import Detections
from tamis.curation.culling.detections import numbers_of

GOOD = detections([("car", 0.9, square(0)), ("person", 0.5, square(9))], None, [("car", 0.4, square(5))])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offsets_N1": np.array([0, 2, 2], np.int64)}, r"offsets of detections are int64 \[3\]; expected int64 \[4\]"),
        ({"offsets_N1": np.array([0, 2, 1, 3], np.int64)}, "expected ascending ones from 0 to the 3 boxes"),
        ({"offsets_N1": np.array([0, 2, 2, 4], np.int64)}, "offsets run from 0 to 4"),
        ({"labels_B": np.array([0, 1, 0])}, r"labels of detections are int64 \[3\]; expected int32 \[3\]"),
        ({"labels_B": np.array([0, 2, 0], np.int32)}, r"1 of 3 boxes \(rows 1\) have an unknown class"),
        ({"labels_B": np.array([0, -1, 0], np.int32)}, "unknown class; expected numbers of the 2 classes"),
        ({"scores_B": np.array([0.9, 1.5, 0.2], np.float32)}, "a score that is none; expected 0 to 1"),
        ({"status_N": np.array([1, 0, 0], np.int8)}, "expected no boxes where the detector did not look"),
        ({"status_N": np.array([1, 3, 1], np.int8)}, "expected 1, 0 or -1"),
        ({"classes": ("car", "car")}, "expected each name once"),
    ],
)
def test_bad_detections_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(CurationError, match=words):
        replace(GOOD, **changes)


def test_boxes_in_the_wrong_order_and_nan_are_refused() -> None:
    with pytest.raises(CurationError, match=r"corners in the wrong order; expected left, top, right, bottom"):
        detections([("car", 0.9, (10, 0, 5, 5))])
    with pytest.raises(NonFiniteError, match=r"1 of 2 scores are NaN or infinite \(samples 1\)"):
        detections([("car", 0.9, square(0))], [("car", float("nan"), square(0))])
    with pytest.raises(NonFiniteError, match="1 of 1 boxes are NaN"):
        detections([("car", 0.9, (0, 0, float("inf"), 5))])


def test_whatever_has_the_arrays_will_do() -> None:
    class Stored:
        offsets_N1, labels_B, scores_B = GOOD.offsets_N1, GOOD.labels_B, GOOD.scores_B
        corners_B4, status_N, classes = GOOD.corners_B4, GOOD.status_N, list(GOOD.classes)

    again = Detections.of(Stored())
    assert again.classes == GOOD.classes
    assert again.looked_N.tolist() == [True, False, True]
    assert again.frames_B.tolist() == [0, 0, 2]


def test_names_decide_where_both_lists_have_them() -> None:
    assert GOOD.mapped(("car", "person")) is GOOD
    assert GOOD.mapped(("person", "car")).labels_B.tolist() == [1, 0, 1]


def test_several_classes_become_one_and_others_are_left_out() -> None:
    """As the authors make cars of buses and trucks."""
    given = detections(
        [("bus", 0.9, square(0)), ("truck", 0.8, square(1))], [("dog", 0.7, square(2)), ("car", 0.6, square(3))],
        classes=("bus", "truck", "dog", "car"),
    )  # fmt: skip
    mapped = given.mapped(("person", "car"), {"bus": "car", "truck": "car", "car": "car", "dog": None})
    assert mapped.labels_B.tolist() == [1, 1, 1]
    assert mapped.offsets_N1.tolist() == [0, 2, 3]
    assert mapped.classes == ("person", "car")


@pytest.mark.parametrize("mapping", [None, {"car": "auto"}, {"car": "auto", "person": "people"}])
def test_classes_that_differ_need_a_whole_mapping(mapping: dict[str, str | None] | None) -> None:
    with pytest.raises(CurationError, match="expected"):
        GOOD.mapped(("auto", "dog"), mapping)


def test_boxes_are_cut_to_the_image() -> None:
    given = detections(
        [("car", 0.9, (-10, -10, 30, 30)), ("car", 0.8, (-10, 0, -5, 5)), ("car", 0.7, (110, 20, 130, 30)),
         ("car", 0.6, (5, 5, 5, 9))]
    )  # fmt: skip
    cut = given.within(np.array([[100, 50]]))
    assert cut.corners_B4.tolist() == [[0, 0, 30, 30], [5, 5, 5, 9]]


def test_classes_of_interest() -> None:
    assert numbers_of(GOOD, ["person"]).tolist() == [1]
    for wrong in (["dog"], ["car", "car"], []):
        with pytest.raises(CurationError, match=re.escape("expected some of car, person, each once")):
            numbers_of(GOOD, wrong)
