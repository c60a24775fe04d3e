"""SemDeDup by hand and against plain loops; intermittent sampling and culling by hand."""

from typing import Any

import numpy as np
import pytest

from tamis.curation import BudgetError, Choice, Inputs
from tamis.curation.culling import semdedup
from tamis.curation.culling.clusters import spherical_clusters, units
from tamis.curation.culling.intermittent import select_intermittent
from tamis.curation.culling.method import select_hard_frames
from tamis.curation.culling.semdedup import select_semdedup


def choose(features_NE: Any, k: int, seed: int = 0, **more: Any) -> Choice:
    features_NE = np.asarray(features_NE, np.float32)
    inputs = Inputs(len(features_NE), features_NE=features_NE)
    return select_semdedup(inputs, k=k, generator=np.random.default_rng(seed), **more)


def angles(*degrees: float) -> np.ndarray:
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1) * np.arange(1, len(degrees) + 1)[:, None]


def test_kept_and_earlier_by_hand() -> None:
    """Angles 0, 8, 16, 70 around a centroid of 23.2: least similar first 70, 0, 8, 16. Above cos 10 is a duplicate.

    8 is one of 0. 16 is one of 8, which was dropped, and none of 0: kept, but not by the authors' code.
    """
    eps = 1 - np.cos(np.radians(10))
    line = angles(0, 8, 16, 70)
    assert sorted(choose(line, 3, eps=eps).samples.tolist()) == [0, 2, 3]
    assert sorted(choose(line, 2, eps=eps, compare="earlier").samples.tolist()) == [0, 3]
    with pytest.raises(BudgetError, match="leaves only 2 of 4: ask for fewer, or lower eps"):
        choose(line, 3, eps=eps, compare="earlier")


def test_scores_are_how_far_what_was_kept_before_is() -> None:
    choice = choose(angles(0, 8, 16, 70), 4)
    assert choice.samples.tolist() == [3, 0, 1, 2]
    assert choice.scores is not None
    expected = [2, 1 - np.cos(np.radians(70)), *[1 - np.cos(np.radians(8))] * 2]
    np.testing.assert_allclose(choice.scores, expected, atol=1e-6)
    assert choice.notes["threshold"] == pytest.approx(np.cos(np.radians(8)), abs=1e-6)


def test_copies_are_what_a_budget_leaves_out() -> None:
    """Thirty samples and two copies of each: the thirty are chosen, once each, whatever the clusters."""
    features_NE = np.random.default_rng(0).normal(size=(30, 8))
    for clusters in (1, 4):
        chosen = choose(np.tile(features_NE, (3, 1)), 30, clusters=clusters).samples
        assert sorted((chosen % 30).tolist()) == list(range(30))


@pytest.mark.parametrize("block", [1, 300, 1 << 22])
def test_nearest_before_is_the_plain_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semdedup, "_BLOCK", block)
    units_PE = units(np.random.default_rng(1).normal(size=(60, 3)))
    ordered = spherical_clusters(units_PE, 3, np.random.default_rng(2))
    levels = [0.5, 0.9, np.inf]
    found_LP = semdedup.nearest_before(units_PE, ordered, levels)
    for level, found_P in zip(levels, found_LP, strict=True):
        for rows in ordered:
            kept: list[int] = []
            for row in rows.tolist():
                nearest = max((float(units_PE[row] @ units_PE[one]) for one in kept), default=-1.0)
                assert found_P[row] == pytest.approx(nearest, abs=1e-6)
                if nearest <= level:
                    kept.append(row)


def test_clusters_that_are_far_apart_are_found_and_ordered() -> None:
    """Three directions: a cluster each from a start in each, the sample least like its centroid first."""
    generator = np.random.default_rng(3)
    directions = np.repeat(np.eye(3), 20, axis=0)
    units_PE = units(directions + 0.1 * generator.normal(size=(60, 3)))
    starts = [
        seed for seed in range(60) if len({s // 20 for s in np.random.default_rng(seed).permutation(60)[:3]}) == 3
    ]
    ordered = spherical_clusters(units_PE, 3, np.random.default_rng(starts[0]))
    assert sorted(sorted(rows.tolist()) for rows in ordered) == [list(range(a, a + 20)) for a in (0, 20, 40)]
    for rows in ordered:
        cosines = units_PE[rows] @ units_PE[rows].sum(axis=0)
        assert (np.diff(cosines) >= -1e-4).all()


def test_vectors_of_no_length_and_of_extreme_ones() -> None:
    features_NE = np.random.default_rng(4).normal(size=(20, 4)).astype(np.float32)
    usual = choose(features_NE, 10).samples.tolist()
    assert choose(features_NE * np.float32(1e30), 10).samples.tolist() == usual
    assert len(choose(np.zeros((5, 3)), 5).samples) == 5


def intermittent(n: int, k: int, seed: int = 0, **more: Any) -> list[int]:
    return select_intermittent(Inputs(n), k=k, generator=np.random.default_rng(seed), **more).samples.tolist()


def test_intermittent_by_hand() -> None:
    assert intermittent(10, 5) == [0, 2, 4, 6, 8]
    assert intermittent(10, 4) == [0, 2, 5, 7]
    assert intermittent(10, 10) == list(range(10))


def test_a_random_phase_makes_every_sample_as_likely() -> None:
    counts = np.zeros(10)
    for seed in range(2000):
        counts[intermittent(10, 4, seed, random_phase=True)] += 1
    # Each of 10 is in with probability .4; five standard deviations of 2,000 draws are 110.
    assert np.abs(counts - 800).max() < 110


def test_culling_leaves_out_what_was_not_looked_at() -> None:
    scores_MN = np.array([[0.5, np.nan, 2.0, 2.0, -1.0]])
    choice = select_hard_frames(Inputs(5, scores_MN=scores_MN), k=3, generator=np.random.default_rng(0))
    assert (choice.samples.tolist(), choice.excluded) == ([2, 3, 0], 1)
    with pytest.raises(BudgetError, match="only 4 candidates have losses"):
        select_hard_frames(Inputs(5, scores_MN=scores_MN), k=5, generator=np.random.default_rng(0))
