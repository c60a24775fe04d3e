"""Clusters of activations: one a class, of one shape, and how far a sample's vector is from each.

What: `fit` takes the mean of each class's vectors and the covariance within classes, which all share; `nearest` gives
Mahalanobis distances to the means. Vectors are scaled to length 1 first, so that what counts is which units fire
together, not how strongly.
When: to ask what a network sees in a sample, whatever its label says. Labels may be wrong: a mean over many samples
hardly moves, and wrong labels are far from their own cluster all the more.
How: one pass over the vectors, in blocks, sums them by class and their products. A direction in which nothing varies
within classes counts as one with a millionth of the mean variance.
Cost: N E (E + K) multiplications for each of the two; memory for a block, E x E and K x E.
Source: K. Lee, K. Lee, H. Lee and J. Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
Adversarial Attacks", 2018, equations 1 and 2; the same model under noisy labels: K. Lee et al., "Robust Inference via
Generative Classifiers for Handling Noisy Labels", 2019. Departures: lengths of 1; no minimum covariance determinant.

Legend: N samples, E numbers a vector, K classes, B samples of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.floating[Any]]
_BLOCK = 4096
_JITTER = 1e-6  # of the mean variance


@dataclass(frozen=True)
class Clusters:
    """Clusters of K classes.

    Attributes:
        classes: [K] class numbers, rising.
        whiten: [E, E] turns a vector into one whose numbers vary by 1 within classes, independently.
        centres: [K, E] means of the classes, turned.
    """

    classes: Ints
    whiten: Floats
    centres: Floats

    def squares(self, vectors_BE: Vectors) -> Floats:
        """[B, K] squared distances; NaN for a vector that is not finite."""
        turned_BE = _unit(vectors_BE) @ self.whiten
        cross_BK = turned_BE @ self.centres.T
        norms_B, norms_K = (turned_BE**2).sum(axis=1), (self.centres**2).sum(axis=1)
        return np.maximum(norms_B[:, None] - 2 * cross_BK + norms_K, 0.0)


def fit(vectors_NE: Vectors, labels_N: Ints) -> Clusters:
    """The clusters of some samples' classes.

    Args:
        vectors_NE: perhaps mapped from a file; a vector that is not finite is passed over.
        labels_N: class numbers.

    Raises:
        ValueError: there is no class with a finite vector.
    """
    classes_K = np.unique(np.concatenate([labels_N[rows][good] for rows, _, good in _blocks(vectors_NE)] or [[]]))
    if not len(classes_K):
        raise ValueError("There are no finite vectors: expected at least one.")
    width = vectors_NE.shape[1]
    sums_KE, products_EE = np.zeros((len(classes_K), width)), np.zeros((width, width))
    counts_K = np.zeros(len(classes_K), np.int64)
    for rows, block_BE, good_B in _blocks(vectors_NE):
        unit_BE, place_B = _unit(block_BE[good_B]), np.searchsorted(classes_K, labels_N[rows][good_B])
        products_EE += unit_BE.T @ unit_BE
        counts_K += np.bincount(place_B, minlength=len(classes_K))
        sums_KE += (np.arange(len(classes_K))[:, None] == place_B).astype(np.float64) @ unit_BE
    means_KE = sums_KE / counts_K[:, None]
    within_EE = (products_EE - (means_KE * counts_K[:, None]).T @ means_KE) / counts_K.sum()
    floor = max(_JITTER * float(np.trace(within_EE)) / width, np.finfo(np.float64).eps)
    variance_E, axes_EE = np.linalg.eigh(within_EE)
    whiten_EE = axes_EE / np.sqrt(np.maximum(variance_E, 0.0) + floor)
    return Clusters(classes_K.astype(np.int64), whiten_EE, means_KE @ whiten_EE)


def nearest(clusters: Clusters, vectors_NE: Vectors, labels_N: Ints) -> tuple[Floats, Floats, Ints]:
    """How far each sample is from its own class's cluster and from the nearest other, and which that is.

    Args:
        clusters: of two classes or more.
        vectors_NE: perhaps mapped from a file.
        labels_N: class numbers, each of one of the clusters where its vector is finite.

    Returns:
        [N] squared distance to the own cluster, [N] to the nearest other, [N] its class; NaN, NaN and -1 for a vector
        that is not finite.
    """
    own_N, other_N = np.full(len(labels_N), np.nan), np.full(len(labels_N), np.nan)
    which_N = np.full(len(labels_N), -1, np.int64)
    for rows, block_BE, good_B in _blocks(vectors_NE):
        numbers = np.arange(rows.start, rows.stop)[good_B]
        squares, place = clusters.squares(block_BE[good_B]), np.searchsorted(clusters.classes, labels_N[numbers])
        at = np.arange(len(numbers))
        own_N[numbers] = squares[at, place]
        squares[at, place] = np.inf
        which = squares.argmin(axis=1)
        other_N[numbers], which_N[numbers] = squares[at, which], clusters.classes[which]
    return own_N, other_N, which_N


def _blocks(vectors_NE: Vectors) -> Iterator[tuple[slice, Floats, NDArray[np.bool_]]]:
    """Rows, their vectors, and which of them are finite."""
    for start in range(0, len(vectors_NE), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(vectors_NE)))
        block_BE = np.asarray(vectors_NE[rows], np.float64)
        yield rows, block_BE, np.asarray(np.isfinite(block_BE).all(axis=1))


def _unit(vectors_BE: Vectors) -> Floats:
    """Vectors of length 1; one of zeros stays what it is."""
    norms_B = np.linalg.norm(vectors_BE.astype(np.float64), axis=1, keepdims=True)
    return vectors_BE / np.where(norms_B > 0, norms_B, 1.0)
