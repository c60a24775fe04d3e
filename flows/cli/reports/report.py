"""`tamis report`: what selecting has cost, and what it has saved; further reports are in `tamis.flows.cli.reports`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say, table
from tamis.flows.cli.reports.confidence import confidence
from tamis.flows.cli.reports.costs import costs
from tamis.flows.cli.reports.culling import culling
from tamis.flows.cli.reports.frontier import frontier
from tamis.flows.cli.reports.html import html
from tamis.flows.cli.reports.labels import labels
from tamis.flows.cli.reports.mainstream import mainstream
from tamis.flows.cli.reports.similarity import similarity
from tamis.flows.cli.reports.timeline import timeline

if TYPE_CHECKING:
    from tamis.training.reports.speedup import Report, Speedup


@click.group()
def report() -> None:
    """Reports on runs and labels."""


@report.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--full", metavar="RUN", help="Full training run to compare with; default: the one with the same recipe.")
@click.option(
    "--accuracy", type=click.FloatRange(0, 1, min_open=True), help="Accuracy to compare at; default: each run's best."
)
@click.option("--dataset", help="Only training runs on this dataset: name or name@version.")
@click.option("--out", metavar="FILE", help="Plot accuracy over time to a .png or .svg file.")
@common
def speedup(
    app: App, runs: tuple[str, ...], full: str | None, accuracy: float | None, dataset: str | None, out: str | None
) -> None:
    """Show how much faster than full training each run reached its best accuracy, selection included.

    Speedup is the time in which full training (same model, data and recipe) reached that accuracy, divided by the time
    of the run. Runs that select their own samples include that time; for a replay, the cost of the selection is shown
    separately, with the number of replays after which it has paid off. RUNs are keys or prefixes of them; default: all
    with evaluations during training (--evaluate-every).

    \b
    Examples:
      tamis report speedup
      tamis report speedup --dataset cifar10 --out speedup.svg
      tamis report speedup 1f0c9a 77ab02 --full 5e77c1 --accuracy 0.9 --json
    """
    from tamis.training.reports.drawing.plots import draw_speedups
    from tamis.training.reports.speedup import speedups

    found = speedups(app.open(), runs, full=full, accuracy=accuracy, dataset=dataset)
    drawn = None if out is None else str(draw_speedups(found.rows, out))
    if found.unmeasured:
        left = f"{len(found.unmeasured)} training runs" if len(found.unmeasured) > 1 else "1 training run"
        note(f"{left} skipped: no intermediate evaluations (--evaluate-every).")
    emit(asdict(found) | {"drawn": drawn}, app.as_json, lambda: _show(found, drawn))


def _show(found: "Report", drawn: str | None) -> None:
    table([_row(one) for one in found.rows], title="Fixed-accuracy speedup over full training")
    for one in found.rows:
        if one.note is not None:
            say(f"{one.run[:12]}: {one.note}.")
    if drawn is not None:
        say(f"Written to {drawn}")


def _row(one: "Speedup") -> dict[str, Any]:
    methods = {"full": "full", "replay": f"{one.method}, replayed", "reselect": one.method}
    pays = one.pays_after if one.saved is None or one.pays_after is not None else "never"
    return {
        "run": one.run[:12],
        "method": methods[one.way],
        "selection": one.selection,
        "dataset": one.dataset,
        "model": one.model,
        "lr": one.lr,
        "optimizer": one.optimizer,
        "best": one.best,
        "to": one.accuracy,
        "seconds": one.seconds,
        "full's": one.full_seconds,
        "selecting": one.selecting,
        "stream": one.stream,
        "speedup": one.speedup,
        "pays after": f"{pays} replay{'s' * (pays != 1)}" if isinstance(pays, int) else pays,
    }


for _command in (costs, frontier, confidence, similarity, labels, culling, timeline, mainstream, html):
    report.add_command(_command)
