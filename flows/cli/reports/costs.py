"""`tamis report costs`: where the seconds of runs went."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say, size, table

if TYPE_CHECKING:
    from tamis.training.reports.costs import Cost


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--dataset", help="Only training runs on this dataset: name or name@version.")
@click.option("--plot", metavar="FILE", help="Draw stacked bars to a .png or .svg file.")
@common
def costs(app: App, runs: tuple[str, ...], dataset: str | None, plot: str | None) -> None:
    """Show where the time of training runs went, in seconds that add up to the total.

    Forward passes of selection and of training, backward passes, waiting for batches (reading), evaluation, and what is
    left (other: loading, augmentation, checkpoints); beside them backprops (samples that got a backward pass), and the
    samples and bytes read. Parts that a run did not measure are blank. RUNs are keys or prefixes of them; default: all
    finished training runs.

    \b
    Examples:
      tamis report costs
      tamis report costs 1f0c9a 77ab02 5e77c1 --plot costs.svg
      tamis report costs --dataset cifar10 --json
    """
    from tamis.training.reports.costs import costs

    found = costs(app.open(), runs, dataset=dataset)
    if plot is not None:
        from tamis.training.reports.drawing.drawings import draw_costs

        draw_costs(found, plot)

    def people() -> None:
        table([_row(one) for one in found], title="Seconds of training runs")
        if plot is not None:
            say(f"Drawn in {plot}")

    emit({"runs": [asdict(one) for one in found], "drawn": plot}, app.as_json, people)


def _row(one: "Cost") -> dict[str, Any]:
    parts = {name.replace("_", " "): seconds for name, seconds in asdict(one.parts).items()}
    return {
        "run": one.run[:12],
        "strategy": one.label,
        "dataset": one.dataset,
        "model": one.model,
        "seed": one.seed,
        **parts,
        "total": one.total,
        "backprops": one.backprops,
        "samples": one.samples,
        "bytes": None if one.bytes is None else size(one.bytes),
    }
