"""`tamis serve`: put a flow on a schedule of a Prefect server."""

from pathlib import Path

import click
from click.core import ParameterSource

from tamis.flows.cli.common import App, common, machine_options, resources

_LIMITS = ("device", "workers", "score_batch")


def _names(_context: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    from tamis.flows.work import FLOWS

    return [name for name in FLOWS if name.startswith(incomplete)]


def _known(context: click.Context, argument: click.Parameter, name: str) -> str:
    names = _names(context, argument, "")
    if name not in names:
        raise click.BadParameter(f"Unknown flow {name!r}; there are: {', '.join(names)}.")
    return name


@click.command()
@click.argument("flow", callback=_known, shell_complete=_names)
@click.option("--cron", required=True, help="Schedule: minute hour day month weekday, such as '0 3 * * *'.")
@click.option(
    "--config", required=True, type=click.Path(exists=True, dir_okay=False), help="The flow's config, as JSON."
)
@click.option("--name", help="The deployment's name; default: tamis-FLOW.")
@click.option("--timezone", default="UTC", show_default=True, help="Time zone of the schedule.")
@machine_options
@common
def serve(
    app: App,
    flow: str,
    cron: str,
    config: str,
    name: str | None,
    timezone: str,
    device: str,
    workers: int,
    score_batch: int,
) -> None:
    """Run FLOW on a cron schedule until stopped: index, score, features, detect, cull, select, train, match, renew,
    adapt or package_build.

    Needs a Prefect server (`prefect server start`) and PREFECT_API_URL. The schedule stays on the server after this
    command stops; run it again to resume. --device, --workers and --score-batch apply to flows that use a model.

    \b
    Examples:
      echo '{"dataset": "cifar10", "runs": ["1f0c9a..."]}' > nightly.json
      tamis serve score --cron '0 3 * * *' --config nightly.json --device cuda:1
      tamis serve select --cron '0 5 * * 1' --config weekly.json --timezone Europe/Paris
    """
    from tamis.flows.server.settings import has_server

    _check_taken(flow)
    if not has_server():
        raise click.UsageError(
            "Schedules need a Prefect server, and none is configured. Start one with `prefect server start`, then "
            "set PREFECT_API_URL=http://127.0.0.1:4200/api."
        )
    from tamis.flows.schedule import serve_flow

    store, limits = app.open(), resources(device, workers, score_batch)
    serve_flow(flow, name or f"tamis-{flow}", cron, timezone, store.root.url, Path(config).read_text(), limits)


def _check_taken(flow: str) -> None:
    """Refuse options that the flow would ignore."""
    from tamis.flows.work import FLOWS

    context = click.get_current_context()
    given = [name for name in _LIMITS if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if given and not FLOWS[flow].resources:
        takers = ", ".join(name for name, other in FLOWS.items() if other.resources)
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"Flow {flow} does not use {flags}. Flows that do: {takers}.")
