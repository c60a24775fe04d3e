"""Clusters of activations, against their definition computed plainly."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tamis.training.reports import clusters as module
from tamis.training.reports.clusters import fit, nearest


def some(count: int = 90, width: int = 4) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of three classes 0, 2 and 5."""
    generator = np.random.default_rng(1)
    labels = np.asarray([0, 2, 5])[generator.integers(0, 3, count)]
    return (generator.normal(size=(count, width)) + labels[:, None]).astype(np.float32), labels


def plainly(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N, K] (x - mean)' S^-1 (x - mean), with x of length 1 and S the covariance within classes (Lee et al., 2018)."""
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    means = np.stack([unit[labels == c].mean(axis=0) for c in np.unique(labels)])
    apart = unit - means[np.searchsorted(np.unique(labels), labels)]
    inverse = np.linalg.inv(apart.T @ apart / len(unit))
    return np.stack([((unit - mean) @ inverse * (unit - mean)).sum(axis=1) for mean in means], axis=1)


@pytest.mark.parametrize("block", [7, 4096])
def test_distances_are_mahalanobis_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    vectors, labels = some()
    found = fit(vectors, labels)
    wanted = plainly(vectors, labels)
    assert found.classes.tolist() == [0, 2, 5]
    np.testing.assert_allclose(found.squares(vectors), wanted, rtol=1e-4)
    own, other, which = nearest(found, vectors, labels)
    place, at = np.searchsorted(found.classes, labels), np.arange(len(labels))
    np.testing.assert_allclose(own, wanted[at, place], rtol=1e-4)
    wanted[at, place] = np.inf
    np.testing.assert_allclose(other, wanted.min(axis=1), rtol=1e-4)
    assert np.array_equal(which, found.classes[wanted.argmin(axis=1)])


def test_vectors_that_are_not_finite_are_passed_over() -> None:
    vectors, labels = some()
    holed = vectors.copy()
    holed[[3, 40], 1] = np.nan, np.inf
    good = np.isfinite(holed).all(axis=1)
    np.testing.assert_allclose(fit(holed, labels).centres, fit(vectors[good], labels[good]).centres, rtol=1e-9)
    own, other, which = nearest(fit(holed, labels), holed, labels)
    assert np.array_equal(np.isnan(own), ~good)
    assert np.array_equal(np.isnan(other), ~good)
    assert which[[3, 40]].tolist() == [-1, -1]
    with pytest.raises(ValueError, match="no finite vectors"):
        fit(np.full((3, 2), np.nan), np.zeros(3, np.int64))


def test_scale_does_not_count_and_dead_units_do_no_harm() -> None:
    vectors, labels = some()
    before = nearest(fit(vectors, labels), vectors, labels)
    scaled = np.concatenate(
        [vectors * np.linspace(0.1, 9, len(vectors), dtype=np.float32)[:, None], 0 * vectors], axis=1
    )
    after = nearest(fit(scaled, labels), scaled, labels)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-3)
    assert np.array_equal(after[2], before[2])
    same = np.ones((6, 3), np.float16)
    assert nearest(fit(same, np.asarray([0, 1] * 3)), same, np.asarray([0, 1] * 3))[0].tolist() == [0.0] * 6
