"""Choosing by losses over epochs, worked by hand."""

from typing import Any

import numpy as np
import pytest

from tamis.curation import BudgetError, Choice, CurationError, Inputs
from tamis.curation.losses import forgetting_events, forgotten, newest, select_by_losses

NAN = float("nan")
LOSSES = np.array([
    [3.0, 1.0, 2.0, NAN, 5.0],
    [1.0, 1.0, NAN, NAN, 0.0],
    [0.5, 4.0, NAN, NAN, 1.0],
])  # fmt: skip
# Sample 0 is right, wrong, right; 1 never; 2 right, not recorded, wrong; 3 never recorded; 4 always right.
CORRECT = np.array([
    [1, 0, 1, -1, 1],
    [0, 0, -1, -1, 1],
    [1, 0, 0, -1, 1],
], np.int8)  # fmt: skip
FIVE = Inputs(5, losses_EN=LOSSES, correct_EN=CORRECT)


def select(inputs: Inputs, k: int, seed: int = 0, **more: Any) -> Choice:
    return select_by_losses(inputs, k=k, generator=np.random.default_rng(seed), **more)


def test_newest_and_its_age() -> None:
    losses, ages = newest(LOSSES)
    assert np.array_equal(losses, [0.5, 4.0, 2.0, NAN, 1.0], equal_nan=True)
    assert ages.tolist() == [0, 0, 2, 3, 0]


def test_forgetting() -> None:
    events, learnt = forgetting_events(CORRECT)
    assert events.tolist() == [1, 0, 1, 0, 0]
    assert learnt.tolist() == [True, False, True, False, True]
    assert forgotten(CORRECT).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("mean", [1, 2, 4, 0]),  # means 1.5, 2, 2, -, 2: the rest in the order of the samples
        ("newest", [1, 2, 4, 0]),  # .5, 4, 2, -, 1
        ("forgetting", [1, 2, 0, 4]),  # never learnt first; 2 and 0 once each, 2 with the higher newest loss
        ("forgotten", [2, 1, 4, 0]),  # 2 is wrong now; then by newest loss
    ],
)
def test_orders_by_hand(by: str, order: list[int]) -> None:
    for k in range(1, 5):
        choice = select(FIVE, k, by=by)
        assert (choice.samples.tolist(), choice.excluded) == (order[:k], 1)
        assert choice.weights.tolist() == [1.0] * k
    with pytest.raises(BudgetError, match=f"only 4 candidates have what by={by} ranks; the losses of 1 are NaN"):
        select(FIVE, 5, by=by)


def test_percentile_draws_by_share_to_the_beta() -> None:
    """Of losses 1, 2, 3 the shares are 1/3, 2/3, 1: with beta 2 the first is drawn as 1 : 4 : 9."""
    three, counts = Inputs(3, losses_EN=np.array([[1.0, 2.0, 3.0]])), np.zeros(3)
    for seed in range(4000):
        counts[select(three, 1, seed, by="percentile", beta=2.0).samples] += 1
    # Five standard deviations of a count of 4,000 draws: at most 158.
    assert np.abs(counts - 4000 * np.array([1, 4, 9]) / 14).max() < 158
    equal = Inputs(3, losses_EN=np.ones((1, 3)))
    firsts = {int(select(equal, 1, seed, by="percentile", beta=9.0).samples[0]) for seed in range(50)}
    assert firsts == {0, 1, 2}


def test_losses_that_are_too_old_are_refused() -> None:
    with pytest.raises(CurationError, match=r"of 1 samples are older than max_age=1 epochs, up to 2 \(samples 2\)"):
        select(FIVE, 1, by="newest", max_age=1)
    assert select(FIVE, 1, by="newest", max_age=2).samples.tolist() == [1]


def test_correctness_is_asked_for_by_name() -> None:
    with pytest.raises(CurationError, match="by=forgetting needs the correctness over epochs"):
        select(Inputs(5, losses_EN=LOSSES), 1, by="forgetting")
    assert select(Inputs(5, losses_EN=LOSSES), 1, by="mean").samples.tolist() == [1]
    with pytest.raises(
        CurationError, match=r"losses are float64 \[3, 5\]; expected floats \[E, 4\], a row for each of E"
    ):
        Inputs(4, losses_EN=LOSSES)
