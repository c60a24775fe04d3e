"""`tamis serve`: run the deployments of a file on their schedules."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say, table

if TYPE_CHECKING:
    from tamis.flows.service.checking import Deployment, Service

FILE = "tamis.toml"
_NEXT = ("next", "then", "and")


@click.command()
@click.argument("file", default=FILE, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check the file, show the next runs, and schedule nothing.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Log lines for people, or one JSON object per line.",
)  # fmt: skip
@common
def serve(app: App, file: Path, dry_run: bool, log_format: str) -> None:
    """Run the deployments of FILE (default: tamis.toml) on their schedules until stopped.

    FILE names flows, their configs and their schedules; it is checked completely before anything is scheduled. Uses
    the Prefect server of PREFECT_API_URL or of FILE; without one, starts its own, which keeps schedules across
    restarts and ends with this command. Stop it with Ctrl-C or SIGTERM: runs in progress resume at the next start.

    \b
    Examples:
      tamis serve --dry-run
      tamis serve nightly.toml
      tamis serve /etc/tamis.toml --log-format json
    """
    import contextlib

    from tamis.flows.service.logs import service_log

    where = None if app.where_or_none is None else _absolute(app.where_or_none)
    file = file.absolute()
    with contextlib.chdir(file.parent if file.parent.is_dir() else "."):  # paths in the file are relative to it
        if not dry_run:
            service_log(log_format)  # before Prefect is imported, which reads its logging's settings
        from tamis.flows.service.checking import check

        service = check(file, where)
        if dry_run:
            emit(_planned(service), app.as_json, lambda: _show(service))
            return
        from tamis.flows.service.serving import serve as run

        run(service, log_format)


def _absolute(where: str) -> str:
    return where if "://" in where else str(Path(where).absolute())


def _planned(service: "Service") -> dict[str, Any]:
    return {
        "file": str(service.file), "store": service.store,
        "deployments": [_plan(one) | {"parameters": dict(one.parameters)} for one in service.deployments],
    }  # fmt: skip


def _plan(one: "Deployment") -> dict[str, Any]:
    from tamis.flows.service.times import next_times

    zone = one.table.timezone
    times = next_times(cron=one.table.cron, interval=one.interval, timezone=zone, count=len(_NEXT))
    return {
        "name": one.name, "flow": one.table.flow, "when": one.when, "timezone": zone,
        "concurrency": one.table.concurrency, "collisions": one.table.collisions,
        "next": [time.isoformat() for time in times],
    }  # fmt: skip


def _show(service: "Service") -> None:
    rows: list[dict[str, Any]] = []
    for plan in map(_plan, service.deployments):
        times = [time[:19].replace("T", " ") for time in plan.pop("next")]
        rows.append(plan | dict(zip(_NEXT, times, strict=False)))
    table(rows, ["name", "flow", "when", "timezone", *_NEXT])
    say(f"Store: {service.store}")
    say(f"Nothing was scheduled. Start with `tamis serve {service.file}`.")
