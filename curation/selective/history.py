"""The last R losses, and the share of them that a loss is not below: CDF_R of Selective-Backprop.

What it does:
    Keeps the newest `size` losses. The share of a loss is the part of the history that is at most that loss (strict:
    below it), a number in [0, 1]; equation 3.1 makes a probability of it (`tamis.curation.selective.priority`).

When to use it:
    In the loop, wherever a loss is to be judged against recent ones. Losses of a batch enter together, and then each
    one's share is taken (section 3.5): `enter` does both.

How:
    A ring of the losses by age, and three sorted arrays: the history as it once was, what was added since, and what was
    removed since. A rank is the sum of three binary searches with signs. Each batch is merged into the two small arrays
    (a stable sort finds two runs and merges them), and these into the large one when they hold about sqrt(300 R)
    losses. Up to R = 4,096 it is cheaper to sort the ring for every batch.

Cost:
    Exact at every size. 8 bytes a loss, twice that while large arrays are merged. A batch of B takes B log R for the
    searches and about sqrt(R B) for the merges: for B = 128 on one core .2 µs a sample at R = 1,024, .6 at 65,536, 1.2
    at 10^6.

Departures from the paper:
    The authors' code counts losses strictly below (`strict=True`); the thesis says percentile of a history that the
    loss is already in, so that the highest has share 1. Losses are compared in float32. NaN and infinite losses never
    enter, and their share is NaN. A loss has share 1 in an empty history.

Reference:
    A. Jiang. Thesis, 2020, section 3.3.2 (equation 3.1) and section 3.5; A. Jiang et al. Accelerating Deep Learning by
    Focusing on the Biggest Losers. arXiv:1910.00762.

Legend: B losses of a batch, R losses of the history, S of a state.
"""

import math
import operator
from typing import Literal, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.errors import CurationError

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SORTED_ANEW = 4096  # histories up to this size are sorted for every batch
_EMPTY: Singles = np.empty(0, np.float32)


