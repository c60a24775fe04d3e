"""Runs that ended with their service, and are run again: the same run, which finds in the store what it had finished.

A run's process ends with its service, also when that is killed. Its state on the server then says that it runs, for
ever, and it would keep its place under the deployment's concurrency limit. So such runs are put back on the schedule.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_MESSAGE = "The service ended while this ran. What was finished is in the store; the run goes on from there."


def running(client: "SyncPrefectClient", deployments: Sequence[UUID]) -> list[Any]:
    """The runs that are under way, as far as the server knows."""
    from prefect.client.schemas.objects import StateType

    return runs(client, deployments, (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING))


def runs(client: "SyncPrefectClient", deployments: Sequence[UUID], states: Iterable[Any]) -> list[Any]:
    """The runs of deployments that are in some states; the newest 200."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    asked = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=list(deployments)),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
    )
    return client.read_flow_runs(flow_run_filter=asked, sort=FlowRunSort.START_TIME_DESC, limit=200)


def put_back(client: "SyncPrefectClient", interrupted: Iterable[Any]) -> list[str]:
    """Schedule runs again, at once; those that were being cancelled are cancelled. Returns the names of the former."""
    from prefect.states import Cancelled, Scheduled

    back: list[str] = []
    for run in interrupted:
        if run.state is not None and run.state.is_cancelling():
            client.set_flow_run_state(run.id, Cancelled(), force=True)
            continue
        due = run.expected_start_time  # as before, so that it comes before what is due since
        state: Any = Scheduled(scheduled_time=due, name="Interrupted", message=_MESSAGE)
        client.set_flow_run_state(run.id, state, force=True)
        back.append(run.name)
    return back


def processes() -> dict[int, str]:
    """The runs whose processes this one has started: process id -> run id, where the system lists them in files."""
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) != os.getpid():
                continue
            told = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone by now
            continue
        run = next((one.partition(b"=")[2] for one in told if one.startswith(b"PREFECT__FLOW_RUN_ID=")), None)
        if run is not None:
            found[int(folder.name)] = run.decode()
    return found
