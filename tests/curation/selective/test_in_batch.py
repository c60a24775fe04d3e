"""Inclusion probabilities against the enumeration of every order in which samples can be drawn."""

import itertools

import numpy as np
import pytest

from tamis.curation import CurationError
from tamis.curation.selective.in_batch import select_in_batch


def inclusion(weights: list[float], k: int) -> np.ndarray:
    """The probability that each one is among k drawn one after the other without replacement."""
    found = np.zeros(len(weights))
    for drawn in itertools.permutations(range(len(weights)), k):
        left, chance = sum(weights), 1.0
        for i in drawn:
            chance, left = chance * weights[i] / left, left - weights[i]
        found[list(drawn)] += chance
    return found


@pytest.mark.parametrize(("n", "keep", "k"), [(4, 0.5, 2), (5, 0.25, 1), (6, 0.5, 3), (5, 0.9, 4)])
def test_inclusion_probabilities(n: int, keep: float, k: int) -> None:
    generator, times = np.random.default_rng(0), 5000
    weights = [((i + 0.5) / n) ** (1 / keep - 1) for i in range(n)]
    order = np.random.default_rng(1).permutation(n)
    losses, counts = order * 1.5, np.zeros(n)
    for _ in range(times):
        chosen = select_in_batch(losses, keep=keep, generator=generator)
        assert len(chosen) == k
        counts[chosen] += 1
    expected = inclusion(weights, k)[order]
    assert expected.sum() == pytest.approx(k)
    assert counts / times == pytest.approx(expected, abs=4.5 * np.sqrt(0.25 / times))


def test_ties_go_by_position() -> None:
    """Of equal losses the later has the higher percentile: 1/4 and 3/4, and with keep 1/2 these are the weights."""
    generator, times = np.random.default_rng(0), 3000
    first = sum(select_in_batch([2.0, 2.0], keep=0.5, generator=generator)[0] == 0 for _ in range(times))
    assert first / times == pytest.approx(0.25, abs=0.035)


def test_what_is_no_number_is_never_drawn() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        chosen = select_in_batch([np.nan, 1.0, np.inf, 2.0, 3.0], keep=0.5, generator=generator)
        assert len(chosen) == 2
        assert set(chosen) <= {1, 3, 4}
    assert select_in_batch([np.nan, 1.0], keep=1, generator=generator).tolist() == [1]
    assert select_in_batch([np.nan], keep=0.5, generator=generator).tolist() == []
    assert select_in_batch([], keep=0.5, generator=generator).tolist() == []


def test_the_number_drawn() -> None:
    generator = np.random.default_rng(0)
    assert len(select_in_batch(np.arange(128), keep=0.33, generator=generator)) == 42
    assert len(select_in_batch(np.arange(128), keep=1e-9, generator=generator)) == 1  # weights below the least number
    assert select_in_batch(np.arange(9), keep=1, generator=generator).tolist() == list(range(9))


@pytest.mark.parametrize("keep", [0, -1, 1.5, float("nan")])
def test_refuses_parts(keep: float) -> None:
    with pytest.raises(CurationError, match="above 0, up to 1"):
        select_in_batch([1.0], keep=keep, generator=np.random.default_rng(0))
