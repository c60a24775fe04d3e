"""A schedule by greedy moves: M-Scheduler's own algorithm, from two ends.

What: begins with Max-Sharing at the lowest rate. A move gives one application another branch and rate together. Each
time the move is made that gains most F1 for the compute it adds; one that gains and adds none goes first. Moves that
do not fit the budget are skipped, and it ends when none that gains fits.
When: at every scheduling event. It is within a fraction of a per cent of the optimum on average.
How: what a move adds is the change of the application's own layers and of the stems, whose rate without it is the
highest of the others (the first or the second of all). All moves are weighed at once, and after a move only those of
applications for which that highest rate changed.
Cost: N O R + N T R additions for the first move, a few rows of them for the others; every move raises the sum of F1,
and in practice there are about five an application.
Departs: one application alone seldom pays for a faster stem from which all would gain. Where the budget is tight that
costs the greedy schedule up to a fifth. So it is run a second time from Max-Sharing at the highest common rate that
fits, and the better schedule is taken (`starts="lowest"`: the thesis's start alone). The thesis's algorithm 2 ends at
the first move that does not fit (`stop_at_first`), and so leaves budget unused.
Source: Jiang, thesis, section 5.3.3, algorithm 2.
"""

from typing import Literal, NamedTuple

import numpy as np

from tamis.training.mainstream.scheduling.costs import SLACK, cheapest, cost, fits, uses
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall
from tamis.training.mainstream.scheduling.table import Floats, Ints, Schedule, Table

TINY = 1e-12  # gains of F1 and costs below it are rounding
FREE = 1e30  # a move that adds no cost comes before all that do

Starts = Literal["both", "lowest"]


class Move(NamedTuple):
    """One application's change.

    Attributes:
        application: which.
        option: its option from now on.
        rate: its rate from now on.
        gain: in F1 of that application.
        added: seconds of compute a second that the schedule costs more, negative where it costs less.
        why: `start` where all are lifted to a common rate, `free` where it gains and adds no cost, otherwise `ratio`.
        skipped: moves of a better ratio that did not fit.
    """

    application: int
    option: int
    rate: int
    gain: float
    added: float
    why: str
    skipped: int = 0


def greedy(
    table: Table, budget: float, *, starts: Starts = "both", stop_at_first: bool = False
) -> tuple[Schedule, list[Move]]:
    """The greedy schedule and the moves that led to it from Max-Sharing at the lowest rate.

    Args:
        table: the choices.
        budget: seconds of compute a second.
        starts: `both` or `lowest`, see above.
        stop_at_first: end at the first best move that does not fit, as in the thesis, in place of skipping it.

    Raises:
        BudgetTooSmall: Max-Sharing at the lowest rate does not fit.
    """
    lowest = cheapest(table)
    require(cost(table, lowest), budget)
    if not len(table):
        return lowest, []
    found = climb(table, budget, lowest, stop_at_first=stop_at_first)
    lifted = lift(table, budget)
    if starts == "lowest" or stop_at_first or not lifted[1]:
        return found
    other = climb(table, budget, lifted[0])
    if table.f1(other[0]).sum() <= table.f1(found[0]).sum() + TINY:
        return found
    return other[0], lifted[1] + other[1]


def require(needed: float, budget: float, what: str = "Max-Sharing at the lowest rate") -> None:
    """Refuse a budget below what is needed.

    Raises:
        BudgetTooSmall: with what would do.
    """
    if not fits(needed, budget):
        raise BudgetTooSmall(
            f"A budget of {budget:.6g} is too small: {what} needs {needed:.6g}; give at least that, "
            "leave applications out, or allow lower rates.",
            needed,
        )


def lift(table: Table, budget: float) -> tuple[Schedule, list[Move]]:
    """Max-Sharing at the highest common rate that fits, and the moves to it."""
    now = cheapest(table)
    rates = range(len(table.rates_R))
    fit = [r for r in rates if fits(cost(table, now._replace(rate_N=np.full(len(table), r))), budget)]
    moves: list[Move] = []
    for n in range(len(table)) if fit[-1] else ():
        after = now._replace(rate_N=np.where(np.arange(len(table)) == n, fit[-1], now.rate_N))
        gain = float((table.f1(after) - table.f1(now))[n])
        moves.append(Move(n, int(now.option_N[n]), fit[-1], gain, cost(table, after) - cost(table, now), "start"))
        now = after
    return now, moves


def climb(table: Table, budget: float, start: Schedule, *, stop_at_first: bool = False) -> tuple[Schedule, list[Move]]:
    """Greedy moves from a schedule that fits."""
    run = _Climb(table, start)
    left = budget + SLACK * abs(budget) - cost(table, start)
    moves: list[Move] = []
    while (move := run.step(left, stop_at_first)) is not None:
        left -= move.added
        moves.append(move)
    return run.schedule(), moves


