"""`tamis report confidence`: confidence and accuracy from the hardest samples to the easiest."""

from dataclasses import asdict
from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say, table

_SHOWN = 10  # percentiles of the table


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--dataset", required=True, help="Dataset to look at: name or name@version.")
@click.option(
    "--parts", default=100, show_default=True, type=click.IntRange(1), help="Parts of equal size; 100: percentiles."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(1), help="Batch size.")
@click.option("--plot", metavar="FILE", help="Plot both over percentiles to a .png or .svg file.")
@common
def confidence(
    app: App, runs: tuple[str, ...], dataset: str, parts: int, device: str, batch_size: int, plot: str | None
) -> None:
    """Show how confident models are in the true class, and how often right, by percentile.

    Samples are sorted by target confidence, the probability that the model gives their label. For each percentile:
    the confidence that is reached there, and the accuracy of the samples between it and the one before. Uses scores of
    the run's model on the dataset (tamis score uncertainty) if there are any; otherwise evaluates the model. Nothing is
    stored. RUNs are keys of finished training runs or prefixes of them.

    \b
    Examples:
      tamis report confidence 1f0c9a 77ab02 --dataset cifar10-test
      tamis report confidence 1f0c9a 77ab02 --dataset cifar10-test --plot confidence.svg
      tamis report confidence 1f0c9a --dataset cifar10-test --parts 20 --json
    """
    from tamis.flows.progress import display, steps
    from tamis.training.reports.confidence import confidences

    store = app.open()
    with display():
        bar = steps("confidence")
        found = confidences(
            store, runs, dataset, parts=parts, device=device, batch_size=batch_size, progress=bar
        )  # fmt: skip
    if plot is not None:
        from tamis.training.reports.drawing.drawings import draw_confidence

        draw_confidence(found, plot)
    for one in found:
        if one.nonfinite:
            note(f"{one.run[:12]}: {one.nonfinite} of {one.nonfinite + one.samples} samples left out: no finite loss.")

    def people() -> None:
        rows = [row for one in found for row in _rows(asdict(one))]
        table(rows, title=f"Target confidence and accuracy by percentile on {found[0].dataset}")
        if plot is not None:
            say(f"Drawn in {plot}")

    emit({"runs": [asdict(one) for one in found], "drawn": plot}, app.as_json, people)


def _rows(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Some percentiles of a run, evenly spaced, the last one among them."""
    count = len(one["percentile"])
    some = sorted({-(-count * i // _SHOWN) - 1 for i in range(1, _SHOWN + 1)})
    columns = ("percentile", "confidence", "accuracy")
    return [{"run": one["run"][:12], "strategy": one["label"]} | {name: one[name][i] for name in columns} for i in some]
