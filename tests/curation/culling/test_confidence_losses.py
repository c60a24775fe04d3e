"""Confidence loss and entropy: the values of the formula, sums by hand, and that the order of boxes does not matter."""

import math

import numpy as np
import pytest
from cullingkit import detections, random_detections, shuffled, square
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.curation import CurationError
from tamis.curation.culling import PRESETS, Detections, Floors, box_entropies, confidence_losses
from tamis.curation.culling.confidence import class_confidence_losses, confidence_of
from tamis.curation.culling.entropy import entropy_of

SEEDS = st.integers(0, 10_000)


def test_the_formula() -> None:
    """f at Q = 4; a sure box still counts one half."""
    found = confidence_of(np.array([0.3, 0.5, 0.8, 1.0]))
    np.testing.assert_allclose(found, [1.53, 1.41, 0.95, 0.5], atol=0.005)
    assert confidence_of(np.array([0.0]))[0] == pytest.approx(1.0)  # sigmoid(0) + .5


def test_q_has_an_effect() -> None:
    """With Q = 0 only (1 - x) sigmoid(x) + .5 is left."""
    assert confidence_of(np.array([0.5]), q=0)[0] == pytest.approx(0.5 / (1 + math.exp(-0.5)) + 0.5)
    with pytest.raises(CurationError, match="q is -1"):
        confidence_of(np.array([0.5]), q=-1)


def test_floors_of_the_authors_and_of_the_paper() -> None:
    given_ = detections(
        [("car", 0.6, square(0, side=20)), ("car", 0.6, square(0, side=19)), ("car", 0.3, square(0)),
         ("car", 0.1, square(0))]
    )  # fmt: skip
    assert PRESETS["authors"].kept(given_).scores_B.tolist() == pytest.approx([0.6])
    assert PRESETS["paper"].kept(given_).scores_B.tolist() == pytest.approx([0.6, 0.6, 0.3])
    with pytest.raises(CurationError, match="floors"):
        Floors(1.5)


def test_by_hand() -> None:
    """Cars: sums .5, 1, .5 of boxes of score 1, mean 2/3 and deviation .2357: z of -1/sqrt 2, sqrt 2, -1/sqrt 2.
    Persons: the same in every frame, so 0. The mean of the two is half of the cars'."""
    sure, person = ("car", 1.0, square(0)), ("person", 1.0, square(0))
    student = detections([sure, person], [sure, person, sure], None, [sure, person])
    sums = [[0.5, 0.5], [1.0, 0.5], [0, 0], [0.5, 0.5]]
    np.testing.assert_allclose(class_confidence_losses(student), sums, atol=4e-5)  # log10(1 + 1e-5) is not quite 0
    root = math.sqrt(2)
    np.testing.assert_allclose(confidence_losses(student), [-root / 4, root / 2, np.nan, -root / 4])
    np.testing.assert_allclose(confidence_losses(student, classes=["person"]), [0, 0, np.nan, 0])
    np.testing.assert_allclose(confidence_losses(student, standardize=False), [0.5, 0.75, np.nan, 0.5], atol=4e-5)


def test_frames_without_boxes_are_the_easiest_and_failed_ones_have_no_loss() -> None:
    student = detections([], [("car", 0.5, square(0))], None, status=-1)
    losses = confidence_losses(student, classes=["car"])
    assert losses[0] == -1
    assert losses[1] == 1
    assert np.isnan(losses[2])
    assert np.isnan(confidence_losses(detections(None, None))).all()


def test_entropy_by_hand() -> None:
    assert entropy_of(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0, math.log(2), 0])
    assert entropy_of(np.array([0.25]))[0] == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    student = detections([("car", 0.5, square(0)), ("person", 1.0, square(0))], [], None)
    half = math.log(2)
    for over, first in (("sum", half), ("mean", half / 2), ("max", half)):
        np.testing.assert_allclose(box_entropies(student, over=over), [first, 0, np.nan], atol=1e-8)
    np.testing.assert_allclose(box_entropies(student, classes=["person"]), [0, 0, np.nan], atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(SEEDS, SEEDS)
def test_the_order_of_boxes_does_not_matter(seed: int, other: int) -> None:
    """To the last bit."""
    student = random_detections(seed)
    moved = shuffled(student, other)
    floors = PRESETS["paper"]
    np.testing.assert_array_equal(confidence_losses(student, floors=floors), confidence_losses(moved, floors=floors))
    for over in ("sum", "mean", "max"):
        np.testing.assert_array_equal(box_entropies(student, over=over), box_entropies(moved, over=over))


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_a_box_that_is_there_twice_counts_twice(seed: int) -> None:
    one = random_detections(seed)
    twice = Detections(
        one.offsets_N1 * 2, np.repeat(one.labels_B, 2), np.repeat(one.scores_B, 2),
        np.repeat(one.corners_B4, 2, axis=0), one.status_N, one.classes,
    )  # fmt: skip
    np.testing.assert_array_equal(class_confidence_losses(twice), 2 * class_confidence_losses(one))
