"""What Mainstream is compared with: sharing nothing, sharing all but the last layers, choosing among whole models.

What: `unshared` and `deepest` are tables with fewer choices; `no_sharing` and `max_sharing` are the best schedules of
these, exact, so that no baseline is weaker than it has to be.
How: without sharing a choice costs its whole model, stem and own layers, at its rate. Each application then takes its
best candidate at each rate. Candidates of several architectures (figure 5.7) are options that share nothing, each with
its own seconds: `no_sharing` switches between them.
Cost: that of the optimum, with no stems to search for the one and one branch an application for the other.
Source: Jiang, thesis, sections 5.2 (figure 5.7) and 5.5.1.
"""

from dataclasses import replace

import numpy as np

from tamis.training.mainstream.scheduling.costs import cheapest, cost
from tamis.training.mainstream.scheduling.greedy import require
from tamis.training.mainstream.scheduling.optimum import optimum
from tamis.training.mainstream.scheduling.table import Schedule, Table


def unshared(table: Table) -> Table:
    """The same applications, each running its whole model by itself."""
    depth = np.append(0.0, np.cumsum(table.segments_T))
    stem_NO = depth[table.end_NO] - depth[table.first_N][:, None]
    return replace(
        table, segments_T=np.zeros(0), starts_B=np.zeros_like(table.starts_B), branch_NO=np.zeros_like(table.branch_NO),
        seconds_NO=table.seconds_NO + stem_NO,
    )  # fmt: skip


def deepest(table: Table) -> Table:
    """The same applications with only the candidates that share most."""
    order = np.where(table.real_NO, table.branch_NO, -1)
    return table.only((order == order.max(axis=1, keepdims=True, initial=-1))[:, :, None])


def no_sharing(table: Table, budget: float) -> Schedule:
    """The best schedule of whole models; indices are those of the table.

    Raises:
        BudgetTooSmall: the whole models do not fit even at the lowest rate.
    """
    alone = unshared(table)
    require(cost(alone, cheapest(alone)), budget, "No-Sharing at the lowest rate")
    return optimum(alone, budget)


def max_sharing(table: Table, budget: float) -> Schedule:
    """The best schedule in which everybody branches off last.

    Raises:
        BudgetTooSmall: it does not fit even at the lowest rate.
    """
    return optimum(deepest(table), budget)
