"""Figures that schedule drawn workloads: F1 against applications, budgets, correlations and votes.

How: the workloads of a number of applications are the same in all figures, modes and budgets.
Cost: set-ups times cells times what `tamis.training.reports.mainstream.workloads` says.
Source: A. H. Jiang, thesis, figures 5.9 to 5.13.
"""

from collections.abc import Sequence
from typing import Any

from tamis.training.mainstream.scheduling.greedy import greedy
from tamis.training.reports.mainstream.charts import Chart, Line, Panel, Progress
from tamis.training.reports.mainstream.tasks import Tasks
from tamis.training.reports.mainstream.workloads import MODES, Mode, Reached, Settings, drawn, mean_of

_APPS = "applications"
_WHAT = {"f1": "F1", "recall": "recall", "precision": "precision", "fps": "frames a second"}

Cells = Sequence[tuple[float, dict[Mode, Reached], dict[Mode, float]]]  # x, means, and share of set-ups that fit


def by_applications(tasks: Tasks, settings: Settings, progress: Progress) -> Chart:
    """F1, recall, precision and rate of each mode against the number of applications (figures 5.9 and 5.10)."""
    budget = settings.budget_of(tasks)
    cells = _over_applications(tasks, settings, budget, progress)
    panels = tuple(_panel(cells, name, _APPS, what) for name, what in _WHAT.items())
    title = f"{settings.setups} workloads each, budget {_budget(budget, tasks)}"
    return Chart("applications", "5.9, 5.10", title, panels, _rows(cells, "applications"), _starved(cells))


def by_budget(tasks: Tasks, settings: Settings, progress: Progress) -> Chart:
    """F1 of each mode against the budget, for several applications (figure 5.11)."""
    budgets = settings.budgets_of(tasks)
    found = list[list[dict[Mode, Reached | None]]]()
    for setup in range(settings.setups):
        found.append(drawn(tasks, settings.several, settings, setup).reached(budgets))
        progress(setup + 1, settings.setups)
    cells = [_cell(budget, [one[b] for one in found]) for b, budget in enumerate(budgets)]
    panel = _panel(cells, "f1", f"budget ({_unit(tasks)})", "F1")
    title = f"{settings.several} applications, {settings.setups} workloads"
    return Chart("budget", "5.11", title, (panel,), _rows(cells, "budget"), _starved(cells))


def by_correlation(tasks: Tasks, settings: Settings, progress: Progress) -> Chart:
    """F1 of each mode against the number of applications, misses being all alike, as drawn, and independent (5.12)."""
    budget = settings.budget_of(tasks)
    panels, rows, notes = list[Panel](), list[dict[str, Any]](), list[str]()
    low, high = settings.correlations
    cases = (("fully correlated", 1.0), (f"correlation {low:g} to {high:g}", None), ("uncorrelated", 0.0))
    total = len(cases) * len(settings.applications) * settings.setups

    for number, (name, correlation) in enumerate(cases):
        before = number * total // len(cases)
        cells = _over_applications(
            tasks, settings, budget, lambda done, _, before=before: progress(before + done, total), correlation
        )
        panels.append(_panel(cells, "f1", _APPS, "F1", name))
        rows += [{"correlation": name} | row for row in _rows(cells, "applications")]
        notes += [note for note in _starved(cells) if note not in notes]
    title = f"{settings.setups} workloads each, budget {_budget(budget, tasks)}"
    return Chart("correlation", "5.12", title, tuple(panels), tuple(rows), tuple(notes))


def by_votes(tasks: Tasks, settings: Settings, progress: Progress) -> Chart:
    """F1 of Mainstream against the number of applications, by votes, and with the best votes of each (figure 5.13)."""
    budget, tried = settings.budget_of(tasks), settings.tried
    cases = {f"{x}-voting": (x,) for x in tried} | {"the best of each": tried}
    total, done = len(settings.applications) * settings.setups, 0
    rows = list[dict[str, Any]]()
    for count in settings.applications:
        found: dict[str, list[Reached | None]] = {name: [] for name in cases}
        for setup in range(settings.setups):
            one = drawn(tasks, count, settings, setup)
            for name, votes in cases.items():
                found[name].append(one.means(one.table(votes), budget, lambda table, most: greedy(table, most)[0]))
            done += 1
            progress(done, total)
        rows += [{"applications": count, "votes": name} | mean_of(some)._asdict() for name, some in found.items()]
    lines = tuple(_line(name, rows, tried) for name in cases)
    panel = Panel("", _APPS, "F1", lines, shares=True)
    title = f"Mainstream, {settings.setups} workloads each, budget {_budget(budget, tasks)}"
    return Chart("votes", "5.13", title, (panel,), tuple(rows))


def _line(name: str, rows: Sequence[dict[str, Any]], tried: tuple[int, ...]) -> Line:
    mine = [row for row in rows if row["votes"] == name]
    style = "line" if name.split("-")[0] in map(str, tried) else "dashed"
    return Line(name, tuple(float(row["applications"]) for row in mine), tuple(row["f1"] for row in mine), style)


def _over_applications(
    tasks: Tasks, settings: Settings, budget: float, progress: Progress, correlation: float | None = None
) -> Cells:
    total, done = len(settings.applications) * settings.setups, 0
    cells = list[tuple[float, dict[Mode, Reached], dict[Mode, float]]]()
    for count in settings.applications:
        found = list[dict[Mode, Reached | None]]()
        for setup in range(settings.setups):
            found += drawn(tasks, count, settings, setup, correlation=correlation).reached((budget,))
            done += 1
            progress(done, total)
        cells.append(_cell(count, found))
    return cells


def _cell(
    x: float, found: Sequence[dict[Mode, Reached | None]]
) -> tuple[float, dict[Mode, Reached], dict[Mode, float]]:
    means: dict[Mode, Reached] = {mode: mean_of([one[mode] for one in found]) for mode in MODES}
    fit: dict[Mode, float] = {mode: sum(one[mode] is not None for one in found) / len(found) for mode in MODES}
    return x, means, fit


def _panel(cells: Cells, name: str, across: str, upwards: str, title: str = "") -> Panel:
    x = tuple(float(at) for at, _, _ in cells)
    lines = tuple(Line(mode, x, tuple(getattr(means[mode], name) for _, means, _ in cells)) for mode in MODES)
    return Panel(title, across, upwards, lines, shares=name != "fps")


def _rows(cells: Cells, across: str) -> tuple[dict[str, Any], ...]:
    return tuple(
        {across: x, "mode": mode} | means[mode]._asdict() | {"fits": fit[mode]}
        for x, means, fit in cells
        for mode in MODES
    )


def _starved(cells: Cells) -> tuple[str, ...]:
    """Where a mode does not fit."""
    notes = list[str]()
    for mode in MODES:
        short = [x for x, _, fit in cells if fit[mode] < 1]
        if short:
            many = ", ".join(f"{x:g}" for x in short)
            notes.append(f"{mode} does not fit the budget for some workloads at {many}: they count as F1 0.")
    return tuple(notes)


def _unit(tasks: Tasks) -> str:
    return "s a second" if tasks.unit == "s" else "units of latency a second"


def _budget(budget: float, tasks: Tasks) -> str:
    return f"{budget:.4g} {_unit(tasks)}"
