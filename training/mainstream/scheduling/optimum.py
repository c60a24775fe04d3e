"""The best schedule there is, at full size.

What: the schedule of greatest mean F1 within a budget, exact to 1e-9 of the sum of F1.
When: to judge the greedy schedule, or where half a second is no matter.
How: with the rates of the stems fixed (a staircase) each application picks among the choices under it for its own cost:
a multiple-choice knapsack. So: (1) a price of compute, near where the dual is least, by bisection over the best
staircase at each price; (2) all staircases whose Lagrangian bound at that price is above the best schedule in hand,
segment by segment over the stems (`staircases.search`); (3) the knapsack of each, by falling bound, until the bounds
are no better than what was found. Costs stay real numbers; nothing is rounded.
Cost: 20 to 50 ms for the price, then what lies in the duality gap: mostly few staircases, at worst exponentially many.
Source: the Lagrangian bounds as in Fisher, "The Lagrangian relaxation method", Management Science 27, 1981.
"""

import numpy as np
from numpy.typing import NDArray

from tamis.training.mainstream.scheduling.costs import SLACK, cheapest, cost, fits
from tamis.training.mainstream.scheduling.greedy import greedy, require
from tamis.training.mainstream.scheduling.knapsack import pick
from tamis.training.mainstream.scheduling.staircases import Stairs, priced, search
from tamis.training.mainstream.scheduling.table import Floats, Schedule, Table, compact

EXACT = 1e-9  # of the sum of F1: what the optimum may be better by
BEAM = 100  # partial staircases kept while the price is sought


def optimum(table: Table, budget: float) -> Schedule:
    """The schedule of greatest mean F1.

    Args:
        table: the choices.
        budget: seconds of compute a second.

    Raises:
        BudgetTooSmall: below Max-Sharing at the lowest rate.
    """
    table = compact(table)
    require(cost(table, cheapest(table)), budget)
    if not len(table):
        return cheapest(table)
    run = _Search(table, budget)
    lam = run.price()
    found = search(priced(table, run.worth_NOR, lam), run.floor(lam))
    for p in np.argsort(-found.bound_P, kind="stable"):
        if found.bound_P[p] <= run.floor(lam):
            break
        run.solve(found.stairs_PT[p], lam)
    return run.best


class _Search:
    """The best schedule in hand, and the choices worth looking at as columns of M, application after application."""

    def __init__(self, table: Table, budget: float) -> None:
        self.table, self.asked, self.budget = table, budget, budget * (1 + SLACK)
        self.best, _ = greedy(table, budget)
        self.value = float(table.f1(self.best).sum())
        worthy = table.worthy_NOR
        self.worth_NOR = np.where(worthy, table.f1_NOR, -np.inf)
        self.app_M, self.option_M, self.rate_M = np.nonzero(worthy)
        shared = table.branch_NO[self.app_M, self.option_M] > 0
        self.last_M = np.where(shared, table.end_NO[self.app_M, self.option_M] - 1, -1)  # its last segment of a stem
        self.own_M, self.f1_M = table.private_NOR[worthy], table.f1_NOR[worthy]
        self.begins_N = np.searchsorted(self.app_M, np.arange(len(table)))

    def floor(self, lam: float) -> float:
        """What a staircase's value at a price must exceed to be of interest."""
        return self.value + EXACT - lam * self.budget

    def price(self) -> float:
        """A price of compute where the dual is about least, by bisection: there the best schedule just fits.

        The search for the best staircase keeps a beam here: any price gives a valid bound, the best one a tight bound.
        """
        low, high, best, least = 1e-9, 1e3, 1.0, np.inf
        low, high = low / self.budget, high * len(self.table) / self.budget
        seen: dict[bytes, Stairs] = {}
        while high / low > 1.02:
            lam = (low * high) ** 0.5
            found = search(priced(self.table, self.worth_NOR, lam), -np.inf, BEAM)
            top = int(found.bound_P.argmax())
            stairs, dual = found.stairs_PT[top], found.bound_P[top] + lam * self.budget
            if dual < least:
                best, least = lam, dual
            seen[stairs.tobytes()] = stairs
            low, high = (lam, high) if self.relaxed(stairs, lam) > self.budget else (low, lam)
        for stairs in list(seen.values())[-4:]:
            self.solve(stairs, best)
        return best

    def relaxed(self, stairs_T: Stairs, lam: float) -> float:
        """What everybody's best choice under a staircase costs at a price, offered as a schedule if it fits."""
        net = np.where(self._under(stairs_T), self.f1_M - lam * self.own_M, -np.inf)
        top_N = np.maximum.reduceat(net, self.begins_N)
        picks = [int(a + (net[a:] >= top).argmax()) for a, top in zip(self.begins_N, top_N, strict=True)]
        return self._offer(np.array(picks))

    def solve(self, stairs_T: Stairs, lam: float) -> None:
        """The best schedule under a staircase, if it is better than the one in hand."""
        left = self.budget - float(self.table.segments_T @ self._rates()[stairs_T])
        allowed = self._under(stairs_T)
        net = np.where(allowed, self.f1_M - lam * self.own_M, -np.inf)
        top_N = np.maximum.reduceat(net, self.begins_N)
        slack = top_N.sum() + lam * left - self.value - EXACT
        keep = np.flatnonzero(allowed & (top_N[self.app_M] - net < slack))
        parts = np.split(keep, np.searchsorted(self.app_M[keep], np.arange(1, len(self.table))))
        if left < 0 or not all(len(part) for part in parts):
            return
        picked = pick([self.own_M[p] for p in parts], [self.f1_M[p] for p in parts], left, self.value + EXACT, lam)
        if picked is not None:
            self._offer(np.array([part[i] for part, i in zip(parts, picked.items, strict=True)]))

    def _under(self, stairs_T: Stairs) -> NDArray[np.bool_]:
        """Which choices a staircase allows."""
        return self.rate_M < np.append(stairs_T, len(self.table.rates_R))[self.last_M]

    def _rates(self) -> Floats:
        return np.concatenate([[0.0], self.table.rates_R])

    def _offer(self, picks_N: NDArray[np.intp]) -> float:
        """Keep a schedule if it fits and is better; what it costs."""
        schedule = Schedule(self.option_M[picks_N], self.rate_M[picks_N])
        takes, value = cost(self.table, schedule), float(self.table.f1(schedule).sum())
        if value > self.value and fits(takes, self.asked):
            self.best, self.value = schedule, value
        return takes
