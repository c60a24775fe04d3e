"""`tamis report mainstream`: figures of what sharing a base model's stem is worth."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say, table
from tamis.flows.cli.reports.lists import numbers, whole_numbers

if TYPE_CHECKING:
    from tamis.store import Store
    from tamis.training.reports.mainstream.charts import Chart
    from tamis.training.reports.mainstream.tasks import Tasks
    from tamis.training.reports.mainstream.workloads import Settings

# As in tamis.training.reports.mainstream.report, which loads torch.
_FIGURES = ("sharing", "rate", "applications", "budget", "correlation", "votes", "false-positives")
_TIMELINE = "timeline"
_SHOWN = 40  # rows of a table


@click.command()
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
@click.option(
    "--curves", type=click.Path(), metavar="FILE", help="Use the curves of a JSON file instead of stored packages."
)
@click.option(
    "--figure", "figures", multiple=True, default=("applications",), show_default=True,
    type=click.Choice([*_FIGURES, _TIMELINE, "all"]), help="Which figures. all: those that the arguments allow.",
)  # fmt: skip
@click.option("--plot", metavar="FILE|FOLDER", help="Plot to a .svg or .png file, or several figures into a folder.")
@click.option("--set-ups", type=int, default=20, show_default=True, help="Workloads drawn per number of applications.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the workloads.")
@click.option(
    "--applications", callback=whole_numbers, default="2,4,6,8,10,15,20,25,30", show_default=True, metavar="N,...",
    help="Numbers of applications.",
)  # fmt: skip
@click.option("--several", type=int, default=3, show_default=True, help="Number of applications in figure budget.")
@click.option(
    "--budget", type=float, metavar="X", help="Compute used per second. Default: one whole model at the highest rate."
)
@click.option(
    "--budgets", callback=numbers, metavar="X,...", help="Budgets in figure budget. Default: 0.25 to 1.5 times that."
)
@click.option(
    "--rates", callback=numbers, default="1,2,3,4,5,6,7,8,9,10", show_default=True, metavar="FPS,...",
    help="Sample rates, up to that of the camera.",
)  # fmt: skip
@click.option(
    "--slow-rates", callback=numbers, default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", show_default=True,
    metavar="FPS,...", help="Lower sample rates that No-Sharing may use as well.",
)  # fmt: skip
@click.option(
    "--votes", callback=whole_numbers, default="1", show_default=True, metavar="X,...",
    help="Consecutive hits that report an event: the scheduler chooses among these.",
)  # fmt: skip
@click.option(
    "--lengths", callback=numbers, default="0.2,1", show_default=True, metavar="LOW,HIGH", help="Event lengths, s."
)
@click.option(
    "--frequencies", callback=numbers, default="0.1,1", show_default=True, metavar="LOW,HIGH",
    help="Shares of time inside events.",
)  # fmt: skip
@click.option(
    "--correlations", callback=numbers, default="0.1,0.9", show_default=True, metavar="LOW,HIGH",
    help="Correlations of misses in successive frames.",
)  # fmt: skip
@click.option("--device", metavar="NAME", help="Use the latency profile of this device. Default: the newest.")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="Run of tamis package run, for figure timeline.")
@click.option("--labels", metavar="DATASET", help="Dataset whose labeled events figure timeline shows.")
@click.option("--event", metavar="CLASS", help="Class of DATASET that is the event. Default: class 1.")
@click.option("--window", callback=numbers, metavar="FROM,TO", help="Seconds shown in figure timeline.")
@common
def mainstream(
    app: App, packages: tuple[str, ...], curves: str | None, figures: tuple[str, ...], plot: str | None, **given: Any
) -> None:
    """Show what sharing a stem is worth, for PACKAGEs of the store or the curves of a file.

    Applications are drawn from the packages (or curves) at random; length, frequency and correlation of their events
    are drawn uniformly from ranges. Mainstream, No-Sharing and Max-Sharing are scheduled for each workload, and means
    are shown. Latencies are from a stored profile of the base model; budgets are in seconds of compute per second, or
    in the file's units.

    \b
    sharing          frames per second and accuracy against the shared part of the model (figure 5.4)
    rate             recall against sample rate (5.6)
    applications     F1, recall, precision and sample rate against the number of applications (5.9, 5.10)
    budget           F1 against the budget (5.11)
    correlation      F1 for fully correlated, drawn and uncorrelated misses (5.12)
    votes            F1 of Mainstream by X-voting (5.13)
    timeline         hits, misses and reports of a run (5.14)
    false-positives  false positive frequency against sample rate (5.15)

    \b
    Examples:
      tamis report mainstream people cars@2 --figure all --plot figures/
      tamis report mainstream people --figure budget --set-ups 100 --votes 1,2,3 --plot budget.svg
      tamis report mainstream --curves published.json --applications 2,10,30 --budget 100 --json
      tamis report mainstream --figure timeline --run 1f0c9a --labels site-later --window 20,40 --plot looks.svg
    """
    from tamis.flows.progress import display
    from tamis.training.errors import ReportError

    settings = _settings(given)
    asked = _asked(figures, bool(packages or curves), bool(given["runs"]))
    targets = _targets(asked, plot)
    if packages and curves:
        raise ReportError("Both packages and --curves are given: choose one.")
    store = app.open() if packages or given["runs"] else None
    with display():
        charts = _charts(store, packages, curves, asked, settings, given)
    drawn = [_draw(chart, target) for chart, target in zip(charts, targets, strict=True) if target is not None]
    for chart in charts:
        for one in chart.notes:
            note(one)
    answer = {
        "settings": asdict(settings),
        "figures": [{"name": one.name, "figure": one.figure, "title": one.title, "rows": one.rows} for one in charts],
        "drawn": drawn,
    }
    emit(answer, app.as_json, lambda: _show(charts, drawn))


def _settings(given: dict[str, Any]) -> "Settings":
    from tamis.training.errors import ReportError
    from tamis.training.reports.mainstream.workloads import Settings

    for name in ("lengths", "frequencies", "correlations", "window"):
        if given[name] is not None and len(given[name]) != 2:
            raise ReportError(f"--{name} takes two numbers, the least and the most, such as 0.1,0.9.")
    return Settings(
        applications=given["applications"], several=given["several"], setups=given["set_ups"], seed=given["seed"],
        budget=given["budget"], budgets=given["budgets"] or (), rates=given["rates"], slow=given["slow_rates"],
        votes=given["votes"], lengths=given["lengths"], frequencies=given["frequencies"],
        correlations=given["correlations"],
    )  # fmt: skip


def _asked(figures: tuple[str, ...], has_curves: bool, has_runs: bool) -> list[str]:
    """The figures, each once, in the order of the help text.

    Raises:
        ReportError: what they need is not given.
    """
    from tamis.training.errors import ReportError

    chosen = set(figures)
    if "all" in chosen:
        chosen = {*(_FIGURES if has_curves else ()), *((_TIMELINE,) if has_runs else ())}
    if not chosen or (not has_curves and chosen - {_TIMELINE}):
        raise ReportError(
            "No curves given: name packages of the store (tamis package ls), or a file with --curves; for figure "
            "timeline, give --run."
        )
    if _TIMELINE in chosen and not has_runs:
        raise ReportError("Figure timeline shows a run: give one with --run (tamis run ls lists them).")
    return [name for name in (*_FIGURES, _TIMELINE) if name in chosen]


def _targets(asked: list[str], plot: str | None) -> list[str | None]:
    """The file of each figure.

    Raises:
        ReportError: several figures for one file, or another kind of file.
    """
    from tamis.training.errors import ReportError
    from tamis.training.reports.drawing.plots import check_form

    if plot is None:
        return [None] * len(asked)
    folder = Path(plot)
    if plot.endswith("/") or folder.is_dir() or not folder.suffix:
        return [str(folder / f"{name}.svg") for name in asked]
    check_form(plot)
    if len(asked) > 1:
        raise ReportError(f"{len(asked)} figures do not fit into {plot}: give a folder, such as figures/.")
    return [plot]


def _charts(
    store: "Store | None", packages: tuple[str, ...], curves: str | None, asked: list[str], settings: "Settings",
    given: dict[str, Any],
) -> "list[Chart]":  # fmt: skip
    from tamis.flows.progress import steps
    from tamis.training.reports.mainstream.looks import by_looks, looked
    from tamis.training.reports.mainstream.report import mainstream

    names = [name for name in asked if name != _TIMELINE]
    charts = list["Chart"]()
    if names:
        tasks = _tasks(store, packages, curves, given["device"])
        charts = mainstream(tasks, names, settings, steps, store if packages else None)
    if _TIMELINE in asked:
        assert store is not None
        runs = [looked(store, run, given["labels"], given["event"]) for run in given["runs"]]
        charts.append(by_looks(runs, given["window"]))
    return charts


def _tasks(store: "Store | None", packages: tuple[str, ...], curves: str | None, device: str | None) -> "Tasks":
    from tamis.training.reports.mainstream.tasks import published, stored

    if curves is not None:
        return published(curves)
    assert store is not None
    return stored(store, packages, device)


def _draw(chart: "Chart", target: str) -> str:
    from tamis.training.reports.drawing.mainstreams import draw_chart

    Path(target).parent.mkdir(parents=True, exist_ok=True)
    return str(draw_chart(chart, target))


def _show(charts: "list[Chart]", drawn: list[str]) -> None:
    for chart in charts:
        rows = chart.rows[:: -(-len(chart.rows) // _SHOWN)] if len(chart.rows) > _SHOWN else chart.rows
        some = "" if len(rows) == len(chart.rows) else f" (every {-(-len(chart.rows) // _SHOWN)}th row; --json has all)"
        table(rows, title=f"{chart.name} (figure {chart.figure}): {chart.title}{some}")
    for one in drawn:
        say(f"Written to {one}")
