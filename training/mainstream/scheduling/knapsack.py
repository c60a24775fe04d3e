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


class _Curve(NamedTuple):
    """A concave, piecewise linear function: the most value for a cost."""

    costs: Floats
    values: Floats

    def __call__(self, cost: Floats) -> Floats:
        return np.interp(cost, self.costs, self.values, left=-np.inf)


def pick(costs: Sequence[Floats], values: Sequence[Floats], budget: float, floor: float) -> Picked | None:
    """The choice of greatest value above a floor; None where there is none.

    Args:
        costs: of each class's items, at least 0.
        values: of the same.
        budget: that the sum of costs must not exceed.
        floor: values up to it are of no interest.
    """
    kept = [_frontier(c, v) for c, v in zip(costs, values, strict=True)]
    bounds = _bounds([(c[k], v[k]) for c, v, k in zip(costs, values, kept, strict=True)])
    cost, value = np.zeros(1), np.zeros(1)
    trail: list[tuple[Ints, Ints]] = []
    for c, v, k, bound in zip(costs, values, kept, bounds[1:], strict=True):
        cost, value = (cost[:, None] + c[k]).ravel(), (value[:, None] + v[k]).ravel()
        alive = np.flatnonzero(value + bound(budget - cost) > floor)
        alive = alive[_frontier(cost[alive], value[alive])]
        trail.append((alive // len(k), k[alive % len(k)]))
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
    return order[np.diff(risen, prepend=-np.inf) > 0]


def _bounds(classes: Sequence[tuple[Floats, Floats]]) -> list[_Curve]:
    """For each class and none, the linear relaxation of it and all that follow."""
    curves = [_Curve(np.zeros(1), np.zeros(1))]
    base_cost = base_value = 0.0
    steps = np.zeros((2, 0))
    for costs, values in reversed(classes):
        corners = _hull(costs, values)
        base_cost, base_value = base_cost + costs[0], base_value + values[0]
        more = np.stack([np.diff(costs[corners]), np.diff(values[corners])])
        steps = np.concatenate([steps, more], axis=1)
        steps = steps[:, np.argsort(-steps[1] / steps[0], kind="stable")]
        runs = np.concatenate([[[base_cost], [base_value]], steps], axis=1).cumsum(axis=1)
        curves.append(_Curve(runs[0], runs[1]))
    return curves[::-1]


def _hull(costs: Floats, values: Floats) -> list[int]:
    """Corners of the concave envelope of a frontier."""
    corners: list[int] = []
    for i in range(len(costs)):
        while len(corners) > 1 and _below(costs, values, corners[-2], corners[-1], i):
            corners.pop()
        corners.append(i)
    return corners


def _below(costs: Floats, values: Floats, a: int, b: int, c: int) -> bool:
    """Whether b lies on or under the line from a to c."""
    return bool((values[b] - values[a]) * (costs[c] - costs[a]) <= (values[c] - values[a]) * (costs[b] - costs[a]))
