"""Rows taken out again, the ones whose loss costs least: what `tamis.curation.pursuit` does with spare picks.

What: `thin` brings a choice of s rows down to k by backward elimination: each time the row goes without which the best
weights of the others leave the objective lowest. A row that was picked early and is spanned by later ones goes so.
When: after a pursuit of a few per cent more rows than are wanted. The answer is mostly better than that of k greedy
picks, for at most twice the price of the spare ones.
How: from the inverse P of A_S A_S^T + lam: leaving row i out raises the objective by w_i^2 / P_ii, and what P and w are
then follows by a rank-one update. A row whose weight turns negative goes at once, as no weight may.
Cost: s^3 multiplications for P, s^2 a row; memory 24 s^2 bytes.
Source: the backward step of Zhang, "Adaptive forward-backward greedy algorithm", IEEE Trans. Inf. Theory 57, 2011.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tamis.curation.pursued import PIECE, Floats, Pursued, objective


def thin(rows_ND: NDArray[np.floating], target_D: Floats, found: Pursued, k: int, lam: float) -> Pursued:
    """Leave out the rows that cost least, down to k.

    Args:
        rows_ND: the data.
        target_D: b, float64.
        found: more than k rows, and their best weights.
        k: how many may stay, at least 1.
        lam: ridge.

    Returns:
        At most k rows, in the order in which they were picked, and their best weights. `objectives` are those of the
        picks that led to k rows, with the final one at their end.
    """
    rows = found.rows
    gram = np.empty((len(rows), len(rows)))
    right = np.empty(len(rows))
    for a in range(0, len(rows), PIECE):
        part = rows_ND[rows[a : a + PIECE]].astype(np.float64)
        right[a : a + PIECE] = part @ target_D
        for b in range(0, len(rows), PIECE):
            gram[a : a + PIECE, b : b + PIECE] = part @ rows_ND[rows[b : b + PIECE]].astype(np.float64).T
    gram[np.diag_indices(len(rows))] += lam
    inverse = np.linalg.inv(gram)
    weights, stays = inverse @ right, np.ones(len(rows), bool)
    while stays.sum() > k or (weights[stays] <= 0).any():
        costs = np.where(stays, weights**2 / np.maximum(np.diag(inverse), np.finfo(float).tiny), np.inf)
        costs[stays & (weights <= 0)] = -np.inf
        gone = int(np.argmin(costs))
        column, pivot = inverse[:, gone].copy(), inverse[gone, gone]
        weights = weights - column * (weights[gone] / pivot)
        inverse -= np.outer(column, column / pivot)
        stays[gone], weights[gone] = False, 0.0
    left, kept = rows[stays], weights[stays]
    end = objective(rows_ND, target_D, left, kept, lam)
    path = found.objectives[found.objectives > end]
    return replace(found, rows=left, weights=kept, objective=end, objectives=np.append(path, end), stopped="budget")