class LossHistory:
    """The last `size` finite losses.

    Args:
        size: how many losses are kept, R, at least 1.

    Raises:
        CurationError: `size` is no whole number of at least 1.
    """

    def __init__(self, size: SupportsIndex = 1024) -> None:
        self.size = _count(size)
        self._ring_R = np.empty(self.size, np.float32)
        self._filled = self._next = 0
        self._sorted: Singles | None = _EMPTY  # None: to be sorted before it is asked
        self._added = self._removed = _EMPTY
        # Large merges cost R / limit a loss, small ones limit / B: equal at about this size for batches of a hundred.
        self._limit = 0 if self.size <= _SORTED_ANEW else math.isqrt(300 * self.size)

    def __len__(self) -> int:
        """How many losses there are, at most `size`."""
        return self._filled

    def add(self, losses_B: ArrayLike) -> None:
        """Put losses in, the oldest ones leave. Those that are NaN or infinite stay outside.

        Args:
            losses_B: [B], the newest last; of more than `size` the last ones stay.

        Raises:
            CurationError: not one dimension.
        """
        losses, finite_B = _checked(losses_B)
        self._push(losses if finite_B is None else losses[finite_B])

    def shares(self, losses_B: ArrayLike, *, strict: bool = False) -> Doubles:
        """The share of the history that is at most each loss.

        Args:
            losses_B: [B].
            strict: the share that is below each loss.

        Returns:
            [B] in [0, 1]; NaN for a loss that is NaN or infinite; 1 where the history is empty.

        Raises:
            CurationError: not one dimension.
        """
        losses, finite_B = _checked(losses_B)
        return self._shares(losses, finite_B, strict)

    def enter(self, losses_B: ArrayLike, *, strict: bool = False) -> Doubles:
        """Put the losses of a batch in together, then take the share of each: `add` and `shares` in one."""
        losses, finite_B = _checked(losses_B)
        self._push(losses if finite_B is None else losses[finite_B])
        return self._shares(losses, finite_B, strict)

    def state(self) -> Singles:
        """The losses by age, the oldest first: float32 [S], a copy."""
        start = self._next if self._filled == self.size else 0
        return np.concatenate((self._ring_R[start : self._filled], self._ring_R[:start]))

    def restore(self, losses_S: ArrayLike) -> None:
        """Become the history that had this state: what follows is the same to the bit.

        Raises:
            CurationError: more losses than `size`, or some that are NaN or infinite.
        """
        losses, finite_S = _checked(losses_S)
        if finite_S is not None or len(losses) > self.size:
            raise CurationError(
                f"{len(losses)} losses, {0 if finite_S is None else int((~finite_S).sum())} of them not finite, are no "
                f"state of a history of {self.size}; expected at most {self.size} finite losses: restore it with the "
                "size it was kept with"
            )
        self._filled = self._next = 0
        self._sorted = None
        self._write(losses)

    def _push(self, losses: Singles) -> None:
        losses = losses[-self.size :]
        if self._sorted is None or len(losses) > self._limit:
            self._sorted = None
            self._write(losses)
            return
        if len(self._added) + len(losses) > self._limit:
            self._sorted, self._added, self._removed = self._settled(self._sorted), _EMPTY, _EMPTY
        left = self._leaving(len(losses))
        self._write(losses)
        self._added = _merged(self._added, losses)
        if len(left):
            self._removed = _merged(self._removed, left)

    def _settled(self, sorted_R: Singles) -> Singles:
        """The sorted losses without those that were removed, with those that were added."""
        kept = np.ones(len(sorted_R), np.bool_)
        # Of equal losses as many are taken out as were removed.
        among_equals = np.arange(len(self._removed)) - self._removed.searchsorted(self._removed)
        kept[sorted_R.searchsorted(self._removed) + among_equals] = False
        return np.sort(np.concatenate((sorted_R[kept], self._added)), kind="stable")

    def _write(self, losses: Singles) -> None:
        """At most `size` losses over the oldest ones."""
        start, room = self._next, self.size - self._next
        self._ring_R[start : start + len(losses)] = losses[:room]
        if len(losses) > room:
            self._ring_R[: len(losses) - room] = losses[room:]
        self._next = (start + len(losses)) % self.size
        self._filled = min(self.size, self._filled + len(losses))

    def _leaving(self, count: int) -> Singles:
        """The losses that the next `count` ones will take the place of: a view, or a copy around the end."""
        end = self._next + count
        ahead = self._ring_R[self._next : min(end, self._filled)]
        if end <= self.size:
            return ahead.copy()
        return np.concatenate((ahead, self._ring_R[: end - self.size]))

    def _shares(self, losses: Singles, finite_B: Bools | None, strict: bool) -> Doubles:
        if not self._filled:
            shares_B = np.ones(len(losses))
        else:
            shares_B = self._ranks(losses, "left" if strict else "right") / self._filled
        if finite_B is not None:
            shares_B[~finite_B] = np.nan
        return shares_B

    def _ranks(self, losses: Singles, side: Literal["left", "right"]) -> NDArray[np.intp]:
        if self._sorted is None:
            self._sorted = np.sort(self._ring_R[: self._filled])
            self._added = self._removed = _EMPTY
        if not self._limit:
            return self._sorted.searchsorted(losses, side)
        order_B = losses.argsort()  # neighbours are found in half the time
        sorted_B = losses[order_B]
        counts_B = self._sorted.searchsorted(sorted_B, side)
        if len(self._added):
            counts_B += self._added.searchsorted(sorted_B, side)
        if len(self._removed):
            counts_B -= self._removed.searchsorted(sorted_B, side)
        ranks_B = np.empty_like(counts_B)
        ranks_B[order_B] = counts_B
        return ranks_B


def _merged(sorted_: Singles, more: Singles) -> Singles:
    """Sorted losses and a few others, sorted: the stable sort finds the two runs and merges them."""
    return np.sort(np.concatenate((sorted_, np.sort(more))), kind="stable")


def _checked(losses_B: ArrayLike) -> tuple[Singles, Bools | None]:
    """As float32, and which ones are finite; None where all are."""
    losses = np.asarray(losses_B)
    if losses.dtype != np.float32:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            losses = losses.astype(np.float32)
    if losses.ndim != 1:
        raise CurationError(f"losses have the shape {losses.shape}; expected one dimension, a loss a sample")
    with np.errstate(over="ignore"):  # squares of what is finite may be infinite
        square = losses.dot(losses)
    if math.isfinite(square):  # a third of what asking each one costs
        return losses, None
    finite_B = np.isfinite(losses)
    return losses, None if finite_B.all() else finite_B


def _count(size: SupportsIndex) -> int:
    try:
        count = operator.index(size)
    except TypeError:
        count = 0
    if isinstance(size, bool) or count < 1:
        raise CurationError(f"a history of {size!r} losses; expected a whole number of at least 1, such as 1024")
    return count
