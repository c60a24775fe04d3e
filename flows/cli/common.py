"""What all commands share: the store and the form of the answer."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tamis.flows.configs import Resources
    from tamis.store import Store

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class App:
    """What was said before the command: where the store is, and how to print."""

    where_or_none: str | None
    as_json: bool

    @property
    def where(self) -> str:
        if self.where_or_none is None:
            raise click.UsageError("No store was named: give --store FOLDER, or set TAMIS_STORE.")
        return self.where_or_none

    def open(self) -> "Store":
        from tamis.store import Store

        return Store.open(self.where)


def common(command: F) -> F:
    """Give a command `--store`, `--json` and `--verbose`, which may also stand before it, and hand it an App."""

    @click.option("--store", metavar="FOLDER|URL", help="The store. Also TAMIS_STORE.")
    @click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
    @click.option("--verbose", is_flag=True, expose_value=False, help="Show where errors come from.")  # read by main
    @click.pass_obj
    @functools.wraps(command)
    def wrapped(above: App | None, /, *args: Any, store: str | None, as_json: bool, **kwargs: Any) -> Any:
        base = above or App(None, False)
        return command(App(store or base.where_or_none, as_json or base.as_json), *args, **kwargs)

    return wrapped  # pyright: ignore[reportReturnType] - click's decorators return a plain callable


def _device(_context: click.Context, _option: click.Parameter, name: str) -> str:
    from tamis.training.devices import check_device

    check_device(name)
    return name


def resource_options(command: F) -> F:
    """`--device`, `--workers`, `--score-batch` and `--force`, for commands that compute."""
    options = (
        click.option(
            "--device", default="auto", show_default=True, callback=_device, help="auto, cpu, cuda, cuda:1, ..."
        ),
        click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Tasks at once."),
        click.option("--score-batch", default=256, show_default=True, type=click.IntRange(1), help="Samples a pass."),
        click.option("--force", is_flag=True, help="Compute again, and say whether the stored answer is confirmed."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def resources(device: str, workers: int, score_batch: int) -> "Resources":
    from tamis.flows.configs import Resources

    if device.startswith("cuda"):  # whether it is there is asked before anything is started
        from tamis.training.devices import pick_device

        pick_device(device)
    return Resources(device=device, workers=workers, batch_size=score_batch)


def run_flow(name: str, limits: "Resources", /, *args: Any, **kwargs: Any) -> Any:
    """Run a flow on the configured Prefect server, or on a temporary one, with bars on a terminal.

    Raises:
        ServerUnreachable: the configured server is not there, or went away.
        ServerFailed: the temporary one did not start.
    """
    from tamis.flows.progress import display
    from tamis.flows.settings import on_server

    with on_server(), display():
        from tamis.flows.flows import with_workers

        return with_workers(name, limits)(*args, **kwargs)


def run_light(name: str, direct: Callable[[], Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run a flow where a configured server would show it; else its work directly.

    Indexing and selecting take less time than a temporary server needs to start, and nobody would see it.
    """
    from tamis.flows.progress import display
    from tamis.flows.settings import has_server

    if not has_server():
        with display():
            return direct()
    from tamis.flows.configs import Resources

    return run_flow(name, Resources(), *args, **kwargs)


def said(created: bool, confirmed: bool | None) -> str:
    """How an answer came about, for people."""
    if confirmed is not None:
        return "computed again: confirmed" if confirmed else "computed again: NOT CONFIRMED, the stored answer was kept"
    return "new" if created else "was there already"
