"""Putting flows on the schedule of a Prefect server."""

import click
import httpx
from prefect.client.schemas.schedules import CronSchedule
from prefect.types.entrypoint import EntrypointType

from tamis.flows.configs import Resources
from tamis.flows.work import FLOWS


def serve_flow(flow: str, name: str, cron: str, timezone: str, store: str, config: str, limits: Resources) -> None:
    """Serve a flow until stopped. The schedule outlives this process; runs wait for the next one that serves.

    Args:
        flow: a name in FLOWS.
        name: of the deployment.
        cron: five fields.
        timezone: IANA name.
        store: the store's root.
        config: the flow's config as JSON, validated before anything is scheduled.
        limits: what each run may use, for flows that compute.

    Raises:
        pydantic.ValidationError: the config, the cron line or the time zone is wrong.
        click.ClickException: the server does not answer.
    """
    checked = FLOWS[flow].config.model_validate_json(config)
    schedule = CronSchedule(cron=cron, timezone=timezone)
    served = FLOWS[flow].on_prefect(limits.workers)
    parameters = {"store": store, "config": checked.model_dump(mode="json")}
    if FLOWS[flow].resources:
        parameters["resources"] = limits.model_dump(mode="json")
    try:
        served.serve(
            name=name,
            schedule=schedule,
            parameters=parameters,
            pause_on_shutdown=False,
            # By module: the flow runs wherever tamis is installed, whatever the working directory.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except (httpx.HTTPError, ConnectionError, RuntimeError) as error:
        if not isinstance(error, httpx.HTTPError | ConnectionError) and "connect" not in str(error).lower():
            raise
        raise click.ClickException(f"The Prefect server is not responding: {error}. Check PREFECT_API_URL.") from error
