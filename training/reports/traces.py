"""The errors of runs during training and what they had cost by then, and the points that no other one beats.

What: see `tamis.training.reports.frontier`, which puts them together.
Cost: `pareto` sorts the points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.store.runs import Run
from tamis.training.reports.runs import settings_of

Axis = Literal["seconds", "backprops"]
AXES: tuple[Axis, ...] = ("seconds", "backprops")


@dataclass(frozen=True)
class Trace:
    """M evaluations of a run.

    Attributes:
        run: its key.
        label: of its group.
        full: key of the full training that it is held against; None where there is none.
        seed: its seed.
        error: [M] lower is better.
        seconds: [M] of training and selecting by then.
        backprops: [M] samples that had a backward pass by then; None for runs whose history lacks it.
        optimal: by axis, [M] whether an evaluation is a Pareto point.
    """

    run: str
    label: str
    full: str | None
    seed: int
    error: tuple[float, ...]
    seconds: tuple[float, ...]
    backprops: tuple[int, ...] | None
    optimal: dict[Axis, tuple[bool, ...]]

    def costs(self, axis: Axis) -> tuple[float, ...] | None:
        """[M] by then; None where that is not known."""
        return self.seconds if axis == "seconds" else self.backprops

    def reach(self, error: float, axis: Axis = "seconds") -> float | None:
        """C(error): what it had cost when an error was first reached; None if it never was, or no cost is known."""
        costs = self.costs(axis)
        at = next((i for i, one in enumerate(self.error) if one <= error), None)
        if at is None or costs is None:
            return None
        if at == 0 or not isfinite(self.error[at - 1]):
            return costs[at]
        above = self.error[at - 1]
        return costs[at - 1] + (above - error) / (above - self.error[at]) * (costs[at] - costs[at - 1])


def trace(run: Run, label: str, full: Run | None, measure: str) -> Trace:
    """The evaluations of a run, none of them a Pareto point yet."""
    history: list[dict[str, float]] = run.metrics["history"]
    errors = [1 - one["accuracy"] if measure == "1 - accuracy" else one["loss"] for one in history]
    backprops = [int(one["backprops"]) for one in history if "backprops" in one]
    return Trace(
        run=run.key,
        label=label,
        full=None if full is None else full.key,
        seed=settings_of(run)["seed"],
        error=tuple(errors),
        seconds=tuple(one["seconds"] for one in history),
        backprops=tuple(backprops) if len(backprops) == len(history) else None,
        optimal={},
    )


def pareto(costs: ArrayLike, errors: ArrayLike) -> NDArray[np.bool_]:
    """Which of P points no other one beats. One that has no finite error never is.

    Args:
        costs: [P] finite.
        errors: [P] lower is better.

    Returns:
        [P].
    """
    costs_P, errors_P = np.asarray(costs, np.float64), np.asarray(errors, np.float64)
    errors_P = np.where(np.isfinite(errors_P), errors_P, np.inf)
    order_P = np.lexsort((errors_P, costs_P))
    costs_P, errors_P = costs_P[order_P], errors_P[order_P]
    first_P = np.searchsorted(costs_P, costs_P)  # the best of those that cost as much
    before_P = np.concatenate([[np.inf], np.minimum.accumulate(errors_P)])[first_P]  # the best of those that cost less
    found_P = np.empty(len(order_P), np.bool_)
    found_P[order_P] = (errors_P == errors_P[first_P]) & (errors_P < before_P)
    return found_P


def mark(traces: Sequence[Trace]) -> list[Trace]:
    """Runs with the Pareto points of all of them, by each cost that is known."""
    optimal: list[dict[Axis, tuple[bool, ...]]] = [{} for _ in traces]
    for axis in AXES:
        priced = [i for i, one in enumerate(traces) if one.costs(axis) is not None]
        points = [(c, e) for i in priced for c, e in zip(traces[i].costs(axis) or (), traces[i].error, strict=True)]
        found = iter(pareto([c for c, _ in points], [e for _, e in points]).tolist())
        for i in priced:
            optimal[i][axis] = tuple(next(found) for _ in traces[i].error)
    return [replace(one, optimal=marks) for one, marks in zip(traces, optimal, strict=True)]
