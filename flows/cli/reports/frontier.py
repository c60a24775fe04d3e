"""`tamis report frontier`: error against what it cost."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say, table, text
from tamis.flows.cli.reports.lists import numbers

if TYPE_CHECKING:
    from tamis.training.reports.frontier import Frontier, Group, Spread
    from tamis.training.reports.traces import Axis


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--by", default="strategy", show_default=True, metavar="strategy|name|selectivity|FIELD",
    help="What runs are grouped by: strategy with its parameters, the strategy's name alone, selectivity, or a field "
    "of the configuration.",
)  # fmt: skip
@click.option(
    "--full", multiple=True, metavar="RUN",
    help="Full training run to compare with, one for each seed; default: those with the same recipe.",
)  # fmt: skip
@click.option(
    "--factors", callback=numbers, default="1.1,1.2,1.4", show_default=True, metavar="FACTOR,...",
    help="Compare times to these multiples of full training's final error.",
)  # fmt: skip
@click.option(
    "--against", type=click.Choice(["seconds", "backprops"]), default="seconds", show_default=True,
    help="Cost in the table; --json and --plot have both.",
)  # fmt: skip
@click.option("--dataset", help="Only training runs on this dataset: name or name@version.")
@click.option("--plot", metavar="FILE", help="Plot error over seconds and backprops to a .png or .svg file.")
@common
def frontier(
    app: App,
    runs: tuple[str, ...],
    by: str,
    full: tuple[str, ...],
    factors: tuple[float, ...],
    against: "Axis",
    dataset: str | None,
    plot: str | None,
) -> None:
    """Compare runs by error and cost: speedups to an error, and Pareto points.

    Speedups are those to full training's final error times each factor: the time (or backprops) of full training,
    divided by that of the run; "-" where a run never got there. Each run is compared with the full training run of the
    same recipe and, if possible, seed; a group shows the mean of its runs and their standard deviation.

    Pareto points are the evaluations, of all runs, that none beats in both error and cost; the share of a group is its
    part of them. RUNs are keys or prefixes of them; default: all with evaluations during training (--evaluate-every).

    \b
    Examples:
      tamis report frontier --dataset cifar10
      tamis report frontier 1f0c9a 77ab02 5e77c1 --plot frontier.svg
      tamis report frontier --dataset cifar10 --by selectivity --against backprops
      tamis report frontier --by name --factors 1.2 --full 5e77c1 --json
    """
    from tamis.training.reports.frontier import frontier

    found = frontier(app.open(), runs, by=by, full=full, factors=factors, dataset=dataset)
    if plot is not None:
        from tamis.training.reports.drawing.drawings import draw_frontier

        draw_frontier(found, plot)
    if found.unmeasured:
        note(f"{_runs(found.unmeasured)} skipped: no intermediate evaluations (--evaluate-every).")
    if found.unpriced:
        note(f"{_runs(found.unpriced)} without backprops in the history: counted in seconds only.")
    emit(asdict(found) | {"drawn": plot}, app.as_json, lambda: _show(found, against, plot))


def _show(found: "Frontier", against: "Axis", plot: str | None) -> None:
    rows = [_row(found, one, against) for one in found.groups]
    table(rows, title=f"{found.dataset}, evaluated on {found.judge}: speedup in {against}, error {found.measure}")
    if plot is not None:
        say(f"Drawn in {plot}")


def _row(found: "Frontier", one: "Group", against: "Axis") -> dict[str, Any]:
    speedups = zip(found.factors, one.speedup[against], strict=True)
    return {
        "group": one.label,
        "runs": len(one.runs),
        "final error": spread_text(one.final),
        **{f"to x{factor:g}": spread_text(spread, "x") for factor, spread in speedups},
        "Pareto points": one.points[against],
        "share": f"{one.share[against]:.0%}",
    }


def _runs(keys: tuple[str, ...]) -> str:
    return "1 training run" if len(keys) == 1 else f"{len(keys)} training runs"


def spread_text(one: "Spread", unit: str = "") -> str:
    """A mean with its deviation, and where some runs have no value how many have one."""
    if one.mean is None:
        return "-"
    deviation = "" if one.deviation is None else f" ± {one.deviation:.2g}"
    some = "" if one.runs[0] == one.runs[1] else f" ({one.runs[0]} of {one.runs[1]})"
    return f"{f'{one.mean:.2f}' if unit else text(one.mean)}{unit}{deviation}{some}"
