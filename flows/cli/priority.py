"""`tamis priority`: prioritisation functions that are kept."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, table

if TYPE_CHECKING:
    from tamis.store.priorities import StoredPriority

_SHOWN = ("priority", "kind", "values", "points", "search", "trial", "created")
_SHARES = (0.0, 0.25, 0.5, 0.75, 0.8, 0.9, 1.0)


@click.group()
def priority() -> None:
    """List, show and import prioritisation functions: from a loss's share of the history to a probability."""


@priority.command()
@common
def ls(app: App) -> None:
    """List every version of every prioritisation function.

    \b
    Examples:
      tamis priority ls
      tamis priority ls --json
    """
    rows = [_row(one) for one in app.open().priorities.all()]
    emit(rows, app.as_json, lambda: table([_short(row) for row in rows], _SHOWN))


@priority.command()
@click.argument("ref")
@click.option("--plot", metavar="FILE", help="Draw the function to a .png or .svg file.")
@common
def show(app: App, ref: str, plot: str | None) -> None:
    """Show a prioritisation function. REF is a name or name@version.

    \b
    Examples:
      tamis priority show cifar10-adaptsb
      tamis priority show cifar10-adaptsb@2 --plot priority.svg
    """
    from tamis.curation.selective.priority import Priority

    found = app.open().priorities.get(ref)
    function = Priority.from_json(found.function)
    chances = [{"share": share, "probability": float(function(share))} for share in _SHARES]
    drawn = None
    if plot is not None:
        from tamis.training.reports.drawing.functions import draw_functions

        drawn = str(draw_functions({found.ref: function}, plot))
    answer = _row(found) | {"stats": found.stats, "probabilities": chances, "drawn": drawn}

    def people() -> None:
        facts({k: v for k, v in answer.items() if k != "probabilities"})
        table(chances, title="Probability of selection")

    emit(answer, app.as_json, people)


@priority.command(name="import")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@common
def import_(app: App, name: str, file: str) -> None:
    """Store a prioritisation function as the next version of NAME.

    FILE holds JSON with version, kind (power, linear, cubic, beta or steps), values and points. The same function
    imported again is the version that is there.

    \b
    Examples:
      echo '{"version": 1, "kind": "linear", "values": [0.2, 0.5, 1, 0.4], "points": [0, 0.5, 0.8, 1]}' > f.json
      tamis priority import no-outliers f.json
      tamis train --dataset cifar10 --strategy selective-backprop --priority no-outliers
    """
    from tamis.curation.errors import CurationError
    from tamis.curation.selective.priority import Priority

    try:
        function = Priority.from_json(json.loads(Path(file).read_text()))
    except (ValueError, TypeError, AttributeError, KeyError, CurationError) as error:
        raise click.UsageError(f"{file} holds no prioritisation function: {error}.") from error
    answer = _row(app.open().priorities.publish(name, function.to_json()))
    emit(answer, app.as_json, lambda: facts(answer))


def _row(found: "StoredPriority") -> dict[str, Any]:
    fields = {k: found.function.get(k) for k in ("kind", "values", "points")}
    lineage = {"search": found.search, "trial": found.trial, "created": found.created}
    return {"priority": found.ref, "key": found.key, **fields, **lineage}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    lists = {k: " ".join(f"{v:.3g}" for v in row[k]) for k in ("values", "points")}
    return row | lists | {"search": (row["search"] or "")[:12]}
