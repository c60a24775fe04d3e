"""k-center greedy: a case by hand, the bound of twice the smallest radius, and the plain algorithm as the oracle."""

import itertools
import math

import numpy as np
import pytest

from tamis.curation import BudgetError, Choice, Inputs, kcenter
from tamis.curation.kcenter import select_k_center


def choose(features: object, k: int) -> Choice:
    features_NE = np.asarray(features)
    inputs = Inputs(len(features_NE), features_NE=features_NE if features_NE.dtype.kind == "f" else features_NE * 1.0)
    return select_k_center(inputs, k=k, generator=np.random.default_rng(0))


def distances(features_NE: np.ndarray) -> np.ndarray:
    wide = features_NE.astype(np.float64)
    return np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2))


def plain(features_NE: np.ndarray, k: int) -> list[int]:
    """Algorithm 1 as it is printed, from the sample nearest to the mean on."""
    apart, wide = distances(features_NE), features_NE.astype(np.float64)
    chosen = [int(np.argmin(((wide - wide.mean(axis=0)) ** 2).sum(axis=1)))]
    while len(chosen) < k:
        chosen.append(int(np.argmax(apart[:, chosen].min(axis=1))))
    return chosen


def test_by_hand() -> None:
    """On a line at 0, 1, 2, 6, 10: the mean is 3.8, nearest to it 2; farthest from that 10, then 6, 0 and 1."""
    line = [[0], [1], [2], [6], [10]]
    assert choose(line, 5).samples.tolist() == [2, 4, 3, 0, 1]
    assert [choose(line, k).objective for k in (1, 2, 3, 4, 5)] == [8, 4, 2, 1, 0]


def test_equal_distances_go_to_the_lower_sample() -> None:
    """The corners of a square around its middle, and the copies of what is chosen last of all, by number."""
    corners = [[0, 0], [1, 1], [-1, -1], [1, -1], [-1, 1], [0, 0], [1, 1]]
    assert choose(corners, 7).samples.tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("seed", range(20))
def test_the_radius_is_at_most_twice_the_smallest(seed: int) -> None:
    """Gonzalez 1985, against all subsets."""
    features_NE = np.random.default_rng(seed).normal(size=(9, 2))
    apart = distances(features_NE)
    for k in (1, 2, 3, 4):
        smallest = min(apart[:, subset].min(axis=1).max() for subset in itertools.combinations(range(9), k))
        choice = choose(features_NE, k)
        assert choice.objective == pytest.approx(apart[:, choice.samples].min(axis=1).max(), rel=1e-5)
        assert choice.objective <= 2 * smallest * (1 + 1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.0, 10.0])
def test_it_is_the_plain_algorithm(dtype: type, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where most candidates are not looked at, as in clusters, and in blocks of a few rows."""
    generator = np.random.default_rng(1)
    features_NE = generator.normal(size=(300, 6)) + spread * generator.integers(0, 3, (300, 1))
    monkeypatch.setattr(kcenter, "_BLOCK", 4 * 6 * 7)
    features_NE = features_NE.astype(dtype)
    assert choose(features_NE, 60).samples.tolist() == plain(features_NE, 60)


def test_a_smaller_budget_is_the_beginning_of_a_larger_one() -> None:
    features_NE = np.random.default_rng(2).normal(size=(100, 4))
    assert choose(features_NE, 10).samples.tolist() == choose(features_NE, 50).samples.tolist()[:10]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_numbers_whose_squares_are_none(scale: float) -> None:
    features_NE = np.random.default_rng(3).normal(size=(50, 3))
    usual, scaled = choose(features_NE, 20), choose((features_NE * scale).astype(np.float32), 20)
    assert scaled.samples.tolist() == usual.samples.tolist()
    assert usual.objective is not None
    assert scaled.objective == pytest.approx(usual.objective * scale, rel=1e-4)
    assert math.isfinite(scaled.objective)


def test_clusters_that_are_far_apart_are_all_found() -> None:
    """Five of ten samples each: the first five choices are one of each."""
    generator = np.random.default_rng(4)
    label = np.repeat(np.arange(5), 10)
    features_NE = 100 * np.eye(5)[label] + generator.normal(size=(50, 5))
    assert sorted(label[choose(features_NE, 5).samples].tolist()) == [0, 1, 2, 3, 4]


def test_more_than_have_finite_features() -> None:
    features_NE = np.ones((4, 2))
    features_NE[1, 0] = np.nan
    with pytest.raises(BudgetError, match=r"only 3 candidates have finite features \(1 have"):
        choose(features_NE, 4)
