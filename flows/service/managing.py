"""Looking at the schedules of a server, pausing them, and reading the log of a run.

The server is the one that a service's file names, or PREFECT_API_URL, or the one of the service that runs on this
machine.
"""

import datetime as dt
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError

from tamis.flows.errors import DeploymentNotFound, ServerUnreachable
from tamis.flows.server.persistent import default_home, state
from tamis.flows.server.settings import check_server, server_url, unreachable
from tamis.flows.server.temporary import told_prefect
from tamis.flows.service.checking import read_tables
from tamis.flows.service.deploying import flow_of, known, was_skipped
from tamis.flows.service.file import ServerTable, interval_of
from tamis.store.advice import did_you_mean

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_PAGE = 200  # lines of a log that a server gives at once


@contextmanager
def on_schedules(file: Path) -> Generator["SyncPrefectClient"]:
    """Within: a client of the server that has the schedules.

    Args:
        file: of the service; where there is none, what is configured, or runs, is taken.

    Raises:
        ServerUnreachable: none is configured and no service runs here, or it does not answer.
        ServiceFileError: the file is no TOML.
    """
    url = address(file)
    check_server(url)
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with told_prefect(url), get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        raise unreachable(url, error) from error


def address(file: Path) -> str:
    """The API of the server that has the schedules; see `on_schedules`."""
    table = _table(file)
    configured = table.url or (server_url() if table.home is None and table.port is None else None)
    if configured is not None:
        return configured
    home = file.absolute().parent / Path(table.home).expanduser() if table.home else default_home()
    found = state(home)
    if found is None:
        raise ServerUnreachable(
            f"No service runs on the server in {home}, which runs only within `tamis serve`. Start that, or set "
            "PREFECT_API_URL to the server that has the schedules."
        )
    return str(found["url"])


def listed(client: "SyncPrefectClient") -> list[dict[str, Any]]:
    """Every deployment of tamis on the server: its schedule, next and last run."""
    rows: list[dict[str, Any]] = []
    for one in sorted(known(client), key=lambda one: one.name):
        schedule = next((each for each in one.schedules), None)
        last, upcoming = _last(client, one.id), _next(client, one.id)
        rows.append({
            "name": one.name, "flow": flow_of(one), "when": _when(schedule),
            "timezone": getattr(schedule.schedule, "timezone", None) if schedule else None,
            "paused": one.paused, "served": one.status is not None and one.status.value == "READY",
            "next": None if one.paused else upcoming,
            "last": last and last.start_time, "state": last and ("Skipped" if was_skipped(last) else last.state_name),
            "run": last and last.name,
        })  # fmt: skip
    return rows


def paused(client: "SyncPrefectClient", name: str, paused: bool) -> dict[str, Any]:
    """Pause a deployment, or resume it. Lasts over restarts of the service.

    Raises:
        DeploymentNotFound: there is none of that name.
    """
    one = _find(client, name)
    if paused:
        client.pause_deployment(one.id)
    else:
        client.resume_deployment(one.id)
    return {"name": one.name, "flow": flow_of(one), "paused": paused, "changed": one.paused is not paused}


def log_of(client: "SyncPrefectClient", named: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run and the lines of its log.

    Args:
        client: of the server.
        named: a deployment, of which it is the last run that began; or a run, by its name or id.

    Raises:
        DeploymentNotFound: there is none of that name, or it has not run.
    """
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort

    run = _run(client, named)
    asked = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    lines: list[Any] = []
    while page := client.read_logs(log_filter=asked, limit=_PAGE, offset=len(lines), sort=LogSort.TIMESTAMP_ASC):
        lines += page
    state = run.state
    about = {
        "run": run.name, "id": str(run.id), "state": state and state.name, "message": state and state.message,
        "began": run.start_time, "ended": run.end_time,
    }  # fmt: skip
    return about, [{"time": one.timestamp, "level": _level(one.level), "message": one.message} for one in lines]


def _table(file: Path) -> ServerTable:
    if not file.is_file():
        return ServerTable()
    try:
        return ServerTable.model_validate(read_tables(file).get("server", {}))
    except ValidationError:  # `tamis serve` says what is wrong with it
        return ServerTable()


def _find(client: "SyncPrefectClient", name: str) -> Any:
    there = {one.name: one for one in known(client)}
    if name not in there:
        listed = ", ".join(sorted(there)) or "none"
        raise DeploymentNotFound(f"No deployment {name}; there are: {listed}.{did_you_mean(name, there)}")
    return there[name]


def _run(client: "SyncPrefectClient", named: str) -> Any:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    deployment = next((one for one in known(client) if one.name == named), None)
    if deployment is not None:
        last = _last(client, deployment.id)
        if last is None:
            raise DeploymentNotFound(f"Deployment {named} has not run yet. `tamis schedule ls` shows when it will.")
        return last
    try:
        asked = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(named)]))
    except ValueError:
        asked = FlowRunFilter(name=FlowRunFilterName(any_=[named]))
    found = client.read_flow_runs(flow_run_filter=asked, sort=FlowRunSort.START_TIME_DESC, limit=1)
    if not found:
        raise DeploymentNotFound(
            f"No deployment and no run {named}. `tamis schedule ls` lists deployments with their last runs."
        )
    return found[0]


def _last(client: "SyncPrefectClient", deployment: UUID) -> Any:
    """The run that began last."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterStartTime
    from prefect.client.schemas.sorting import FlowRunSort

    asked = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]), start_time=FlowRunFilterStartTime(is_null_=False)
    )
    found = client.read_flow_runs(flow_run_filter=asked, sort=FlowRunSort.START_TIME_DESC, limit=1)
    return found[0] if found else None


def _next(client: "SyncPrefectClient", deployment: UUID) -> dt.datetime | None:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    asked = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    found = client.read_flow_runs(flow_run_filter=asked, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1)
    return found[0].next_scheduled_start_time if found else None


def _when(schedule: Any) -> str | None:
    if schedule is None:
        return None
    cron = getattr(schedule.schedule, "cron", None)
    return cron or f"every {interval_of(int(schedule.schedule.interval.total_seconds()))}"


def _level(number: int) -> str:
    import logging

    return logging.getLevelName(number)
