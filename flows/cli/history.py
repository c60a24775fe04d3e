"""`tamis history`: how losses went, and when samples were chosen."""

from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say, table

_SHOWN = 50  # samples of a selection


@click.command()
@click.option("--sample", type=click.IntRange(0), help="The losses of this sample, epoch by epoch.")
@click.option("--run", metavar="KEY", help="The losses of this run; with --sample, of that sample alone.")
@click.option("--selection", metavar="REF", help="When its samples were chosen; with --sample, that one alone.")
@click.option("--plot", metavar="FILE", help="Draw the run as .png or .svg.")
@click.option(
    "--kind",
    type=click.Choice(["bands", "probability", "datamap"]),
    help="What to draw: loss over epochs, probability of the chosen, confidence and its variability. Default: bands.",
)
@common
def history(
    app: App, sample: int | None, run: str | None, selection: str | None, plot: str | None, kind: str | None
) -> None:
    """Show how losses went over epochs, and when samples were chosen.

    \b
    --sample K [--run R]       the losses of one sample: how stale, drawn with which probability, chosen, right
    --run R                    quantiles of the losses of each epoch
    --selection S [--sample K] in which rounds samples were chosen

    \b
    Examples:
      tamis history --run 1f0c9a
      tamis history --run 1f0c9a --plot datamap.svg --kind datamap
      tamis history --sample 77 --run 1f0c9a --json
      tamis history --selection cifar10-gradmatch --sample 77
    """
    if (selection is not None and run is not None) or (sample, run, selection) == (None, None, None):
        raise click.UsageError("Specify what to show: --run KEY, --sample K (of a run or of all), or --selection REF.")
    if (plot is None and kind is not None) or (plot is not None and (run is None or sample is not None)):
        raise click.UsageError("A drawing is of a run: give --run KEY and --plot FILE, and no --sample.")
    if selection is not None:
        _chosen(app, selection, sample)
    elif sample is not None:
        _sample(app, sample, run)
    elif run is not None:
        _run(app, run, plot, kind or "bands")


def _sample(app: App, sample: int, run: str | None) -> None:
    from tamis.store.history import of_sample

    rows = of_sample(app.open(), sample, run)
    emit({"sample": sample, "rows": rows}, app.as_json, lambda: table([r | {"run": r["run"][:12]} for r in rows]))


def _run(app: App, run: str, plot: str | None, kind: str) -> None:
    from tamis.store.history import SHARES, bands, with_losses

    store = app.open()
    rows = bands(store, run)
    if plot is not None:
        from tamis.training.reports.losses import draw_losses

        draw_losses(store, run, kind, plot)

    def people() -> None:
        table([_spread(row, SHARES) for row in rows])
        if plot is not None:
            say(f"Drawn in {plot}")

    answer = {"run": with_losses(store, run), "shares": SHARES, "epochs": rows, "drawn": plot}
    emit(answer, app.as_json, people)


def _spread(row: dict[str, Any], shares: tuple[float, ...]) -> dict[str, Any]:
    """A row with a column for each quantile."""
    quantiles = dict(zip((f"{share:.0%}" for share in shares), row["quantiles"] or [None] * len(shares), strict=True))
    shown = {"epoch": row["epoch"], "samples": row["samples"], "mean": row["mean"], **quantiles}
    return shown | {name: row[name] for name in ("staleness", "selected", "accuracy")}


def _chosen(app: App, selection: str, sample: int | None) -> None:
    from tamis.store.history import chosen

    rows = chosen(app.open(), selection, sample)
    emit({"selection": selection, "samples": rows}, app.as_json, lambda: table(rows[:_SHOWN]))
    if len(rows) > _SHOWN and not app.as_json:
        note(f"Only the first {_SHOWN} of {len(rows):,} samples are shown: --json for all, --sample K for one.")
