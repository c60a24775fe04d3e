"""`tamis doctor`: is everything in order here."""

from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, say


@click.command()
@common
def doctor(app: App) -> None:
    """Check versions, devices, limits of this machine, Prefect and the store; exit code 1 if there are problems.

    Each problem says what to do. Changes nothing: an empty file is written to the store and removed, to try whether it
    is writable and to compare clocks.

    \b
    Examples:
      tamis doctor
      tamis doctor --store work --json
    """
    from tamis.flows.doctor import examine

    found = examine(app.where_or_none)
    emit(found, app.as_json, lambda: _found(found))
    if found["problems"]:
        raise SystemExit(1)


def _found(found: dict[str, Any]) -> None:
    facts({name: value for name, value in found.items() if name != "problems"})
    for problem in found["problems"]:
        say(f"Problem: {problem}")
    if not found["problems"]:
        say("No problems.")
