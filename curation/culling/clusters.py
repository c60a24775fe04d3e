"""Spherical k-means: unit vectors around centroids of the highest cosine.

How: Lloyd's iterations from samples drawn at random, at most 20, on at most 256 samples a cluster; then every sample
goes to the centroid of the highest cosine (equal ones: the lower number). A centroid that loses all its samples stays
where it was.
Cost: 4 N C E operations an iteration, as matrix products; blocks of 16 MiB.
Source: I. Dhillon, D. Modha. Concept Decompositions for Large Sparse Text Data using Clustering. Machine Learning 42,
2001.
Legend: P samples, E features, C clusters.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
_ITERATIONS = 20
_FITTED = 256  # samples a cluster that the centroids are fitted to
_BLOCK = 4 << 20  # numbers at a time


def units(features_PE: NDArray[np.floating]) -> Singles:
    """Rows divided by their length, float32; rows of zeros stay."""
    found = np.empty(features_PE.shape, np.float32)
    for rows in _blocks(len(features_PE), features_PE.shape[1]):
        block = features_PE[rows].astype(np.float64)
        block /= np.maximum(np.abs(block).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        length = np.sqrt(np.einsum("pe,pe->p", block, block))[:, None]
        found[rows] = block / np.where(length > 0, length, 1)
    return found


def spherical_clusters(units_PE: Singles, count: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """The samples of each cluster, the one least like its centroid first, equal ones by number.

    Args:
        units_PE: unit vectors.
        count: of clusters, 1 to P.
        generator: draws the first centroids, and which samples are fitted to where there are many.

    Returns:
        int64 arrays, which hold every sample once; empty clusters are left out.
    """
    drawn = generator.permutation(len(units_PE))[: max(count, min(len(units_PE), count * _FITTED))]
    centroids_CE, fitted = units_PE[drawn[:count]].copy(), units_PE[np.sort(drawn)]
    before = np.full(len(fitted), -1)
    for _ in range(_ITERATIONS):
        near, _ = _nearest(fitted, centroids_CE)
        if np.array_equal(near, before):
            break
        before = near
        centroids_CE = _centroids(fitted, near, centroids_CE)
    near, cosines = _nearest(units_PE, centroids_CE)
    order = np.lexsort((cosines, near))
    ends = np.flatnonzero(np.diff(near[order])) + 1
    return np.split(order, ends)


def _nearest(rows_PE: Singles, centroids_CE: Singles) -> tuple[NDArray[np.int64], Singles]:
    near, cosines = np.empty(len(rows_PE), np.int64), np.empty(len(rows_PE), np.float32)
    for rows in _blocks(len(rows_PE), max(centroids_CE.shape)):
        block = rows_PE[rows] @ centroids_CE.T
        near[rows] = block.argmax(axis=1)
        cosines[rows] = block.max(axis=1)
    return near, cosines


def _centroids(rows_PE: Singles, near: NDArray[np.int64], centroids_CE: Singles) -> Singles:
    sums_CE = np.zeros(centroids_CE.shape, np.float64)
    for rows in _blocks(len(rows_PE), max(centroids_CE.shape)):
        members = np.zeros((len(near[rows]), len(centroids_CE)), np.float32)
        members[np.arange(len(members)), near[rows]] = 1
        sums_CE += members.T @ rows_PE[rows]
    empty = ~(np.abs(sums_CE).max(axis=1) > 0)
    return np.where(empty[:, None], centroids_CE, units(sums_CE))


def _blocks(count: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(width, 1))
    for a in range(0, count, step):
        yield slice(a, a + step)
