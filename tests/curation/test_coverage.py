"""CCS, worked by hand: what is dropped, which strata get how much, and that each draws uniformly."""

from typing import Any

import numpy as np
import pytest

from tamis.curation import Choice, Inputs
from tamis.curation.coverage import select_covering, strata_of, stratum_quotas


def select(scores: Any, k: int, seed: int = 0, **more: Any) -> Choice:
    scores_MN = np.atleast_2d(np.asarray(scores, np.float64))
    inputs = Inputs(scores_MN.shape[1], scores_MN=scores_MN)
    return select_covering(inputs, k=k, generator=np.random.default_rng(seed), **more)


@pytest.mark.parametrize(
    ("sizes", "k", "quotas"),
    [
        ([1, 5, 10], 9, [1, 4, 4]),  # 9/3, but only 1; 8/2; the rest
        ([10, 5, 1], 9, [4, 4, 1]),
        ([4, 4, 4], 5, [1, 2, 2]),
        ([3, 3], 6, [3, 3]),
        ([2, 2, 2], 1, [0, 0, 1]),
    ],
)
def test_the_smallest_strata_first(sizes: list[int], k: int, quotas: list[int]) -> None:
    assert stratum_quotas(np.array(sizes), k).tolist() == quotas


def test_strata_of_equal_width() -> None:
    assert strata_of(np.array([0.0, 0.9, 1.0, 4.9, 10.0]), 10).tolist() == [0, 0, 1, 4, 9]
    assert strata_of(np.array([7.0, 7.0]), 10).tolist() == [0, 0]
    assert strata_of(np.array([-1e308, 1e308]), 50).tolist() == [0, 49]


def test_by_hand() -> None:
    """Of 0 to 9, beta .2 drops 9 and 8. Strata of width 3.5: 0-3 and 4-7; two from each."""
    choice = select(np.arange(10.0), 4, beta=0.2, strata=2)
    assert choice.notes == {"dropped": 2, "filled": 0}
    assert sorted(s // 4 for s in choice.samples.tolist()) == [0, 0, 1, 1]
    assert choice.samples.tolist() == sorted(choice.samples.tolist(), reverse=True)
    assert choice.scores is not None
    assert choice.scores.tolist() == choice.samples.tolist()


def test_a_small_stratum_gives_all_it_has() -> None:
    """50 easy samples and 2 hard ones, far apart: both of these are always in."""
    for seed in range(20):
        assert {50, 51} <= set(select([*np.linspace(0, 1, 50), 99, 100], 6, seed, beta=0.0, strata=2).samples.tolist())


def test_inside_a_stratum_the_draw_is_uniform() -> None:
    counts = np.zeros(8)
    for seed in range(2000):
        counts[select(np.arange(10.0), 4, seed, beta=0.2, strata=2).samples] += 1
    # Each of 8 is in with probability 1/2; five standard deviations of 2,000 draws are 112.
    assert np.abs(counts - 1000).max() < 112


def test_more_than_is_left_takes_the_least_hard_of_the_dropped() -> None:
    choice = select([5.0, 1.0, 4.0, 3.0, 2.0], 4, beta=0.4)
    assert (choice.samples.tolist(), choice.notes) == ([2, 3, 4, 1], {"dropped": 2, "filled": 1})
    tied = select([5.0, 5.0, 5.0, 1.0], 3, beta=0.5)
    assert (tied.samples.tolist(), tied.notes) == ([1, 2, 3], {"dropped": 2, "filled": 1})


def test_several_models_are_averaged() -> None:
    """Means 2, 4, 3: the second is the hardest and is dropped."""
    assert sorted(select([[0.0, 8.0, 3.0], [4.0, 0.0, 3.0]], 2, beta=0.34).samples.tolist()) == [0, 2]
