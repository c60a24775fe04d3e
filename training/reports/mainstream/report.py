"""The figures of chapter 5 for packages of a store or for curves of a file.

What: `mainstream` computes the figures that are asked for; `FIGURES` are those that need curves.
When: before packages are deployed, to see what sharing is worth for them; and to hold published curves against the
thesis.
Cost: of the figures that schedule workloads, set-ups times cells; of the others next to none.
Source: A. H. Jiang, thesis, chapter 5.
"""

from collections.abc import Callable, Mapping, Sequence

from tamis.store import Store
from tamis.training.errors import ReportError
from tamis.training.reports.mainstream.charts import Chart, Progress
from tamis.training.reports.mainstream.comparing import by_applications, by_budget, by_correlation, by_votes
from tamis.training.reports.mainstream.frames import by_false_positives, by_rate, by_sharing, most_accurate
from tamis.training.reports.mainstream.replaying import Profiled, profiled
from tamis.training.reports.mainstream.tasks import Tasks
from tamis.training.reports.mainstream.workloads import Settings

FIGURES: dict[str, Callable[[Tasks, Settings, Progress], Chart]] = {
    "sharing": by_sharing,
    "rate": by_rate,
    "applications": by_applications,
    "budget": by_budget,
    "correlation": by_correlation,
    "votes": by_votes,
    "false-positives": by_false_positives,
}
TIMELINE = "timeline"


def mainstream(
    tasks: Tasks,
    names: Sequence[str],
    settings: Settings,
    progress: Callable[[str], Progress],
    store: Store | None = None,
) -> list[Chart]:
    """Figures, in the order in which they are asked for.

    Args:
        tasks: what applications are drawn from.
        names: keys of `FIGURES`.
        settings: what is drawn.
        progress: makes a bar of a figure's name.
        store: where the tasks' packages are, whose held-out video is replayed; None without.

    Raises:
        ReportError: there is no such figure.
    """
    charts = list[Chart]()
    for name in names:
        if name not in FIGURES:
            raise ReportError(f"There is no figure {name!r}: expected one of {', '.join(FIGURES)}, {TIMELINE}.")
        if name == "rate" and store is not None:
            charts.append(by_rate(tasks, settings, progress(name), _replayed(store, tasks)))
        else:
            charts.append(FIGURES[name](tasks, settings, progress(name)))
    return charts


def _replayed(store: Store, tasks: Tasks) -> Mapping[str, Profiled]:
    """What the most accurate candidate of each package finds in held-out video."""
    found = dict[str, Profiled]()
    for task in tasks.tasks:
        best, package = most_accurate(task), store.packages.get(task.package)
        candidates = [one for one in package.candidates if one.branch == best.branch and one.accuracy == best.accuracy]
        seen = profiled(store, package, candidates[0])
        if seen is not None:
            found[task.name] = seen
    return found
