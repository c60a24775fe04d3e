"""The schedule whose worst application is as well off as can be.

What: max-min fairness, exact: no schedule within the budget has a greater least F1. What budget is left then raises the
mean, by greedy moves that bring nobody below that minimum.
How: binary search over all values that F1 can take. Whether everybody can have v or more is a question of least cost: a
dynamic program over the segments of the stems. Its states are staircases of rates so far with each application's
cheapest way to branch off under them; a state goes when another at the same rate serves every application no worse,
what it does worse and what it has cost more set against each other, or when it cannot come below the budget.
Cost: log2(N O R) dynamic programs of some milliseconds.
Source: Jiang, thesis, section 5.3.3, "Max-Min Fairness Among Applications"; the search and the states are ours.
"""

import numpy as np

from tamis.training.mainstream.scheduling.costs import SLACK, cheapest, cost
from tamis.training.mainstream.scheduling.greedy import Move, climb, require
from tamis.training.mainstream.scheduling.staircases import Stairs, priced, search
from tamis.training.mainstream.scheduling.table import Schedule, Table, compact

BEAM = 100  # partial staircases that a first, quick look keeps


def fair(table: Table, budget: float) -> tuple[Schedule, list[Move]]:
    """The max-min schedule, and the greedy moves that raised the mean at the end.

    Args:
        table: the choices.
        budget: seconds of compute a second.

    Raises:
        BudgetTooSmall: below Max-Sharing at the lowest rate.
    """
    table = compact(table)
    best = cheapest(table)
    require(cost(table, best), budget)
    if not len(table):
        return best, []
    reach = table.f1_NOR.max(axis=(1, 2)).min()
    values = np.unique(table.f1_NOR[np.isfinite(table.f1_NOR)])
    values = values[(values <= reach) & (values > table.f1(best).min())]
    low, high = 0, len(values)  # the first `low` values can be had, those from `high` on cannot
    while low < high:
        middle = (low + high) // 2
        found = least_cost(table, values[middle], budget)
        low, high = (middle + 1, high) if found is not None else (low, middle)
        best = best if found is None else found
    return climb(table.only(table.f1_NOR >= table.f1(best).min()), budget, best)


def least_cost(table: Table, value: float, budget: float) -> Schedule | None:
    """A schedule in which every application has F1 of a value or more, within a budget; None where there is none.

    It is one of least cost where only one stays within the budget.
    """
    worth = np.where(table.f1_NOR >= value, 0.0, -np.inf)
    at, floor = priced(table, worth, 1.0), -budget * (1 + SLACK)
    for beam in (BEAM, None):
        found = search(at, floor, beam, best_only=True)
        if len(found.bound_P):
            return _serve(table, value, found.stairs_PT[found.bound_P.argmax()])
    return None


def _serve(table: Table, value: float, stairs_T: Stairs) -> Schedule:
    """Everybody's cheapest choice of that F1 or more under a staircase; of equal ones that of the best F1."""
    last_NO = np.where(table.branch_NO > 0, table.end_NO - 1, -1)
    steps_NO = np.append(stairs_T, len(table.rates_R))[last_NO]
    allowed = (np.arange(len(table.rates_R)) < steps_NO[:, :, None]) & (table.f1_NOR >= value)
    own = np.where(allowed, table.private_NOR, np.inf).reshape(len(table), -1)
    ties = own <= own.min(axis=1, keepdims=True)
    at = np.where(ties, table.f1_NOR.reshape(len(table), -1), -np.inf).argmax(axis=1)
    option, rate = np.divmod(at, len(table.rates_R))
    return Schedule(option.astype(np.int64), rate.astype(np.int64))
