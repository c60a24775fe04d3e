"""Mainstream's scheduler: greedy against the optimum, its time, and the thesis's headline.

Greedy against the optimum: 4,800 workloads of 2 to 10 applications at six budgets. The headline: 100 set-ups of each
number of applications and budget, Mainstream (greedy) against the best schedules of No-Sharing, at 1 to 10 frames a
second and with .1 to .9 as well, and of Max-Sharing. Where No-Sharing does not fit, its F1 is 0 and no ratio is told.
TAMIS_BENCH_PUBLISHED names the authors' curves; otherwise they are generated.
"""

import time
from collections.abc import Callable
from pathlib import Path

import mainstreamsets as sets
import numpy as np
from benchlib import Result, medians
from threadpoolctl import threadpool_limits

from tamis.training.mainstream.events.model import Scores, event_scores
from tamis.training.mainstream.scheduling.baselines import max_sharing, no_sharing
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall
from tamis.training.mainstream.scheduling.greedy import greedy
from tamis.training.mainstream.scheduling.optimum import optimum
from tamis.training.mainstream.scheduling.table import Schedule, Table
from tamis.training.mainstream.scheduling.workload import tabulate


def run(quick: bool, data: Path | None) -> list[Result]:
    given, which = sets.curves()
    with threadpool_limits(1, user_api="blas"):
        return [
            *_gaps(given, which, 6 if quick else 4800),
            _speed(given, 1 if quick else 20),
            *_headline(
                given, f"{which}, coherent model", event_scores, (2, 4) if quick else sets.APPS, 2 if quick else 100
            ),
            *_headline(
                given,
                f"{which}, frames discounted twice",
                sets.twice,
                (2, 4) if quick else sets.APPS,
                2 if quick else 100,
            ),
        ]


def _gaps(given: sets.Curves, which: str, count: int) -> list[Result]:
    """What greedy schedules are short of the optimum, in per cent of its mean F1."""
    draw, rows, seconds = np.random.default_rng(1), [], []
    for i in range(count):
        table = tabulate(sets.drawn(draw, given, int(draw.integers(2, 11))))
        budget = sets.BUDGETS[i % len(sets.BUDGETS)]
        began = time.process_time()
        best = table.f1(optimum(table, budget)).sum()
        seconds.append(time.process_time() - began)
        found = [
            greedy(table, budget), greedy(table, budget, starts="lowest"), greedy(table, budget, stop_at_first=True)
        ]  # fmt: skip
        rows.append([100 * (1 - table.f1(schedule).sum() / best) for schedule, _ in found])
    mean, worst = np.maximum(np.mean(rows, axis=0), 0), np.maximum(np.max(rows, axis=0), 0)
    note = f"{count} workloads, {which}"
    names = ("greedy", "greedy from the lowest rate alone", "the same, ending at the first that does not fit")
    found = [
        Result(f"short of the optimum: {name}", float(m), "%", target=t, note=f"{note}; worst {w:.3g} %")
        for name, m, w, t in zip(names, mean, worst, (0.89, None, None), strict=True)
    ]
    return [*found, Result("optimum, mean", float(np.mean(seconds)), "s", note=f"{note}; worst {max(seconds):.2f} s")]


def _speed(given: sets.Curves, repeats: int) -> Result:
    tables = [tabulate(sets.drawn(np.random.default_rng(seed), given, 30)) for seed in range(len(sets.BUDGETS))]

    def schedule(table: Table, budget: float) -> Callable[[], object]:
        def once() -> None:
            table.__dict__.pop("worthy_NOR", None)  # found anew each time
            greedy(table, budget)

        return once

    work = [schedule(table, budget) for table, budget in zip(tables, sets.BUDGETS, strict=True)]
    taken = medians(repeats, *work, clock=time.process_time)
    options, rates = tables[0].f1_NOR.shape[1:]
    note = f"30 applications x {options} x {rates}, medians at six budgets: the longest; mean {np.mean(taken):.3f} s"
    return Result("greedy schedule", max(taken), "s", target=0.05, note=note)


def _headline(
    given: sets.Curves, which: str, model: Callable[..., Scores], apps: tuple[int, ...], setups: int
) -> list[Result]:
    """Mean F1 of cells, a number of applications at a budget, and the ratios of these means."""
    f1_ABSK = np.zeros((len(apps), len(sets.BUDGETS), setups, 4))
    for a, count in enumerate(apps):
        for s in range(setups):
            one = tabulate(sets.drawn(np.random.default_rng((count, s)), given, count), model)
            slow = tabulate(
                sets.drawn(np.random.default_rng((count, s)), given, count, sets.TENTHS + sets.RATES), model
            )
            for b, budget in enumerate(sets.BUDGETS):
                f1_ABSK[a, b, s] = [
                    one.f1(greedy(one, budget)[0]).mean(), _reached(one, budget, no_sharing),
                    _reached(slow, budget, no_sharing), _reached(one, budget, max_sharing),
                ]  # fmt: skip
    ours_AB, *others = np.moveaxis(f1_ABSK.mean(axis=2), 2, 0)
    names = ("No-Sharing, 1 to 10 fps", "No-Sharing, .1 to 10 fps", "Max-Sharing")
    return [_compared(name, ours_AB, other, which, apps) for name, other in zip(names, others, strict=True)]


def _reached(table: Table, budget: float, baseline: Callable[[Table, float], Schedule]) -> float:
    try:
        return float(table.f1(baseline(table, budget)).mean())
    except BudgetTooSmall:
        return 0.0


def _compared(name: str, ours_AB: np.ndarray, other_AB: np.ndarray, which: str, apps: tuple[int, ...]) -> Result:
    """A baseline's mean F1 against Mainstream's; ratios where the baseline has any F1."""
    some = other_AB > 0
    ratio = np.where(some, ours_AB / np.where(some, other_AB, 1), 0)
    a, b = np.unravel_index(ratio.argmax(), ratio.shape)
    best = (
        f"Mainstream {ratio.max():.3g} x at best ({apps[a]} applications, budget {sets.BUDGETS[b]:g}), "
        if some.any()
        else ""
    )
    mean = f"{ratio[some].mean():.3g} x on average over {some.sum()} of {some.size} cells; " if some.any() else ""
    return Result(
        f"F1 of {name}", float(other_AB.mean()), "", "Mainstream", float(ours_AB.mean()), note=f"{best}{mean}{which}"
    )
