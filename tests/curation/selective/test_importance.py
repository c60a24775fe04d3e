"""Kath18: multinomial frequencies, and tau by its formula and by the variance that it stands for."""

import numpy as np
import pytest

from tamis.curation import CurationError
from tamis.curation.selective.importance import VarianceGain, draw_in_proportion, threshold_of, variance_gain


def drawn(scores: object, draws: int, times: int = 1) -> np.ndarray:
    generator, counts = np.random.default_rng(0), np.zeros(len(np.asarray(scores)))
    for _ in range(times):
        positions, multiplicities = draw_in_proportion(scores, draws, generator)  # type: ignore[arg-type]  # lists and arrays alike
        assert (np.diff(positions) > 0).all()
        assert multiplicities.min() > 0
        assert multiplicities.sum() == draws
        counts[positions] += multiplicities
    return counts


def test_frequencies_are_in_proportion() -> None:
    counts = drawn([1.0, 0.0, 2.0, 5.0], draws=40, times=2000)
    assert counts[1] == 0
    assert counts / counts.sum() == pytest.approx([1 / 8, 0, 2 / 8, 5 / 8], abs=0.01)


@pytest.mark.parametrize("scores", [[0.0, 0.0, 0.0], [7.0, 7.0, 7.0], [1e308, 1e308, 1e308]])
def test_equal_scores_are_drawn_alike(scores: list[float]) -> None:
    assert drawn(scores, draws=3000) / 3000 == pytest.approx([1 / 3] * 3, abs=0.05)


def test_what_is_no_number_is_never_drawn() -> None:
    counts = drawn([np.nan, 1.0, np.inf, 0.0], draws=50)
    assert counts.tolist() == [0, 50, 0, 0]
    assert [len(found) for found in draw_in_proportion([np.nan], 5, np.random.default_rng(0))] == [0, 0]


def test_tau_by_the_formula() -> None:
    """1/tau = sqrt(1 - |g - u|^2 / |g|^2) with scores 3 and 1: g = (3/4, 1/4), so 1/tau^2 = 1 - (1/8)/(5/8)."""
    assert variance_gain([3.0, 1.0]) == pytest.approx((1 - 0.125 / 0.625) ** -0.5)
    scores = np.random.default_rng(0).exponential(size=100)
    g, u = scores / scores.sum(), 1 / 100
    assert variance_gain(scores) == pytest.approx((1 - np.sum((g - u) ** 2) / np.sum(g**2)) ** -0.5)


def test_tau_squared_is_the_ratio_of_second_moments() -> None:
    """Estimating sum G by one draw: uniform has the second moment B sum G^2, in proportion to G (sum G)^2."""
    norms = np.random.default_rng(1).exponential(size=50)
    assert variance_gain(norms) ** 2 == pytest.approx(50 * np.sum(norms**2) / np.sum(norms) ** 2)


def test_tau_has_bounds() -> None:
    assert variance_gain([5.0] * 9) == pytest.approx(1)
    assert variance_gain([0.0] * 9) == pytest.approx(1)
    assert variance_gain([0.0] * 8 + [2.0]) == pytest.approx(3)  # the square root of B
    assert variance_gain([]) == 1


def test_begins_when_the_running_mean_passes_the_threshold() -> None:
    """A pool of 640 for batches of 128 pays from tau = (640 + 384)/384 = 8/3 on."""
    threshold, gain = threshold_of(640, 128), VarianceGain()
    assert threshold == pytest.approx(8 / 3)
    scores = [0.0] * 15 + [1.0]  # tau = 4: the mean is 4 (1 - .9^n), above 8/3 from n = 11 on
    passed = [gain.update(scores) > 0 and gain.exceeds(threshold) for _ in range(12)]
    assert passed == [False] * 10 + [True] * 2
    assert gain.update([np.nan]) == gain.value == pytest.approx(4 * (1 - 0.9**12))
    assert VarianceGain(0.5, value=2.0).update([1.0]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: drawn([1.0, -1.0], 1), "1 of 2 scores are negative"),
        (lambda: drawn([1.0], 0), "at least 1"),
        (lambda: variance_gain([[1.0]]), "one dimension"),
        (lambda: threshold_of(10, 11), "no more than the pool"),
        (lambda: threshold_of(10, 0), "at least 1"),
        (lambda: VarianceGain(1.0), "momentum of 1.0"),
    ],
)
def test_refuses(call: object, said: str) -> None:
    with pytest.raises(CurationError, match=said):
        call()  # type: ignore[operator]  # cases are functions, typed as objects
