"""Misses as a stationary chain of two states, and the chance that nothing is found in n looks.

What: `Single` for models that report on one hit, `Misses`, the contract, for whatever asks for more
(`tamis.training.mainstream.events.voting`). Misses have the rate p and P(miss | miss) = p + c (1 - p): c = 0 makes
looks independent, c = 1 makes all looks of an event alike. In a gap between events the same chain tells true negatives,
whose rate is 1 - fpr, and a "hit" is a false positive.
How: P(miss all n) = p (p + c (1 - p))^(n - 1) for n >= 1, and 1 for n = 0.
Cost: a power for each number asked for.
Source: A. H. Jiang, thesis, section 5.2.3, equations 2 and 3 (Mainstream, USENIX ATC 2018, section 4).
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Misses(Protocol):
    """Chances of a chain, for numbers of looks that broadcast with the arrays it was made of."""

    def missed(self, looks: Counts) -> Floats:
        """Chance that nothing is found in so many looks."""
        ...

    def missed_before(self, looks: Counts) -> Floats:
        """The sum of `missed` over 0, 1, ..., looks - 1: how many looks pass on average before it is found, at most
        that many."""
        ...


class Single:
    """One hit is enough.

    Args:
        miss: p, the rate of misses, 0 to 1.
        correlation: c, 0 to 1; broadcasts with `miss`.
    """

    def __init__(self, miss: Floats, correlation: Floats) -> None:
        self._miss, self._again = np.broadcast_arrays(miss, miss + correlation * (1 - miss))

    def missed(self, looks: Counts) -> Floats:
        return np.where(looks > 0, self._miss * self._again ** np.maximum(looks - 1, 0), 1.0)

    def missed_before(self, looks: Counts) -> Floats:
        return (looks > 0) + self._miss * geometric(self._again, np.maximum(looks - 1, 0))


def geometric(ratio: Floats, terms: Counts) -> Floats:
    """1 + q + q^2 + ... of so many terms, exact where q is close to 1 (q = 1 gives their number)."""
    between = (ratio > 0) & (ratio < 1)
    inside = np.where(between, ratio, 0.5)
    total = -np.expm1(terms * np.log(inside)) / (1 - inside)
    return np.where(between, total, np.where(ratio > 0, terms, np.minimum(terms, 1)))
