"""`tamis run`: what was executed."""

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, run_facts, table


@click.group()
def run() -> None:
    """Runs: trainings and scoring passes."""


@run.command()
@click.option("--kind", type=click.Choice(["train", "score"]), help="Only these.")
@common
def ls(app: App, kind: str | None) -> None:
    """List runs, the oldest first.

    \b
    Examples:
      tamis run ls
      tamis run ls --kind train --json
    """
    runs = [r for r in app.open().runs.all() if kind in (None, r.kind)]
    rows = [vars(r) for r in runs]
    short = [
        vars(r)
        | {"run": r.key[:12], "selection": (r.selection or "")[:12]}
        | {"accuracy": r.metrics.get("accuracy"), "total s": r.seconds.get("total")}
        for r in runs
    ]
    shown = ("run", "kind", "dataset", "model", "selection", "status", "accuracy", "total s")
    emit(rows, app.as_json, lambda: table(short, shown))


@run.command()
@click.argument("key")
@common
def show(app: App, key: str) -> None:
    """Show one run: KEY is its key, or the beginning of it.

    \b
    Examples:
      tamis run show 1f0c9a
      tamis run show 1f0c9a --json
    """
    found = vars(app.open().runs.get(key))
    emit(found, app.as_json, lambda: run_facts(found))


@run.command()
@click.argument("key")
@click.option("--to", required=True, type=click.Path(file_okay=False), metavar="FOLDER", help="A folder to make.")
@common
def export(app: App, key: str, to: str) -> None:
    """Write the model of a finished training run to a folder that needs no store: KEY is the run's, or its beginning.

    The folder holds the weights (model.safetensors), the facts to load them by (config.json: model, classes, mean, std,
    image size) and a README that shows how. Nothing is overwritten.

    \b
    Examples:
      tamis run export 1f0c9a --to models/cifar10-preact20
      tamis run export 1f0c9a --to models/cifar10-preact20 --json
    """
    from tamis.training.models.saved import export_run

    folder = export_run(app.open(), key, to)
    answer = {"folder": str(folder), "files": sorted(path.name for path in folder.iterdir())}
    emit(answer, app.as_json, lambda: facts(answer))
