"""Sees which runs began and ended, and has it logged, counted and, where one failed, told.

The server is asked every few seconds for the runs that ended last; a run is known by its id and its end, so clocks that
differ, or jump, matter to nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from logging import Logger
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tamis.flows.service.checking import Deployment
from tamis.flows.service.deploying import was_skipped
from tamis.flows.service.interrupted import running
from tamis.flows.service.metrics import Metrics
from tamis.flows.service.notifying import notify

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_LAST = 50  # runs that are looked at each time


class Watcher:
    """Follows the runs of a service.

    Args:
        client: of the server.
        deployments: by their ids on the server.
        metrics: are kept.
        log: is written.
        leads: whether this service tells of a deployment's failures.
    """

    def __init__(
        self,
        client: "SyncPrefectClient",
        deployments: Mapping[UUID, Deployment],
        metrics: Metrics,
        log: Logger,
        leads: Callable[[Deployment], bool],
    ) -> None:
        self._client, self._deployments, self._metrics, self._log = client, deployments, metrics, log
        self._leads = leads
        self._seen = {(run.id, run.end_time) for run in self._ended()}
        self._running: set[UUID] = set()

    def look(self) -> None:
        """See what is new since the last look.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        under_way = [run for run in running(self._client, list(self._deployments)) if run.state.is_running()]
        for run in under_way:
            if run.id not in self._running:
                self._log.info("run %s began", run.name, extra=self._about(run))
        self._running = {run.id for run in under_way}
        for deployment in self._deployments.values():
            count = sum(self._deployments[run.deployment_id] is deployment for run in under_way)
            self._metrics.running.labels(*_labels(deployment)).set(count)
        new = [run for run in self._ended() if (run.id, run.end_time) not in self._seen]
        for run in sorted(new, key=lambda run: run.end_time):
            self._seen.add((run.id, run.end_time))
            self._has_ended(run)

    def _has_ended(self, run: Any) -> None:
        deployment, state = self._deployments[run.deployment_id], run.state
        how = state.type.value.lower()
        skipped = was_skipped(run)
        labels, took = _labels(deployment), run.total_run_time.total_seconds()
        self._metrics.ended.labels(*labels, "skipped" if skipped else how).inc()
        self._metrics.duration.labels(*labels).observe(took)
        about = self._about(run)
        if how == "completed":
            self._metrics.succeeded.labels(*labels).set(run.end_time.timestamp())
            self._log.info("run %s completed in %.1f s", run.name, took, extra=about)
        elif skipped:
            self._log.info("run %s skipped: as many run as may at once", run.name, extra=about)
        else:
            self._log.error(
                "run %s %s after %.1f s: %s. See: tamis schedule logs %s", run.name, how, took,
                (state.message or "no message").rstrip("."), run.name, extra=about,
            )  # fmt: skip
        if how in ("failed", "crashed") and deployment.table.on_failure is not None and self._leads(deployment):
            said = {"deployment": deployment.name, "flow": deployment.table.flow, "run": str(run.id), "name": run.name}
            notify(deployment.table.on_failure, said | {"state": state.name, "message": state.message}, self._log)

    def _ended(self) -> Sequence[Any]:
        from prefect.client.schemas.filters import (
            FlowRunFilter,
            FlowRunFilterDeploymentId,
            FlowRunFilterState,
            FlowRunFilterStateType,
        )
        from prefect.client.schemas.objects import TERMINAL_STATES
        from prefect.client.schemas.sorting import FlowRunSort

        asked = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=list(self._deployments)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
        )
        found = self._client.read_flow_runs(flow_run_filter=asked, sort=FlowRunSort.END_TIME_DESC, limit=_LAST)
        return [run for run in found if run.end_time is not None]

    def _about(self, run: Any) -> dict[str, str]:
        deployment = self._deployments[run.deployment_id]
        return {
            "deployment": deployment.name, "flow_name": deployment.table.flow,
            "flow_run_id": str(run.id), "flow_run_name": run.name,
        }  # fmt: skip


def _labels(deployment: Deployment) -> tuple[str, str]:
    return deployment.name, deployment.table.flow
