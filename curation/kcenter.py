"""k-center: choose samples so that every sample is near a chosen one, in the features of a model.

What it does:
    The core-set of a dataset for a model is a set S of k samples that covers the others by balls of the smallest radius
    max_i min_{j in S} |x_i - x_j|, with x the features that the model makes of the samples. Finding it is NP-hard;
    farthest-first traversal (Algorithm 1, "k-Center-Greedy") finds one whose radius is at most twice the smallest: the
    next sample is always the one that is farthest from those chosen so far, so that the choices are nested: a smaller
    budget gives the beginning of a larger one. All weights are 1; the objective is the radius.

When to use it:
    Where samples repeat each other: what is alike is chosen once, and rare kinds of samples are kept; so are outliers
    and broken images, which come first. No labels are needed. The paper adds to a pool of labelled CIFAR-10, CIFAR-100
    and SVHN images, thousands at a time; it is not made for budgets of a few samples a class. Use features of a model
    that has seen like data, taken before its last layer. The choice to beat is "random".

Cost:
    O(N E k) time: the features are read once for each chosen sample, as a matrix product. Beside the features 16 bytes
    a sample, and blocks of 4 MiB (a copy of the features where some are not finite). For 50,000
    samples of 512 numbers ten milliseconds a choice on one core: 10 % in a minute.

Departures from the paper:
    It begins with a pool of labelled samples; here the first sample is the one nearest to the mean of the features
    (ties: the lower sample), which the bound allows, as any beginning does. The mixed integer program that the paper
    adds for robustness against outliers is left out. Distances are compared in float32; equal ones go to the lower
    sample. Where fewer than k samples differ, the copies that are left come last, by number.
    Samples with a feature that is NaN or infinite are left out and counted.

Reference:
    O. Sener, S. Savarese. Active Learning for Convolutional Neural Networks: A Core-Set Approach. ICLR 2018,
    arXiv:1708.00489: section 4.2, Algorithm 1. T. F. Gonzalez. Clustering to minimize the maximum intercluster
    distance. Theoretical Computer Science 38, 1985 (the bound).

Legend: N samples, P samples left, E features, k chosen samples.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import BudgetError

Features = NDArray[np.floating]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_BLOCK = 4 << 20  # bytes of features that are looked at at a time
_ORDINARY = 2.0**30  # features whose largest number is within this and its inverse are used as they are


def select_k_center(inputs: Inputs, *, k: int, generator: np.random.Generator) -> Choice:
    """Choose `k` samples that every other sample is near to.

    Args:
        inputs: the candidates with their features.
        k: how many samples to choose.
        generator: not used; nothing here is random.

    Returns:
        The choice in the order of the traversal, with weights of 1; its objective is the radius, the distance of the
        farthest candidate from its nearest chosen one.

    Raises:
        BudgetError: `k` is out of range, or more than the candidates with finite features.
        CurationError: there are no features.
    """
    features_NE, k = inputs.features("k-center"), check_count(k, inputs.n)
    usable_N = np.concatenate([np.isfinite(features_NE[rows]).all(axis=1) for rows in _blocks(features_NE)])
    candidates_P = np.flatnonzero(usable_N)
    excluded = inputs.n - len(candidates_P)
    if k > len(candidates_P):
        raise BudgetError(
            f"{k} samples asked for, but only {len(candidates_P)} candidates have finite features ({excluded} have "
            "features that are NaN or infinite): ask for fewer, or recompute them"
        )
    rows_k, radius = farthest_first(features_NE[candidates_P] if excluded else features_NE, k)
    return Choice(candidates_P[rows_k], np.ones(k, np.float32), excluded=excluded, objective=radius)


def farthest_first(features_PE: Features, k: int) -> tuple[Ints, float]:
    """Traverse rows: from the one nearest to the mean on, next the one that is farthest from those before it.

    Args:
        features_PE: finite floats [P, E].
        k: how many to choose, 1 to P.

    Returns:
        int64 [k], and the distance of the farthest row from its nearest chosen one.
    """
    space = _Space(features_PE)
    squares_P = space.from_mean()
    chosen = [int(np.argmin(squares_P))]
    squares_P[:] = np.inf
    while True:
        space.bring_near(squares_P, chosen[-1])
        squares_P[chosen[-1]] = -1  # of equals that are 0 away, those that are not chosen come first
        if len(chosen) == k:
            return np.array(chosen, np.int64), space.unit * math.sqrt(max(float(squares_P.max()), 0.0))
        chosen.append(int(np.argmax(squares_P)))


class _Space:
    """Rows, and their squared distances from some of them. They are divided by a unit, so that squares are numbers.

    Distances are sums of squared differences. Which rows come nearer to a center at all is asked first of the inner
    products, one matrix product, which may be wrong by as much as `slack` times the squared norms.
    """

    def __init__(self, features_PE: Features) -> None:
        self._given, count = features_PE, features_PE.shape[1]
        largest = max(float(np.abs(features_PE[rows]).max()) for rows in _blocks(features_PE))
        extreme = largest and not 1 / _ORDINARY <= largest <= _ORDINARY
        self.unit = 2.0 ** math.frexp(largest)[1] if extreme else 1.0
        self._slack = np.float32(4 * count * np.finfo(np.float32).eps)
        self._norms_P = np.concatenate([_squares(self._rows(rows)) for rows in _blocks(features_PE)])

    def from_mean(self) -> Singles:
        """[P], from the mean of all rows."""
        blocks = list(_blocks(self._given))
        total = np.sum([self._rows(rows).sum(axis=0, dtype=np.float64) for rows in blocks], axis=0)
        mean_E = (total / len(self._given)).astype(np.float32)
        return np.concatenate([_squares(self._rows(rows) - mean_E) for rows in blocks])

    def bring_near(self, squares_P: Singles, center: int) -> None:
        """Lower the distances of the rows that are nearer to a center than they were to others."""
        center_E, norm = self._rows(slice(center, center + 1))[0], self._norms_P[center]
        for rows in _blocks(self._given):
            block_E, norms, squares = self._rows(rows), self._norms_P[rows] + norm, squares_P[rows]
            maybe = np.flatnonzero(norms * (1 - self._slack) - 2 * (block_E @ center_E) < squares)
            squares[maybe] = np.minimum(squares[maybe], _squares(block_E[maybe] - center_E))

    def _rows(self, rows: slice) -> Singles:
        block = self._given[rows]
        return (block if self.unit == 1 else block / self.unit).astype(np.float32, copy=False)


def _blocks(features_PE: Features) -> Iterator[slice]:
    step = max(1, _BLOCK // (4 * features_PE.shape[1]))
    for a in range(0, len(features_PE), step):
        yield slice(a, a + step)


def _squares(rows_nE: Singles) -> Singles:
    return np.einsum("ne,ne->n", rows_nE, rows_nE)
