"""Coverage-centric coreset selection (CCS): drop the hardest, then spread the budget over all degrees of hardness.

What it does:
    Any stored score, turned so that higher is harder. The hardest beta N samples are dropped: many of them are
    mislabelled, or too hard for a small budget. The range of the scores of the others is cut into 50 strata of equal
    width. The budget goes to the smallest strata first: each gets as many samples as it has, and at most an equal
    part of what is left for it and those after it (Algorithm 1). Inside a stratum the draw is uniform. Weights are 1.

When to use it:
    At small budgets, below a half: there the hardest samples alone train worse than random ones ("uncertainty" says
    so), and CCS was made for that. The smaller the budget, the larger beta: the paper searches it for each budget, from
    0 at half of the data up. Any score will do: the paper has AUM, forgetting, EL2N and entropy.

Cost:
    O(N log N) time for one sort, 30 bytes a sample; no model.

Departures from the paper:
    Where more is asked for than the samples that are not dropped, the least hard of the dropped ones are taken too,
    by (score, sample): as if beta were smaller. Several models' scores are averaged. Among strata of one size
    the one of lower scores comes first, and among equal scores at the border of beta the lower sample is dropped.
    Samples with a score that is NaN or infinite are left out and counted; beta is a share of all N.

Reference:
    H. Zheng, R. Liu, F. Lai, A. Prakash. Coverage-centric Coreset Selection for High Pruning Rates. ICLR 2023,
    arXiv:2210.15809, Algorithm 1.

Legend: N candidates, M models, P candidates left, S strata, k chosen samples.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import BudgetError
from tamis.curation.parameters import Between

STRATA = 50


def stratum_quotas(sizes_S: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """How many to take of each stratum, the smallest first (Algorithm 1).

    Args:
        sizes_S: samples of each stratum, int64 [S].
        k: how many to take, at most their sum.

    Returns:
        int64 [S], each at most the size, that sum to `k`.
    """
    quotas_S, left = np.zeros_like(sizes_S), k
    order = np.argsort(sizes_S, kind="stable")
    for place, stratum in enumerate(order):
        quotas_S[stratum] = min(int(sizes_S[stratum]), left // (order.size - place))
        left -= int(quotas_S[stratum])
    return quotas_S


def strata_of(scores_P: NDArray[np.float64], strata: int = STRATA) -> NDArray[np.int64]:
    """The stratum, 0 to `strata` - 1, of each score: equal widths from the lowest to the highest, int64 [P]."""
    low, high = scores_P.min(), scores_P.max()
    if low == high:
        return np.zeros(scores_P.size, np.int64)
    # Halves, so that the width of a range from -1e308 to 1e308 is a number.
    places_P = (scores_P / 2 - low / 2) / (high / 2 - low / 2) * strata
    return np.minimum(places_P.astype(np.int64), strata - 1)


def select_covering(
    inputs: Inputs,
    *,
    k: int,
    beta: Annotated[float, Between(least=0, below=1)] = 0.1,
    strata: Annotated[int, Between(least=1, most=100_000)] = STRATA,
    generator: np.random.Generator,
) -> Choice:
    """Choose `k` samples over all degrees of hardness but the last.

    Args:
        inputs: the candidates with their scores (`scores_MN`), higher for harder.
        k: how many samples to choose.
        beta: share of all candidates, the hardest, that is dropped.
        strata: how many parts of equal width the range of the scores is cut into.
        generator: draws within the strata.

    Returns:
        The choice by (score, sample), the hardest first, with weights of 1. Notes: `dropped`, and `filled`, how many of
        these were taken nevertheless.

    Raises:
        BudgetError: `k` is out of range, or more than the candidates with finite scores.
        CurationError: there are no scores.
    """
    k = check_count(k, inputs.n)
    scores_MN = inputs.scores("ccs")
    candidates_P = np.flatnonzero(np.isfinite(scores_MN).all(axis=0))
    excluded = inputs.n - candidates_P.size
    if k > candidates_P.size:
        raise BudgetError(
            f"{k} samples asked for, but only {candidates_P.size} candidates have finite scores ({excluded} have "
            "scores that are NaN or infinite): ask for fewer, or score them again"
        )
    scores_P = scores_MN[:, candidates_P].astype(np.float64).mean(axis=0)
    hardest_first = np.argsort(-scores_P, kind="stable")
    dropped = min(int(beta * inputs.n), candidates_P.size)
    kept = np.sort(hardest_first[dropped:])
    filled = max(0, k - kept.size)
    taken = [hardest_first[dropped - filled : dropped]]
    if kept.size:
        taken.append(kept[_draw(strata_of(scores_P[kept], strata), k - filled, strata, generator)])
    rows = np.sort(np.concatenate(taken))
    rows = rows[np.argsort(-scores_P[rows], kind="stable")]
    notes = {"dropped": dropped, "filled": filled}
    return Choice(candidates_P[rows], np.ones(k, np.float32), scores_P[rows], excluded, notes=notes)


def _draw(strata_P: NDArray[np.int64], k: int, strata: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Rows, `k` of them, drawn uniformly within each stratum."""
    sizes_S = np.bincount(strata_P, minlength=strata)
    there = np.flatnonzero(sizes_S)  # empty strata take no part
    quotas = stratum_quotas(sizes_S[there], k)
    parts = np.split(np.argsort(strata_P, kind="stable"), np.cumsum(sizes_S[there])[:-1])
    drawn = [generator.permutation(part)[:quota] for part, quota in zip(parts, quotas.tolist(), strict=True)]
    return np.concatenate(drawn)