class _Climb:
    """What every move gains and adds at a schedule. K: the choices of an application that no other beats."""

    def __init__(self, table: Table, start: Schedule) -> None:
        self.table, rows = table, np.arange(len(table))[:, None]
        listed = table.worthy_NOR.copy()
        listed[rows[:, 0], start.option_N, start.rate_N] = True
        flat = listed.reshape(len(table), -1)
        order = np.argsort(~flat, axis=1, kind="stable")[:, : int(flat.sum(axis=1).max())]
        self.option_NK, self.rate_NK = np.divmod(order, len(table.rates_R))
        self.end_NK = table.end_NO[rows, self.option_NK]
        self.stem_NK = self.end_NK * len(table.rates_R) + self.rate_NK  # where in sums of [T + 1, R]
        self.own_NK = table.private_NOR[rows, self.option_NK, self.rate_NK]
        self.f1_NK = np.where(flat[rows, order], table.f1_NOR[rows, self.option_NK, self.rate_NK], -np.inf)
        at = start.option_N * len(table.rates_R) + start.rate_N
        self.now_N = (order == at[:, None]).argmax(axis=1)
        self.seconds_NT = np.where(table.tree_T == table.tree_N[:, None], table.segments_T, 0.0)
        self.use_NT = uses(table, start)
        self.others_NT = self._others()
        self.whole_NK = np.empty(order.shape)  # own layers, and what the stems cost more with the application
        self.here_N, self.worth_N = np.empty(len(table)), table.f1(start)  # of the schedule's own choices
        self.gain_NK, self.more_NK, self.ratio_NK = (np.empty(order.shape) for _ in range(3))
        self._weigh(rows[:, 0])
        self._compare(rows[:, 0])

    def schedule(self) -> Schedule:
        rows = np.arange(len(self.now_N))
        return Schedule(self.option_NK[rows, self.now_N], self.rate_NK[rows, self.now_N])

    def step(self, left: float, stop_at_first: bool) -> Move | None:
        """Make the best move that fits; None where there is none, or the best does not fit and `stop_at_first`."""
        at, skipped = int(self.ratio_NK.argmax()), 0
        if not self.more_NK.flat[at] <= left and not stop_at_first:
            fitting = np.where(self.more_NK <= left, self.ratio_NK, -np.inf)
            at = int(fitting.argmax())
            skipped = int(np.count_nonzero(self.ratio_NK > fitting.flat[at]))
        if not (self.ratio_NK.flat[at] > 0 and self.more_NK.flat[at] <= left):
            return None
        n, k = divmod(at, len(self.ratio_NK[0]))
        gain, more = float(self.gain_NK[n, k]), float(self.more_NK[n, k])
        why = "free" if more <= TINY else "ratio"
        self._make(n, k)
        return Move(n, int(self.option_NK[n, k]), int(self.rate_NK[n, k]), gain, more, why, skipped)

    def _make(self, n: int, k: int) -> None:
        self.now_N[n] = k
        self.use_NT[n] = 0.0
        self.use_NT[n, self.table.first_N[n] : self.end_NK[n, k]] = self.table.rates_R[self.rate_NK[n, k]]
        before, self.others_NT = self.others_NT, self._others()
        touched = np.flatnonzero((before != self.others_NT).any(axis=1))
        if len(touched):
            self._weigh(touched)
            self._compare(touched)
        self.here_N[n], self.worth_N[n] = self.whole_NK[n, k], self.f1_NK[n, k]
        self._compare(slice(n, n + 1))  # a view

    def _others(self) -> Floats:
        """The rate at which each segment runs without an application [N, T]."""
        use_NT, at = self.use_NT, np.arange(self.use_NT.shape[1])
        first = use_NT.argmax(axis=0)
        top = use_NT[first, at]
        others = np.empty_like(use_NT)
        others[:] = top
        use_NT[first, at] = 0.0
        others[first, at] = use_NT.max(axis=0, initial=0.0)
        use_NT[first, at] = top
        return others

    def _weigh(self, rows: Ints) -> None:
        """What the choices of some applications cost, beside the others' as they are."""
        rise = np.maximum(self.table.rates_R - self.others_NT[rows, :, None], 0.0)
        rise *= self.seconds_NT[rows, :, None]
        sums = np.zeros((len(rows), rise.shape[1] + 1, rise.shape[2]))
        np.cumsum(rise, axis=1, out=sums[:, 1:])
        stem = np.take_along_axis(sums.reshape(len(rows), -1), self.stem_NK[rows], axis=1)
        self.whole_NK[rows] = self.own_NK[rows] + stem
        self.here_N[rows] = self.whole_NK[rows, self.now_N[rows]]

    def _compare(self, rows: Ints | slice) -> None:
        """What the moves of some applications gain and add."""
        more, gain = self.whole_NK[rows] - self.here_N[rows, None], self.f1_NK[rows] - self.worth_N[rows, None]
        ratio = np.where(more <= TINY, gain * FREE, gain / np.maximum(more, TINY))
        ratio[gain <= TINY] = -np.inf
        self.gain_NK[rows], self.more_NK[rows], self.ratio_NK[rows] = gain, more, ratio
