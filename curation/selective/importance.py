"""Kath18: draw a batch in proportion to the losses of a larger one, from when on that pays.

What it does:
    From a pool of B samples b are drawn with replacement, each in proportion to its score; the score is the loss. It
    is begun when the batch that it draws is worth more than what scoring the pool costs: 1/tau = sqrt(1 - |g - u|^2 /
    |g|^2), g the scores scaled to sum 1 and u = 1/B, so tau^2 is the ratio of the second moments under uniform and
    proportional draws. The draw is taken to be worth a uniform batch of tau b samples. With a backward pass twice as
    dear as a forward pass a step costs B + 3b in place of 3 tau b, so it pays from tau = (B + 3b)/(3b) on. tau is a
    running mean over pools.

When to use it:
    As a baseline for Selective-Backprop, and where few samples of many have a large gradient.

Cost:
    O(B + b log B).

Departures from the paper:
    Those of the thesis (section 3.6.1): the loss is the score in place of the bound on the gradient's norm, and samples
    are not re-weighted, so the gradient is biased towards high losses. The running mean begins at 0 and is compared
    strictly, as in the authors' code; the code's default threshold is 1.2, the comparison of costs is the paper's.
    Since the scores sum to 1, tau = sqrt(B |g|^2), between 1 (equal scores) and sqrt(B) (one sample has all); that form
    loses no digits. Scores that are all 0 count as equal. Scores that are NaN or infinite are never drawn and not
    counted in B; negative ones are refused.

Reference:
    A. Katharopoulos, F. Fleuret. Not All Samples Are Created Equal: Deep Learning with Importance Sampling. ICML 2018,
    arXiv:1803.00942, Algorithm 1; VarianceReductionCondition in github.com/idiap/importance-sampling.

Legend: B samples of the pool, b draws, k different samples.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.errors import CurationError
from tamis.curation.selective.losses import flat

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


def draw_in_proportion(scores_B: ArrayLike, draws: int, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw with replacement.

    Args:
        scores_B: [B], 0 or more; all 0 are equal. NaN and infinities are never drawn.
        draws: how many, b, at least 1.
        generator: b numbers are drawn from it.

    Returns:
        Positions in the pool, int64 [k], rising, and how often each was drawn, int64 [k], which sum to b. Both are
        empty where no score is finite.

    Raises:
        CurationError: a negative score, fewer draws than 1, or scores that are not of one dimension.
    """
    if draws < 1:
        raise CurationError(f"{draws} draws from a pool; expected at least 1")
    candidates, shares = _scaled(scores_B)
    if not len(candidates):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ends = np.cumsum(shares)
    found = ends.searchsorted(generator.random(draws) * ends[-1], "right")  # a share of 0 has no room
    last = int(ends.searchsorted(ends[-1], "left"))  # a product may be rounded up to the very end
    rows, counts = np.unique(np.minimum(found, last), return_counts=True)
    return candidates[rows], counts.astype(np.int64)


def threshold_of(pool: int, batch: int) -> float:
    """The tau from which on a step saves time: (B + 3b)/(3b).

    Raises:
        CurationError: a batch of no samples, or larger than the pool.
    """
    if not 1 <= batch <= pool:
        raise CurationError(
            f"batches of {batch} drawn from pools of {pool}; expected at least 1, and no more than the pool"
        )
    return (pool + 3 * batch) / (3 * batch)


class VarianceGain:
    """The running mean of tau.

    Args:
        momentum: of the running mean, in [0, 1).
        value: where it begins: 0, or the `value` of a checkpoint.

    Attributes:
        value: the running mean.

    Raises:
        CurationError: the momentum is out of range.
    """

    def __init__(self, momentum: float = 0.9, value: float = 0.0) -> None:
        if not 0 <= momentum < 1:
            raise CurationError(f"a momentum of {momentum!r}; expected a number from 0 up to, but not, 1")
        self.momentum, self.value = momentum, value

    def update(self, scores_B: ArrayLike) -> float:
        """Take the scores of a pool in; the running mean, unchanged where no score is finite."""
        if len(_scaled(scores_B)[0]):
            self.value = self.momentum * self.value + (1 - self.momentum) * variance_gain(scores_B)
        return self.value

    def exceeds(self, threshold: float) -> bool:
        """Whether drawing in proportion to the scores is worth beginning."""
        return self.value > threshold


def variance_gain(scores_B: ArrayLike) -> float:
    """tau of one pool, in [1, sqrt(B)]: how many times as large a uniform batch would be; 1 for an empty pool."""
    shares = _scaled(scores_B)[1]
    return max(1.0, float(np.sqrt(len(shares) * np.square(shares).sum())))


def _scaled(scores_B: ArrayLike) -> tuple[Ints, Doubles]:
    """The positions with a finite score, and these scores scaled to sum 1."""
    scores = flat(scores_B, "scores")
    candidates = np.flatnonzero(np.isfinite(scores))
    finite = scores[candidates]
    if (finite < 0).any():
        raise CurationError(
            f"{int((finite < 0).sum())} of {len(scores)} scores are negative; expected 0 or more: samples are drawn in "
            "proportion to them"
        )
    largest = finite.max(initial=0.0)
    parts = finite / largest if largest else np.ones(len(finite))  # first: a sum of large ones may overflow
    return candidates, parts / parts.sum() if len(parts) else parts
