"""X-voting: the chance of X hits in a row among n looks of the stationary chain of hits and misses.

What: `Runs`, the chances that no run has come after n looks, for many chains and numbers of votes at once;
`run_chance`, of a run within n looks.
How: exact. Let a = P(hit | miss), b = 1 - a, h = P(hit | hit), m = 1 - h, and u_n the chance of no run in n looks that
follow a miss. The next miss comes after j < X hits, or a run does: u_n = b u_(n-1) + a m S_n, with
S_n = sum_(j=1..X-1) h^(j-1) u_(n-1-j), which is carried along: S_(n+1) = h S_n + u_(n-1) - h^(X-1) u_(n-X). Looks that
start in the stationary state miss no less than v_n = p u_(n-1) + (1 - p) m S_n. Both are 1 for n < X. In the long run
they fall by a constant ratio: once it stands still, the rest is a geometric tail, so that long gaps cost no more.
Cost: nine operations on the chains a step, some hundred steps; error at most about 1e-11, whatever n.
Departure: the authors' code takes the unconditional rate for the look after a miss (`reset`), which overstates the
chance: 8 looks, X = 2, hit rate .7, c = .4: .989 for .950.
Source: A. H. Jiang, thesis, section 5.3.3 (X-voting); the recursion is a renewal equation (W. Feller, An Introduction
to Probability Theory and Its Applications, vol. 1, chapter XIII).

Legend: K chains, T looks beyond the first X - 1.
"""

import numpy as np
from numpy.typing import ArrayLike

from tamis.training.mainstream.events import checks
from tamis.training.mainstream.events.chain import Counts, Floats, geometric

HALVINGS = 3
STRIDE = 2 * 2**HALVINGS  # steps between looks at the ratio
NOTHING = 1e-13  # chances below are rounding
STILL = 1e-15  # change of a ratio that is rounding
CLOSE = 1e-11  # what a tail may be off by


class Runs:
    """Chances that no run of hits has come: `tamis.training.mainstream.events.chain.Misses` for any number of votes.

    Args:
        miss: p, the rate of misses, 0 to 1.
        correlation: c, 0 to 1.
        votes: X, whole numbers from 1. All three broadcast.
        longest: the most looks that will be asked about.
        reset: take the look after a miss as independent of it.
    """

    def __init__(self, miss: Floats, correlation: Floats, votes: Floats, longest: int, reset: bool = False) -> None:
        p, c, x = np.broadcast_arrays(miss, correlation, votes)
        self._first, self._chains = votes.astype(np.int64) - 1, np.arange(p.size).reshape(p.shape)
        table_TK, ratio_K = _solve(p.ravel(), c.ravel(), x.ravel().astype(np.int64), longest, reset)
        self._missed_TK = np.clip(np.vstack([np.ones_like(table_TK[:1]), table_TK]), 0, 1)  # from X - 1 looks on
        self._ratio = ratio_K.reshape(p.shape)

    def missed(self, looks: Counts) -> Floats:
        beyond, last = looks - self._first, len(self._missed_TK) - 1
        here = self._at(self._missed_TK, np.clip(beyond, 0, last))
        return here * self._ratio ** np.maximum(beyond - last, 0) if np.any(beyond > last) else here

    def missed_before(self, looks: Counts) -> Floats:
        beyond, last = looks - self._first - 1, len(self._missed_TK) - 1
        total = self._at(np.cumsum(self._missed_TK, axis=0), np.clip(beyond, 0, last))
        if np.any(beyond > last):
            reached = self._missed_TK[-1].reshape(self._chains.shape)
            total = total + reached * self._ratio * geometric(self._ratio, np.maximum(beyond - last, 0))
        return np.where(beyond < 0, looks, total + self._first)

    def _at(self, table_TK: Floats, rows: Counts) -> Floats:
        """One number of each chain, from the row asked for."""
        return table_TK.reshape(-1).take(rows * table_TK.shape[1] + self._chains)


def run_chance(
    votes: ArrayLike, looks: ArrayLike, hit: ArrayLike, correlation: ArrayLike, reset: bool = False
) -> Floats:
    """Chance of at least X hits in a row.

    Args:
        votes: X, 1 to 100.
        looks: whole numbers n, from 0.
        hit: rate of hits of single looks, 0 to 1.
        correlation: c, 0 to 1. All of these broadcast.
        reset: as in the authors' code, see above.

    Raises:
        EventsError: a number out of its range.
    """
    counts = checks.counts("number of looks", looks)
    miss, c = 1 - checks.shares("rate of hits", hit), checks.shares("correlation of misses", correlation)
    return 1 - Runs(miss, c, checks.votes(votes), int(counts.max(initial=0)), reset).missed(counts)


def _solve(p_K: Floats, c_K: Floats, votes_K: Counts, longest: int, reset: bool) -> tuple[Floats, Floats]:
    """Chances of no run in X, X + 1, ... looks, one row each, and the ratio by which the last row goes on falling."""
    stuck_K = p_K if reset else p_K + c_K * (1 - p_K)  # b
    again_K, lost_K = (1 - p_K) + c_K * p_K, (1 - c_K) * p_K  # h, m
    back_K, oldest_K = (1 - stuck_K) * lost_K, again_K ** (votes_K - 1)
    most, count = int(votes_K.max(initial=1)), len(p_K)
    lag_K = (most - votes_K) * count + np.arange(count)  # where u_(n-X) lies at the first step
    after_TK = np.ones((most + 4 * STRIDE, count))  # u; in the rows before the first step all are 1
    sums_TK = np.empty((4 * STRIDE + 1, count))  # S
    sums_TK[0] = geometric(again_K, votes_K - 1)
    step, done, ratio_K = 0, False, np.ones(count)
    while not done and step <= longest:
        if step + STRIDE >= len(sums_TK):
            after_TK, sums_TK = _doubled(after_TK), _doubled(sums_TK)
        flat = after_TK.reshape(-1)
        for now in range(step, step + STRIDE):
            before_K, carried_K = after_TK[most + now - 1], sums_TK[now]
            np.add(stuck_K * before_K, back_K * carried_K, out=after_TK[most + now])
            np.add(again_K * carried_K, before_K, out=sums_TK[now + 1])
            sums_TK[now + 1] -= oldest_K * flat.take(lag_K + now * count)
        step += STRIDE
        done, ratio_K = _settled(after_TK[most + step - STRIDE - 1 : most + step])
    return p_K * after_TK[most - 1 : most - 1 + step] + (1 - p_K) * lost_K * sums_TK[:step], ratio_K


def _doubled(table_TK: Floats) -> Floats:
    return np.vstack([table_TK, np.empty_like(table_TK)])


def _settled(after_TK: Floats) -> tuple[bool, Floats]:
    """Whether the ratio of rows stands still, or nothing is left, for all chains; and that ratio."""
    first_K, middle_K, last_K = after_TK[:: STRIDE // 2]
    left_K = last_K > NOTHING
    was_K, is_K = (
        np.minimum(np.divide(late_K, early_K, out=np.zeros_like(late_K), where=left_K), 1)
        for early_K, late_K in ((first_K, middle_K), (middle_K, last_K))
    )
    for _ in range(HALVINGS):
        was_K, is_K = np.sqrt(was_K), np.sqrt(is_K)
    change_K = np.abs(is_K - was_K)
    still_K = (change_K <= STILL) | (change_K * last_K <= CLOSE * (1 - is_K))
    return bool(np.all(still_K | ~left_K)), is_K
