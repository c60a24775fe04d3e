"""InfoBatch: unbiased, by enumeration of every outcome, and which samples it may leave out."""

import itertools

import numpy as np
import pytest

from tamis.curation import CurationError
from tamis.curation.selective.infobatch import is_complete, prune


class Scripted(np.random.Generator):
    """A generator whose numbers are given: it takes one branch of the enumeration."""

    def __init__(self, numbers: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.numbers = numbers

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]  # a generator that gives what it is told
        assert size == len(self.numbers)
        return self.numbers


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_weighted_sum_is_unbiased(ratio: float) -> None:
    """The mean over all 2^5 outcomes of sum w g, by their probabilities, is the sum of g."""
    losses, gradients = np.array([0.1, 0.4, 2.0, 3.0, 0.2]), np.array([1.0, -2.0, 3.0, 5.0, 7.0])
    expected = 0.0
    for low in itertools.product((True, False), repeat=5):
        numbers = np.where(low, ratio / 2, (1 + ratio) / 2)  # below the ratio: left out, if the loss is below the mean
        weights = prune(losses, ratio=ratio, generator=Scripted(numbers))
        assert (weights[losses > losses.mean()] == 1).all()
        expected += np.prod(np.where(low, ratio, 1 - ratio)) * (weights * gradients).sum()
    assert expected == pytest.approx(gradients.sum())


def test_frequency_and_weights() -> None:
    generator, losses = np.random.default_rng(0), np.array([0.0] * 5000 + [1.0] * 5000)
    weights = prune(losses, ratio=0.3, generator=generator)
    assert weights.dtype == np.float32
    assert (weights[:5000] == 0).mean() == pytest.approx(0.3, abs=0.03)
    assert set(weights[:5000]) == {0, np.float32(1 / 0.7)}
    assert set(weights[5000:]) == {1}


@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3])
def test_equal_to_the_mean_counts_as_kept(value: float) -> None:
    """Also where the mean of equal numbers, as computed, is above them."""
    assert (prune([value] * 7, ratio=0.99, generator=np.random.default_rng(0)) == 1).all()
    assert (prune([1.0, 2.0, 3.0], ratio=0.99, generator=np.random.default_rng(0))[1:] == 1).all()


def test_what_was_never_measured_stays() -> None:
    weights = prune([np.nan, 0.0, np.inf, 10.0, np.nan], ratio=0.999, generator=np.random.default_rng(0))
    assert weights.tolist() == [1, 0, 1, 1, 1]
    assert prune([np.nan] * 3, generator=np.random.default_rng(0)).tolist() == [1, 1, 1]
    assert prune([], generator=np.random.default_rng(0)).tolist() == []


def test_the_first_and_the_last_epochs_are_complete() -> None:
    """Of 200 epochs with delta .875: epoch 0, and 175 to 199."""
    assert [e for e in range(200) if is_complete(e, 200)] == [0, *range(175, 200)]
    assert [is_complete(e, 3, delta=1) for e in range(3)] == [True, False, False]


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan")])
def test_refuses(ratio: float) -> None:
    with pytest.raises(CurationError, match="ratio"):
        prune([1.0], ratio=ratio, generator=np.random.default_rng(0))
    with pytest.raises(CurationError, match="delta"):
        is_complete(1, 2, delta=-1 if ratio < 0 else 1 + ratio)
