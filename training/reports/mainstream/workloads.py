"""Workloads drawn as in the thesis, and how the three ways to run them are compared.

What: each application is a task taken at random, with a length, frequency and correlation of events taken evenly from
ranges; the shortest event is as long as the mean. `reached` schedules a workload in each of the `MODES` and tells the
means over its applications.
How: Mainstream is the greedy schedule; No-Sharing and Max-Sharing are the best schedules of their kinds, so that no
baseline is weaker than it must be. No-Sharing may also run at rates below the others' (`slow`). A mode that does not
fit reaches nothing, and counts as 0 in means.
Cost: of a workload of 30 applications and 16 branchpoints some tenths of a second, mostly of the exact baselines.
Source: A. H. Jiang, thesis, section 5.5.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from tamis.training.errors import ReportError
from tamis.training.mainstream.events.model import Events
from tamis.training.mainstream.scheduling.baselines import max_sharing, no_sharing
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall
from tamis.training.mainstream.scheduling.greedy import greedy
from tamis.training.mainstream.scheduling.table import Schedule, Table
from tamis.training.mainstream.scheduling.workload import Workload, tabulate
from tamis.training.reports.mainstream.tasks import Tasks, application

Mode = Literal["Mainstream", "No-Sharing", "Max-Sharing"]
MODES: tuple[Mode, ...] = get_args(Mode)
Range = tuple[float, float]
_PARTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # budgets by default, in whole models at the highest rate
_MOST, _MOST_SETUPS = 100, 10_000


@dataclass(frozen=True)
class Settings:
    """What is drawn and compared.

    Attributes:
        applications: their numbers, rising.
        several: how many there are where their number is fixed (figure 5.11).
        setups: workloads drawn for each number of applications.
        seed: of all draws.
        budget: latency times rate that may be used; None for one whole model at the highest rate.
        budgets: of the figure of budgets; none for .25 to 1.5 of that.
        rates: frames a second, rising.
        slow: further rates of No-Sharing, all below.
        votes: of the scheduler, rising, where they are not what is looked at.
        tried: votes of the figure of votes.
        lengths: of events, seconds: the least and the most.
        frequencies: share of time inside events.
        correlations: of misses.

    Raises:
        ReportError: a number out of its range.
    """

    applications: tuple[int, ...] = (2, 4, 6, 8, 10, 15, 20, 25, 30)
    several: int = 3
    setups: int = 20
    seed: int = 0
    budget: float | None = None
    budgets: tuple[float, ...] = ()
    rates: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
    slow: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    votes: tuple[int, ...] = (1,)
    tried: tuple[int, ...] = (1, 3, 5, 7)
    lengths: Range = (0.2, 1.0)
    frequencies: Range = (0.1, 1.0)
    correlations: Range = (0.1, 0.9)

    def __post_init__(self) -> None:
        for name, values in (("applications", self.applications), ("rates", self.rates), ("budgets", self.budgets)):
            if not all(b > a for a, b in zip((0, *values), values, strict=False)):
                raise ReportError(f"The {name} are {_said(values)}: expected numbers above 0, rising.")
        if not self.rates or not all(b > a for a, b in zip((0, *self.slow), (*self.slow, self.rates[0]), strict=True)):
            raise ReportError(
                f"The slow rates are {_said(self.slow)}: expected to rise, below {_said(self.rates[:1])}."
            )
        if not self.applications or max(*self.applications, self.several) > _MOST or self.several < 1:
            raise ReportError(f"Numbers of applications: expected 1 to {_MOST}.")
        if not 1 <= self.setups <= _MOST_SETUPS:
            raise ReportError(f"{self.setups} set-ups: expected 1 to {_MOST_SETUPS:,}.")
        if self.budget is not None and not 0 < self.budget < np.inf:
            raise ReportError(f"The budget is {self.budget:g}: expected a number above 0.")
        self._check_ranges()

    def _check_ranges(self) -> None:
        ranges = (
            ("lengths", self.lengths, 0.0, np.inf, "seconds above 0"),
            ("frequencies", self.frequencies, 0.0, 1.0, "shares above 0, up to 1"),
            ("correlations", self.correlations, -1.0, 1.0, "numbers from 0 to 1"),
        )
        for name, (low, high), least, most, expected in ranges:
            inside = least < low <= high <= most and high < np.inf and (name != "correlations" or low >= 0)
            if not inside:
                raise ReportError(
                    f"The {name} go from {low:g} to {high:g}: expected the least and the most, {expected}."
                )

    def budget_of(self, tasks: Tasks) -> float:
        """The budget that is used where it is fixed."""
        return tasks.whole() * self.rates[-1] if self.budget is None else self.budget

    def budgets_of(self, tasks: Tasks) -> tuple[float, ...]:
        """The budgets of the figure of budgets."""
        return self.budgets or tuple(part * tasks.whole() * self.rates[-1] for part in _PARTS)


class Reached(NamedTuple):
    """Means over applications, or over workloads of these.

    Attributes:
        f1, recall, precision: expected, of events.
        fps: frames a second.
        accuracy: of single frames, relative to the application's best candidate.
    """

    f1: float
    recall: float
    precision: float
    fps: float
    accuracy: float


NOTHING = Reached(0.0, 0.0, 0.0, 0.0, 0.0)


def drawn(tasks: Tasks, count: int, settings: Settings, setup: int, *, correlation: float | None = None) -> "Drawn":
    """A workload; the same of the same seed, number of applications and number of the set-up.

    Args:
        tasks: to draw from.
        count: applications.
        settings: ranges, rates and votes.
        setup: number of the set-up.
        correlation: of all applications, in place of one that is drawn; nothing else changes.
    """
    draw = np.random.default_rng((settings.seed, count, setup))
    made = list[tuple[int, Events]]()
    for _ in range(count):
        task = int(draw.integers(len(tasks.tasks)))
        length, share, alike = (
            draw.uniform(*of) for of in (settings.lengths, settings.frequencies, settings.correlations)
        )
        made.append((task, Events(length, length, share, alike if correlation is None else correlation)))
    return Drawn(tasks, tuple(made), settings)


class Drawn:
    """A drawn workload.

    Args:
        tasks: what it is drawn from.
        apps: of each application the task's number and the events.
        settings: rates and votes.
    """

    def __init__(self, tasks: Tasks, apps: tuple[tuple[int, Events], ...], settings: Settings) -> None:
        self.tasks, self.apps, self.settings = tasks, apps, settings

    def table(self, votes: tuple[int, ...] | None = None, *, slow: bool = False) -> Table:
        """Every choice with its F1.

        Args:
            votes: in place of the settings'.
            slow: with No-Sharing's further rates.
        """
        listed = [application(self.tasks.tasks[t], f"a{n}", events) for n, (t, events) in enumerate(self.apps)]
        rates = (*self.settings.slow, *self.settings.rates) if slow else self.settings.rates
        return tabulate(Workload(tuple(listed), self.tasks.bases, rates, votes or self.settings.votes))

    def reached(self, budgets: tuple[float, ...]) -> list[dict[Mode, Reached | None]]:
        """What each mode reaches at each budget; None where it does not fit."""
        fast, slow = self.table(), self.table(slow=True)
        return [
            {
                "Mainstream": self.means(fast, budget, lambda table, most: greedy(table, most)[0]),
                "No-Sharing": self.means(slow, budget, no_sharing),
                "Max-Sharing": self.means(fast, budget, max_sharing),
            }
            for budget in budgets
        ]

    def means(self, table: Table, budget: float, schedule: Callable[[Table, float], Schedule]) -> Reached | None:
        """The means over the applications; None where nothing fits."""
        try:
            option_N, rate_N = found = schedule(table, budget)
        except BudgetTooSmall:
            return None
        at = np.arange(len(table)), option_N, rate_N
        chosen = [self.tasks.tasks[t].options for t, _ in self.apps]
        accuracy = [
            options[o].accuracy / (max(one.accuracy for one in options) or 1.0)
            for options, o in zip(chosen, option_N.tolist(), strict=True)
        ]
        return Reached(
            float(table.f1(found).mean()), float(table.recall_NOR[at].mean()), float(table.precision_NOR[at].mean()),
            float(table.rates_R[rate_N].mean()), float(np.mean(accuracy)),
        )  # fmt: skip


def mean_of(found: list[Reached | None]) -> Reached:
    """The means over workloads; what does not fit counts as 0."""
    return Reached(*np.mean([one or NOTHING for one in found], axis=0).tolist())


def _said(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"
