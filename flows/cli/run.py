"""`tamis run`: what was executed."""

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, run_facts, table


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
