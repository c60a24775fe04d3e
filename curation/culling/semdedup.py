"""SemDeDup: drop what says the same as a sample that is kept, by the features of a model.

What it does:
    Features are turned into unit vectors and clustered by k-means. Within a cluster the samples are taken in the order
    of their cosine to the centroid, the least similar first; one is kept if its cosine to none of those kept before it
    is above 1 - eps. As a selection has exactly k samples, the threshold is by default the lowest found that leaves at
    least k, and the k kept samples of the smallest cosine to one kept before them are chosen. With `eps` the k are
    chosen from what that threshold leaves. All weights are 1; scores are 1 minus that cosine, 2 for the first.

When to use it:
    Where a dataset repeats itself: frames of a camera, images from the web. The paper drops half of LAION with little
    loss. To drop duplicates and nothing else give `eps`: .01 drops what has a cosine above .99 to a kept sample. It
    depends on model and data, and was not checked against the values in the paper's tables. A budget that is smaller
    than what is left takes the most distinct, as "k-center" does with more care for coverage. Duplicates in different
    clusters are not found.

Cost:
    O(N C E) time for an iteration of k-means, on at most 256 samples a cluster, and O(N^2 E / C) for the cosines of a
    cluster, four times without `eps`. Beside the features 4 E bytes a sample and blocks of 16 MiB.

Departures from the paper:
    Its code compares with all earlier samples of the cluster, kept or not, and so drops more: that is
    `compare=earlier`. It takes eps and keeps what is left; here the number kept is given. It has 50,000 clusters for
    440 million images; here one for every 1,000 samples unless told. K-means begins with samples drawn
    by the generator. Equal cosines are ordered by sample. Samples with a feature that is NaN or infinite are left out
    and counted; vectors of length 0 are similar to none.

Reference:
    A. Abbas, K. Tirumala, D. Simig, S. Ganguli, A. Morcos. SemDeDup: Data-efficient Learning at Web-scale through
    Semantic Deduplication. arXiv:2303.09540, and the authors' code.

Legend: N samples, P samples left, E features, C clusters, m samples of a cluster, L levels of the threshold.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.culling.clusters import Singles, spherical_clusters, units
from tamis.curation.errors import BudgetError
from tamis.curation.parameters import Between

_OF_CLUSTER = 1000  # samples, where the number of clusters is not given
_BLOCK = 4 << 20  # cosines at a time
_LEVELS, _ROUNDS = 16, 3  # of thresholds that are tried together, and how often their range is narrowed
_NONE_BEFORE = -1.0  # the cosine of what has nothing before it

Compare = Literal["kept", "earlier"]


def select_semdedup(
    inputs: Inputs,
    *,
    k: int,
    eps: Annotated[float | None, Between(least=0, most=2)] = None,
    clusters: Annotated[int | None, Between(least=1, most=1_000_000)] = None,
    compare: Compare = "kept",
    generator: np.random.Generator,
) -> Choice:
    """Choose `k` samples that are least like others that are kept.

    Args:
        inputs: the candidates with their features.
        k: how many samples to choose.
        eps: samples whose cosine to a kept one is above 1 - eps are dropped; none: the threshold that leaves k.
        clusters: of k-means, at most as many as samples; none: one for every 1,000 samples.
        compare: with the kept samples of the cluster, as in the paper, or with all earlier ones, as in its code.
        generator: draws the samples that k-means begins with.

    Returns:
        The choice, the most distinct first, with weights of 1. Notes: `threshold`, the largest cosine among the chosen.

    Raises:
        BudgetError: `k` is out of range, more than the candidates with finite features, or than `eps` leaves.
        CurationError: there are no features.
    """
    features_NE, k = inputs.features("semdedup"), check_count(k, inputs.n)
    candidates_P = np.flatnonzero(np.isfinite(features_NE).all(axis=1))
    excluded, left = inputs.n - len(candidates_P), len(candidates_P)
    if k > left:
        raise BudgetError(
            f"{k} samples asked for, but only {left} candidates have finite features ({excluded} have features that "
            "are NaN or infinite): ask for fewer, or recompute them"
        )
    units_PE = units(features_NE[candidates_P] if excluded else features_NE)
    ordered = spherical_clusters(units_PE, min(clusters or -(-left // _OF_CLUSTER), left), generator)
    nearest_P, kept_P = _dropped(units_PE, ordered, k, eps, compare)
    kept = np.flatnonzero(kept_P)
    if k > len(kept):
        raise BudgetError(
            f"{k} samples asked for, but eps = {eps} leaves only {len(kept)} of {left}: ask for fewer, or lower eps"
        )
    scores = 1 - nearest_P[kept].astype(np.float64)
    best = np.argsort(-scores, kind="stable")[:k]
    notes = {"threshold": float(nearest_P[kept[best]].max())}
    return Choice(candidates_P[kept[best]], np.ones(k, np.float32), scores[best], excluded, notes=notes)


def _dropped(
    units_PE: Singles, ordered: Sequence[NDArray[np.int64]], k: int, eps: float | None, compare: Compare
) -> tuple[Singles, NDArray[np.bool_]]:
    """[P] the largest cosine to those before, of those compared with; and which are kept."""
    if eps is not None:
        bound = np.float32(1 - eps)
        nearest_P = nearest_before(units_PE, ordered, [np.inf if compare == "earlier" else float(bound)])[0]
        return nearest_P, nearest_P <= bound
    earlier_P = nearest_before(units_PE, ordered, [np.inf])[0]
    # Fewer are compared with, so more are kept: this threshold leaves at least k by either comparison.
    high = np.sort(earlier_P)[k - 1]
    if compare == "earlier" or high <= _NONE_BEFORE:
        return earlier_P, earlier_P <= high
    return _lowest_that_leaves(units_PE, ordered, k, float(high))


def _lowest_that_leaves(
    units_PE: Singles, ordered: Sequence[NDArray[np.int64]], k: int, high: float
) -> tuple[Singles, NDArray[np.bool_]]:
    low = _NONE_BEFORE
    best_P = nearest_before(units_PE, ordered, [high])[0]
    for _ in range(_ROUNDS):
        levels_L = np.linspace(low, high, _LEVELS + 2, dtype=np.float32)[1:-1]
        nearest_LP = nearest_before(units_PE, ordered, levels_L.tolist())
        enough_L = (nearest_LP <= levels_L[:, None]).sum(axis=1) >= k
        first = int(np.argmax(enough_L)) if enough_L.any() else _LEVELS
        if first < _LEVELS:
            high, best_P = float(levels_L[first]), nearest_LP[first]
        if first > 0:
            low = float(levels_L[first - 1])
    return best_P, best_P <= high


def nearest_before(units_PE: Singles, ordered: Sequence[NDArray[np.int64]], levels: Sequence[float]) -> Singles:
    """The largest cosine of each sample to those of its cluster that come before it and are kept.

    Args:
        units_PE: unit vectors.
        ordered: the samples of each cluster in their order.
        levels: thresholds; at each, a sample is kept if its largest cosine is at most that.

    Returns:
        float32 [L, P], -1 where nothing kept comes before it.
    """
    nearest_LP = np.full((len(levels), len(units_PE)), _NONE_BEFORE, np.float32)
    for rows_m in ordered:
        nearest_Lm = np.full((len(levels), len(rows_m)), _NONE_BEFORE, np.float32)
        members_mE = units_PE[rows_m]
        for first, cosines in _cosines(members_mE):
            for level, nearest_m in zip(levels, nearest_Lm, strict=True):
                _compare(cosines, nearest_m[first:], level)
        nearest_LP[:, rows_m] = nearest_Lm
    return nearest_LP


def _cosines(members_mE: Singles) -> Iterator[tuple[int, Singles]]:
    """Blocks of rows, and the cosines of each to what comes from the block's first row on."""
    count = len(members_mE)
    step = max(1, min(512, _BLOCK // count))
    for a in range(0, count, step):
        yield a, members_mE[a : a + step] @ members_mE[a:].T


def _compare(cosines: Singles, nearest: Singles, level: float) -> None:
    """Have each row that is kept raise what comes after it."""
    if level == np.inf:
        block = len(cosines)
        square = np.where(np.tri(block, dtype=bool), np.float32(_NONE_BEFORE), cosines[:, :block])
        np.maximum(nearest[:block], square.max(axis=0), out=nearest[:block])
        if len(nearest) > block:
            np.maximum(nearest[block:], cosines[:, block:].max(axis=0), out=nearest[block:])
        return
    for i, row in enumerate(cosines):
        if nearest[i] <= level:
            np.maximum(nearest[i + 1 :], row[i + 1 :], out=nearest[i + 1 :])
