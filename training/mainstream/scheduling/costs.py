"""Seconds of compute a second that a schedule takes on its shared trees.

What: for each segment of a base, its latency times (the rates of the applications that branched off before it, summed,
plus the highest rate of those that still share it). Bases are separate trees.
How: in the same sum, an application pays for its own layers at its own rate, and a stem's segment runs at the highest
rate of the applications that use it. Two applications that share A and own B1 and B2, both at F: F C_A + 2 F C_B.
Cost: N T for N applications and T segments.
Source: Jiang, thesis, section 5.3.3, "Measuring the Cost of a Move".

Latencies are seconds a frame, and a cost of 1 is one device in full use; with relative latencies costs are relative in
the same way.
"""

import numpy as np

from tamis.training.mainstream.scheduling.table import Floats, Schedule, Table

SLACK = 1e-9  # of a budget: what sums in another order may differ by


def fits(cost: float, budget: float) -> bool:
    """Whether a cost keeps to a budget, rounding aside."""
    return cost <= budget + SLACK * abs(budget)


def uses(table: Table, schedule: Schedule) -> Floats:
    """The rate at which each application needs each segment of the stems [N, T]; 0 where it does not."""
    rows, at = np.arange(len(table)), np.arange(len(table.segments_T))
    ends = table.end_NO[rows, schedule.option_N]
    inside = (at >= table.first_N[:, None]) & (at < ends[:, None])
    return np.where(inside, table.rates_R[schedule.rate_N][:, None], 0.0)


def stem_rates(table: Table, schedule: Schedule) -> Floats:
    """The rate of each segment of the stems [T]: the highest of those that use it."""
    return uses(table, schedule).max(axis=0, initial=0.0)


def cost(table: Table, schedule: Schedule) -> float:
    """What a schedule costs: its stems and everybody's own layers."""
    own = table.private_NOR[np.arange(len(table)), schedule.option_N, schedule.rate_N]
    return float(table.segments_T @ stem_rates(table, schedule) + own.sum())


def cheapest(table: Table) -> Schedule:
    """Max-Sharing at the lowest rate: the deepest branch of every application, its cheapest model there."""
    order = np.where(table.real_NO, table.branch_NO, -1)
    deepest = order == order.max(axis=1, keepdims=True)
    option = np.where(deepest & table.real_NO, table.seconds_NO, np.inf).argmin(axis=1)
    return Schedule(option, np.zeros(len(table), np.int64))
