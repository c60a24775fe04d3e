"""`tamis run`: what was executed."""

from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.lifecycle.commands import add_removal
from tamis.flows.cli.output import emit, facts, repeatedly, run_facts, table

_COLUMNS = ("run", "kind", "dataset", "model", "selection", "status", "accuracy", "total s")


@click.group()
def run() -> None:
    """List, show and export training and scoring runs."""


@run.command()
@click.option("--kind", help="Only runs of this kind: train, score, features.")
@click.option("--watch", is_flag=True, help="Refresh the list until Ctrl-C.")
@click.option("--every", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between refreshes.")
@common
def ls(app: App, kind: str | None, watch: bool, every: float) -> None:
    """List runs, oldest first.

    \b
    Examples:
      tamis run ls
      tamis run ls --watch
      tamis run ls --kind train --json
    """
    from tamis.store import summaries

    store = app.open()
    if watch:
        if app.as_json:
            raise click.UsageError("--watch and --json are mutually exclusive.")
        repeatedly(lambda: table(map(_short, summaries.runs(store, kind)), _COLUMNS), every)
        return
    rows = summaries.runs(store, kind)
    emit(rows, app.as_json, lambda: table(map(_short, rows), _COLUMNS))


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"run": row["key"][:12], "selection": (row["selection"] or "")[:12], "total s": row["total"]}


@run.command()
@click.argument("key")
@common
def show(app: App, key: str) -> None:
    """Show a run. KEY is its key or a prefix of it.

    \b
    Examples:
      tamis run show 1f0c9a
      tamis run show 1f0c9a --json
    """
    found = vars(app.open().runs.get(key))
    emit(found, app.as_json, lambda: run_facts(found))


@run.command()
@click.argument("key")
@click.option("--to", required=True, type=click.Path(file_okay=False), metavar="FOLDER", help="Folder to create.")
@common
def export(app: App, key: str, to: str) -> None:
    """Export the model of a finished training run to a folder. KEY is the run's key or a prefix of it.

    The folder holds the weights (model.safetensors), what is needed to load them (config.json: model, classes, mean,
    std, image size) and a README that shows how. Nothing is overwritten.

    \b
    Examples:
      tamis run export 1f0c9a --to models/cifar10-preact20
      tamis run export 1f0c9a --to models/cifar10-preact20 --json
    """
    from tamis.training.models.saved import export_run

    folder = export_run(app.open(), key, to)
    answer = {"folder": str(folder), "files": sorted(path.name for path in folder.iterdir())}
    emit(answer, app.as_json, lambda: facts(answer))


add_removal(run, "run", "runs", "1f0c9a", " Its scores, losses and model go with it.")
