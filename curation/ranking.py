"""Rankings: the k highest scores, quotas by class, ranks, their combination and their correlation.

The order is always the same: by score, highest first, and among equal scores by sample, lowest first. So a
selection does not depend on the machine or on the sorting algorithm. NaN and infinities are refused by name,
never sorted.

Legend: N samples, M models, C classes, k chosen samples.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.budget import check_count, proportional_quotas
from tamis.curation.errors import BudgetError, CurationError, NonFiniteError

_NAMED = 5  # how many of the samples with unusable scores an error lists


def top_k(scores_N: ArrayLike, k: int) -> NDArray[np.int64]:
    """Return the `k` samples with the highest scores, best first.

    A partial sort finds the k-th score, and only what lies above it is sorted: O(N + k log k) time. Beside
    the scores it needs a copy of them for a while, one byte a sample, and about 24 bytes a chosen sample.

    Args:
        scores_N: finite numbers [N]; float32 and float64 are used as they are.
        k: how many, between 1 and N.

    Returns:
        int64 [k], by (score descending, sample ascending).

    Raises:
        BudgetError: `k` is out of range.
        NonFiniteError: a score is NaN or infinite.
    """
    scores_N = _finite(scores_N, "scores")
    n, k = scores_N.size, check_count(k, scores_N.size)
    least = np.partition(scores_N, n - k)[n - k]
    above = np.flatnonzero(scores_N > least)
    # More samples than there is room for may share the k-th score: the lowest of them get in.
    tied = np.flatnonzero(scores_N == least)[: k - above.size]
    return np.concatenate((_best_first(scores_N, above), tied)).astype(np.int64, copy=False)


def top_k_per_class(
    scores_N: ArrayLike, labels_N: NDArray[np.integer], k: int | Mapping[int, int]
) -> NDArray[np.int64]:
    """Return the samples with the highest scores of each class, the best of all classes first.

    One sort of the labels (linear while they span less than 65,536) and one `top_k` a class; eight bytes a
    sample beside what `top_k` needs for the largest class.

    Args:
        scores_N: finite numbers [N].
        labels_N: the class of each sample, integers [N]; any integer is a class of its own.
        k: a total, shared in proportion to the classes' sizes by largest remainder so that the quotas sum to
            exactly `k`; or a quota for each class by label, where a class left out gets none.

    Returns:
        int64 [k], by (score descending, sample ascending) over all classes.

    Raises:
        BudgetError: `k` or a quota is out of range, or names a class that no sample has.
        NonFiniteError: a score is NaN or infinite.
    """
    scores_N = _finite(scores_N, "scores")
    labels_N = np.asarray(labels_N)
    if labels_N.shape != scores_N.shape or labels_N.dtype.kind not in "iu":
        raise CurationError(
            f"labels are {labels_N.dtype} {list(labels_N.shape)}; expected one integer for each of the "
            f"{scores_N.size} scores"
        )
    members = dict(by_class(labels_N.astype(np.int64, copy=False)))
    quotas = _quotas({label: rows.size for label, rows in members.items()}, k)
    chosen = [members[label][top_k(scores_N[members[label]], quota)] for label, quota in quotas.items()]
    return _best_first(scores_N, np.sort(np.concatenate(chosen)))


def ranks(scores_N: ArrayLike) -> NDArray[np.float64]:
    """Return the rank of each score: 1 for the lowest, N for the highest.

    Equal scores share their average rank. O(N log N) time, about 50 bytes a sample.

    Args:
        scores_N: finite numbers [N], at least one.

    Returns:
        float64 [N]; they sum to N (N + 1) / 2.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    scores_N = _finite(scores_N, "scores")
    order_N = np.argsort(scores_N)
    sorted_N = scores_N[order_N]
    starts = np.flatnonzero(np.concatenate(([True], sorted_N[1:] != sorted_N[:-1])))
    ends = np.append(starts[1:], scores_N.size)
    ranks_N = np.empty(scores_N.size)
    ranks_N[order_N] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return ranks_N


