"""Rows taken out again, the ones whose loss costs least: what `tamis.curation.omp.solver` does with spare picks.

What: `thin` brings a choice of s rows down to k by backward elimination: each time the row goes without which the best
weights of the others leave the objective lowest. A row that was picked early and is spanned by later ones goes so.
When: after a pursuit of a few per cent more rows than are wanted. The answer is mostly better than that of k greedy
picks, for at most twice the price of the spare ones.
How: from the inverse P of A_S A_S^T + lam: leaving row i out raises the objective by w_i^2 / P_ii, and what P and w are
then follows by a rank-one update; of P only the diagonal and the columns that are needed are brought up to date. A row
whose weight turns negative goes at once, as no weight may.
Cost: s^2 D + s^3 multiplications in matrix products for P, s t for the t-th row that goes; memory 24 s^2 bytes.
Source: the backward step of Zhang, "Adaptive forward-backward greedy algorithm", IEEE Trans. Inf. Theory 57, 2011.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tamis.curation.omp.cholesky import BLOCK, GrowingCholesky
from tamis.curation.omp.problem import PIECE, Floats, Ints, Pursued, objective


def thin(rows_ND: NDArray[np.floating], target_D: Floats, found: Pursued, k: int, lam: float) -> Pursued | None:
    """Leave out the rows that cost least, down to k.

    Args:
        rows_ND: the data.
        target_D: b, float64.
        found: k rows or more, and their best weights.
        k: how many may stay, at least 1.
        lam: ridge.

    Returns:
        k rows, in the order in which they were picked, and their best weights. `objectives` are those of the picks that
        led to k rows, with the final one at their end. None where fewer rows would be left, as no weight may be
        negative, or where they all but depend on each other, so that float64 does not tell what one of them costs.
    """
    rows = found.rows
    if len(rows) < k:
        return None
    inverse, right = _inverse(rows_ND, rows, lam), np.empty(len(rows))
    if inverse is None:
        return None
    for a in range(0, len(rows), PIECE):
        right[a : a + PIECE] = rows_ND[rows[a : a + PIECE]].astype(np.float64) @ target_D
    weights, stays = inverse @ right, np.ones(len(rows), bool)
    spread, updates = np.diag(inverse).copy(), np.empty((len(rows), len(rows)))
    gone = 0
    while len(rows) - gone > k or (weights[stays] <= 0).any():
        costs = np.where(stays, weights**2 / np.maximum(spread, np.finfo(float).tiny), np.inf)
        costs[stays & (weights <= 0)] = -np.inf
        at = int(np.argmin(costs))
        column = inverse[at] - updates[:gone, at] @ updates[:gone]
        if not column[at] > 0:
            return None
        weights = weights - column * (weights[at] / column[at])
        updates[gone] = column / column[at] ** 0.5
        spread -= updates[gone] ** 2
        gone += 1
        stays[at], weights[at] = False, 0.0
    if len(rows) - gone < k:
        return None
    left, kept = rows[stays], weights[stays]
    end = objective(rows_ND, target_D, left, kept, lam)
    path = found.objectives[found.objectives > end]
    return replace(found, rows=left, weights=kept, objective=end, objectives=np.append(path, end), stopped="budget")


def _inverse(rows_ND: NDArray[np.floating], rows: Ints, lam: float) -> Floats | None:
    """(A_S A_S^T + lam)^-1, from its Cholesky factor; None where there is none."""
    factor = GrowingCholesky(0.0)
    for a in range(0, len(rows), BLOCK):
        part = rows_ND[rows[a : a + BLOCK]].astype(np.float64)
        products = [part @ rows_ND[rows[b : b + BLOCK]].astype(np.float64).T for b in range(0, a + 1, BLOCK)]
        products[-1][np.diag_indices(len(part))] += lam
        if factor.extend(np.concatenate(products, axis=1)[:, :a], products[-1]) is None:
            return None
    apart = factor.forward(np.eye(len(rows)))
    return apart.T @ apart
