"""The best choice of one item a class within a budget: what is left of scheduling once the stems' rates are fixed.

What: the multiple-choice knapsack with real costs, exact.
How: class by class, the Pareto frontier of (cost, value) of all partial choices. A partial choice goes when even the
linear relaxation of the classes to come, a concave function of what budget is left, does not lift it above a floor.
Cost: frontier x items a class; the frontier stays short where the floor is near the optimum.
Source: Dudzinski and Walukiewicz, "Exact methods for the knapsack problem", EJOR 28, 1987 (bounds); Kellerer, Pferschy
and Pisinger, "Knapsack Problems", 2004, chapter 11.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tamis.training.mainstream.scheduling.table import Floats, Ints


class Picked(NamedTuple):
    """The best choice.

    Attributes:
        value: its sum.
        items: one index a class.
    """

    value: float
    items: list[int]


def pick(costs: Sequence[Floats], values: Sequence[Floats], budget: float, floor: float, price: float) -> Picked | None:
    """The choice of greatest value above a floor; None where there is none.

    Args:
        costs: of each class's items, at least 0.
        values: of the same.
        budget: that the sum of costs must not exceed.
        floor: values up to it are of no interest.
        price: of a unit of cost; any of 0 or more gives the same answer, one near the dual's gives it fast.
    """
    tops = [float((v - price * c).max()) for c, v in zip(costs, values, strict=True)]
    ahead = np.cumsum([0.0, *tops[:0:-1]])[::-1]  # of the classes after each
    cost, value = np.zeros(1), np.zeros(1)
    trail: list[tuple[Ints, Ints]] = []
    for c, v, top in zip(costs, values, ahead, strict=True):
        cost, value = (cost[:, None] + c).ravel(), (value[:, None] + v).ravel()
        alive = np.flatnonzero((cost <= budget) & (value + top + price * (budget - cost) > floor))
        alive = alive[_frontier(cost[alive], value[alive])]
        trail.append((alive // len(c), alive % len(c)))
        cost, value = cost[alive], value[alive]
        if not len(alive):
            return None
    at = len(value) - 1  # the last of a frontier is worth most
    items: list[int] = []
    for parents, picks in reversed(trail):
        items.append(int(picks[at]))
        at = int(parents[at])
    return Picked(float(value[-1]), items[::-1])


def _frontier(costs: Floats, values: Floats) -> Ints:
    """Those that no other beats, by rising cost and value."""
    order = np.lexsort((-values, costs))
    risen = np.maximum.accumulate(values[order])
    return order[np.concatenate([[True], risen[1:] > risen[:-1]])] if len(order) else order
