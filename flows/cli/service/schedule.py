"""`tamis schedule`: look at what `tamis serve` has scheduled, pause it, and read the log of a run."""

from pathlib import Path
from typing import Any, TypeVar

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, say, table, text
from tamis.flows.cli.service.serve import FILE

F = TypeVar("F")


@click.group()
def schedule() -> None:
    """Show, pause and resume the schedules of `tamis serve`, and read the logs of runs.

    Finds the Prefect server as `tamis serve` does: in tamis.toml, in PREFECT_API_URL, or the server of the service
    that runs on this machine.
    """


def _file(command: Any) -> Any:
    return click.option(
        "--file", default=FILE, show_default=True, type=click.Path(path_type=Path),
        help="The service's file: names its server.",
    )(command)  # fmt: skip


@schedule.command()
@_file
@common
def ls(app: App, file: Path) -> None:
    """List deployments: their schedules, next and last runs.

    \b
    Examples:
      tamis schedule ls
      tamis schedule ls --json
    """
    from tamis.flows.service.managing import listed, on_schedules

    with on_schedules(file) as client:
        rows = listed(client)
    emit(rows, app.as_json, lambda: table(rows))


@schedule.command()
@click.argument("name")
@_file
@common
def pause(app: App, file: Path, name: str) -> None:
    """Pause deployment NAME: no new runs until it is resumed, also after a restart. A run in progress continues.

    \b
    Examples:
      tamis schedule pause nightly-scores
    """
    _set(app, file, name, True)


@schedule.command()
@click.argument("name")
@_file
@common
def resume(app: App, file: Path, name: str) -> None:
    """Resume the paused deployment NAME. Runs missed meanwhile are not made up.

    \b
    Examples:
      tamis schedule resume nightly-scores
    """
    _set(app, file, name, False)


@schedule.command()
@click.argument("run", metavar="NAME|RUN")
@_file
@common
def logs(app: App, file: Path, run: str) -> None:
    """Print the log of a run: of RUN (name or id), or of the latest run of deployment NAME.

    \b
    Examples:
      tamis schedule logs nightly-scores
      tamis schedule logs hopeful-gopher --json
    """
    from tamis.flows.service.managing import log_of, on_schedules

    with on_schedules(file) as client:
        about, lines = log_of(client, run)

    def people() -> None:
        facts(about)
        for line in lines:
            say(f"{text(line['time'])}  {line['level']:<7}  {line['message']}")

    emit(about | {"lines": lines}, app.as_json, people)


def _set(app: App, file: Path, name: str, paused: bool) -> None:
    from tamis.flows.service.managing import on_schedules
    from tamis.flows.service.managing import paused as set_paused

    with on_schedules(file) as client:
        done = set_paused(client, name, paused)
    state = "paused" if paused else "resumed"
    emit(done, app.as_json, lambda: say(f"{name}: {state if done['changed'] else f'was {state} already'}"))
