"""`tamis package`: the group, and looking at what there is."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, table

if TYPE_CHECKING:
    from tamis.store.packages import Package

_LISTED = ("package", "candidates", "accuracy", "dataset", "event", "base", "created")


@click.group()
def package() -> None:
    """List, show, export and import M-Packages: fine-tuned models that share the stem of a base model."""


@package.command()
@common
def ls(app: App) -> None:
    """List every version of every package.

    \b
    Examples:
      tamis package ls
      tamis package ls --json
    """
    packages = app.open().packages
    models = {base.key: base.model for base in packages.bases.all()}
    rows = [_row(one, models) for one in packages.all()]
    emit(rows, app.as_json, lambda: table(rows, _LISTED))


def _row(one: "Package", models: dict[str, str]) -> dict[str, Any]:
    return {
        "package": one.ref,
        "key": one.key,
        "candidates": len(one.candidates),
        "accuracy": max(c.accuracy for c in one.candidates),
        "dataset": one.dataset,
        "event": one.event_class,
        "base": models.get(one.base, one.base[:12]),
        "created": one.created,
    }
