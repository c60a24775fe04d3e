"""Inputs: a shape or type that no method could use is refused before one starts."""

import numpy as np
import pytest

from tamis.curation.contract import Inputs
from tamis.curation.errors import CurationError


def test_everything_may_be_missing_but_the_candidates() -> None:
    inputs = Inputs(3)
    assert (inputs.labels_N, inputs.scores_MN, inputs.correct_MN) == (None, None, None)


def test_what_is_there_is_handed_on_as_it_is() -> None:
    labels, scores, correct = np.arange(3), np.full((2, 3), np.nan), np.zeros((2, 3), bool)
    inputs = Inputs(3, labels, scores, correct)
    assert inputs.labels("a test") is labels
    assert inputs.scores("a test") is scores
    assert inputs.correct("a test") is correct


def test_what_is_missing_is_named_with_who_needs_it() -> None:
    inputs = Inputs(3)
    for read, what in ((inputs.labels, "labels"), (inputs.scores, "scores"), (inputs.correct, "correctness")):
        with pytest.raises(CurationError, match=f"my method needs the {what}"):
            read("my method")


@pytest.mark.parametrize("n", [0, -1])
def test_no_candidates_are_refused(n: int) -> None:
    with pytest.raises(CurationError, match="at least one candidate"):
        Inputs(n)


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels_N": np.zeros(4, np.int64)},
        {"labels_N": np.zeros(3)},
        {"labels_N": np.zeros((3, 1), np.int64)},
        {"scores_MN": np.zeros(3)},
        {"scores_MN": np.zeros((3, 2))},
        {"scores_MN": np.zeros((0, 3))},
        {"scores_MN": np.zeros((1, 3), np.int64)},
        {"scores_MN": np.zeros(())},
        {"correct_MN": np.zeros((1, 3))},
        {"correct_MN": np.zeros(3, bool)},
    ],
)
def test_another_shape_or_type_is_refused(wrong: dict[str, np.ndarray]) -> None:
    (name,) = wrong
    with pytest.raises(CurationError, match=f"{name.split('_')[0]} are .*; expected .*3"):
        Inputs(3, **wrong)