def combine_ranks(scores_MN: ArrayLike) -> NDArray[np.float64]:
    """Combine the rankings of several models into one: the mean of each sample's ranks.

    This is the ensemble of Selection via Proxy (curve SC of its figure 3). Ranks, unlike scores, weigh every
    model alike, however its scores are scaled. One model's ranks are held at a time.

    Args:
        scores_MN: finite numbers [M, N], one row a model.

    Returns:
        float64 [N], higher for what the models rank higher; between 1 and N.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    scores_MN = _rows(scores_MN)
    total_N = np.zeros(scores_MN.shape[1])
    for scores_N in scores_MN:
        total_N += ranks(scores_N)  # multiples of one half: exact, so equal totals stay equal
    return total_N / len(scores_MN)


def pearson(a_N: ArrayLike, b_N: ArrayLike) -> float:
    """Return Pearson's product-moment correlation of two lists of numbers, between -1 and 1.

    Args:
        a_N: finite numbers [N], at least two, not all equal.
        b_N: the same for the other list.

    Raises:
        CurationError: the lengths differ, or a list is too short or constant, so that no correlation exists.
        NonFiniteError: a value is NaN or infinite.
    """
    a_N, b_N = _finite(a_N, "first values"), _finite(b_N, "second values")
    if a_N.size != b_N.size:
        raise CurationError(f"{a_N.size} values against {b_N.size}; expected two lists over the same samples")
    return float(np.clip(_unit(a_N) @ _unit(b_N), -1.0, 1.0))


def spearman(a_N: ArrayLike, b_N: ArrayLike) -> float:
    """Return Spearman's correlation: Pearson's of the ranks, with average ranks for equal values.

    Args:
        a_N: finite numbers [N], at least two, not all equal.
        b_N: the same for the other list.

    Raises:
        CurationError: the lengths differ, or a list is too short or constant.
        NonFiniteError: a value is NaN or infinite.
    """
    return pearson(ranks(a_N), ranks(b_N))


def rank_correlation(scores_MN: ArrayLike) -> NDArray[np.float64]:
    """Return the correlation of every two models' rankings (figure 3 of Selection via Proxy).

    Args:
        scores_MN: finite numbers [M, N], one row a model, none of them constant.

    Returns:
        float64 [M, M]: Pearson's correlation of the ranks; symmetric, with ones on the diagonal.

    Raises:
        CurationError: a row is constant or shorter than two.
        NonFiniteError: a score is NaN or infinite.
    """
    units_MN = np.stack([_unit(ranks(scores_N)) for scores_N in _rows(scores_MN)])
    correlation_MM = np.clip(units_MN @ units_MN.T, -1.0, 1.0)
    np.fill_diagonal(correlation_MM, 1.0)
    return correlation_MM


def _finite(values_N: ArrayLike, what: str) -> NDArray[np.floating]:
    """Return the values as floats [N], whole numbers as float64, or refuse them."""
    array_N = np.asarray(values_N)
    if array_N.ndim != 1 or array_N.size == 0 or array_N.dtype.kind not in "fiub":
        raise CurationError(
            f"{what} are {array_N.dtype} {list(array_N.shape)}; expected a list [N] of numbers, at least one"
        )
    if array_N.dtype.kind != "f":
        return array_N.astype(np.float64)
    finite_N = np.isfinite(array_N)
    if not finite_N.all():
        bad = np.flatnonzero(~finite_N)
        raise NonFiniteError(what, bad.size, array_N.size, bad[:_NAMED].tolist())
    return array_N


def _rows(scores_MN: ArrayLike) -> NDArray[np.generic]:
    array_MN = np.asarray(scores_MN)
    if array_MN.ndim != 2 or array_MN.shape[0] == 0:
        raise CurationError(f"scores are {list(array_MN.shape)}; expected [M, N], one row for each of M models")
    return array_MN


def _best_first(scores_N: NDArray[np.floating], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order ascending samples by (score descending, sample ascending)."""
    return samples[np.argsort(-scores_N[samples], kind="stable")]


def by_class(labels_N: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each class, in the order of the labels, with its samples, ascending.

    Args:
        labels_N: the class of each sample, int64 [N], at least one.
    """
    low, high = int(labels_N.min()), int(labels_N.max())
    # NumPy's stable sort is a radix sort, linear in N, for 16 bits and fewer.
    codes_N = (labels_N - low).astype(np.uint16) if high - low < 2**16 else labels_N
    order_N = np.argsort(codes_N, kind="stable")
    sorted_N = codes_N[order_N]
    for samples in np.split(order_N, np.flatnonzero(sorted_N[1:] != sorted_N[:-1]) + 1):
        yield int(labels_N[samples[0]]), samples


def _quotas(sizes: dict[int, int], k: int | Mapping[int, int]) -> dict[int, int]:
    """Return how many to take of each class that gives any."""
    if not isinstance(k, Mapping):
        shares = proportional_quotas(np.array(list(sizes.values()), dtype=np.int64), k)
        return {label: quota for label, quota in zip(sizes, shares.tolist(), strict=True) if quota}
    for label, quota in k.items():
        if quota != 0 and not (label in sizes and 0 < quota <= sizes[label]):
            raise BudgetError(
                f"a quota of {quota!r} for class {label!r}, which has {sizes.get(label, 0)} candidates; "
                "expected between 0 and that many"
            )
    quotas = {label: check_count(quota, sizes[label]) for label, quota in k.items() if quota != 0}
    if not quotas:
        raise BudgetError("the quotas choose nothing; expected at least one sample of one class")
    return quotas


def _unit(values_N: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the values centred and scaled to length one, so that a dot product is a correlation."""
    if values_N.min() == values_N.max():
        raise CurationError(
            f"all {values_N.size} values are {values_N[0]}; expected at least two different ones: "
            "the correlation with a constant does not exist"
        )
    # Scaling by a power of two is exact and keeps squares from overflowing; taking the first value off first
    # keeps the digits of values that differ little.
    exponent = int(np.frexp(np.abs(values_N).max())[1])
    centred_N = np.ldexp(values_N.astype(np.float64), -exponent)
    centred_N -= centred_N[0]
    centred_N -= centred_N.mean()
    return centred_N / np.linalg.norm(centred_N)
