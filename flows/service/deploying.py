"""Deployments as a Prefect server has them: what is told to it, and what it knew before."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tamis.flows.service.checking import Deployment
from tamis.flows.service.times import schedule_of
from tamis.flows.work import FLOWS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

TAG, CONFIG = "tamis", "tamis-config:"
_FULL = "concurrency limit reached"  # in the message of a run that was skipped


def to_prefect(deployment: Deployment, *, paused: bool = False) -> Any:
    """A deployment as Prefect registers it, which sets whether it is paused, too."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.types.entrypoint import EntrypointType

    table = deployment.table
    strategy = ConcurrencyLimitStrategy.CANCEL_NEW if table.collisions == "skip" else ConcurrencyLimitStrategy.ENQUEUE
    schedule = schedule_of(table.cron, deployment.interval, table.timezone)
    return FLOWS[table.flow].on_prefect().to_deployment(
        name=deployment.name,
        schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
        parameters=dict(deployment.parameters),
        paused=paused,
        concurrency_limit=ConcurrencyLimitConfig(limit=table.concurrency, collision_strategy=strategy),
        tags=[TAG, f"{CONFIG}{deployment.digest}"],
        # By module: the flow runs wherever tamis is installed, whatever the working directory.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )  # fmt: skip


def change(client: "SyncPrefectClient", deployment: Deployment) -> str:
    """What registering a deployment changes on the server: `new`, `unchanged`, or what is updated."""
    before = find(client, deployment.full_name)
    if before is None:
        return "new"
    if f"{CONFIG}{deployment.digest}" in before.tags:
        return "unchanged"
    changed = [name for name, value in deployment.parameters.items() if before.parameters.get(name) != value]
    return f"updated ({', '.join(changed) or 'schedule'}; was served with another config before)"


def find(client: "SyncPrefectClient", full_name: str) -> Any:
    """A deployment of the server by flow/name, or None."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def known(client: "SyncPrefectClient") -> list[Any]:
    """All deployments of tamis on a server."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    asked = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found: list[Any] = []
    while page := client.read_deployments(deployment_filter=asked, limit=200, offset=len(found)):
        found += page
    return found


def flow_of(deployment: Any) -> str:
    """The flow's name, of a deployment of the server."""
    return str(deployment.entrypoint or "").rpartition(".")[2].removesuffix("_flow")


def drop_others(client: "SyncPrefectClient", served: Iterable[Deployment]) -> list[str]:
    """Remove the deployments that an earlier file had: nothing serves them. Their runs stay. Returns their names.

    For a server of the service's own, where there is nobody else.
    """
    names = {one.full_name for one in served}
    ours = [one for one in known(client) if any(tag.startswith(CONFIG) for tag in one.tags)]
    gone = [one for one in ours if f"{flow_of(one)}/{one.name}" not in names]
    for one in gone:
        client.delete_deployment(one.id)
    return [one.name for one in gone]


def was_skipped(run: Any) -> bool:
    """Whether a run was cancelled because as many ran as may at once."""
    return run.state is not None and run.state.is_cancelled() and _FULL in (run.state.message or "")
