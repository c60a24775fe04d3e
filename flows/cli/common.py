"""What all commands share: the store and the form of the answer."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tamis.flows.configs import Resources
    from tamis.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_RUNNER = "tamis.runner"  # in the context of a command
_TOLD, _CLUSTER = "tamis.told", "tamis.cluster"  # there too: what was said of a cluster, and what it makes


@dataclass
class App:
    """What was said before the command: where the store is, and how to print."""

    where_or_none: str | None
    as_json: bool

    @property
    def where(self) -> str:
        if self.where_or_none is None:
            raise click.UsageError("No store given: use --store FOLDER, or set TAMIS_STORE.")
        return self.where_or_none

    def open(self) -> "Store":
        from tamis.store import Store

        return Store.open(self.where)


class Share(click.ParamType[Any]):
    """A share of the samples: 10% or 0.1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share as a fraction."""
        text = str(value)
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text!r} is no share: expected a percentage or a fraction, such as 10% or 0.1.", param, ctx)


class Days(click.ParamType[Any]):
    """An age: 90d, 12h, or a number of days."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The age in days."""
        text = str(value).strip().lower()
        try:
            days = float(text.removesuffix("h")) / 24 if text.endswith("h") else float(text.removesuffix("d"))
        except ValueError:
            days = -1.0
        if not 0 <= days <= 36500:
            self.fail(f"{value!r} is no age: expected days or hours, such as 90d or 12h.", param, ctx)
        return days


class Names(click.ParamType[Any]):
    """One of some names, which are asked for when they are needed: a listing loads no library.

    Args:
        names: gives them.
    """

    name = "name"

    def __init__(self, names: Callable[[], list[str]]) -> None:
        self._names = names

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The names, as `click.Choice` shows them."""
        return f"[{'|'.join(self._names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if it is one."""
        from tamis.store.advice import did_you_mean

        names = self._names()
        if value not in names:
            self.fail(f"{value!r} is none of {', '.join(names)}.{did_you_mean(value, names)}", param, ctx)
        return value


def common(command: F) -> F:
    """Give a command `--store`, `--json` and `--verbose`, which may also stand before it, and hand it an App."""

    @click.option("--store", metavar="FOLDER|URL", help="The store. Also TAMIS_STORE.")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.option("--verbose", is_flag=True, expose_value=False, help="Show the traceback of errors.")  # read by main
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


def _runner(context: click.Context, _option: click.Parameter, name: str | None) -> None:
    context.meta[_RUNNER] = name


def _cluster(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None:
        context.meta.setdefault(_TOLD, {})[option.name] = value


def runner_option(command: F) -> F:
    """`--runner` and where, for commands that are a flow; `run_flow` obeys them."""
    shared: dict[str, Any] = {"callback": _cluster, "expose_value": False}
    options = (
        click.option(
            "--runner", type=click.Choice(["direct", "prefect", "ray"]), envvar="TAMIS_RUNNER", callback=_runner,
            expose_value=False,
            help="Run tasks in this process, as a flow on Prefect, or over a Ray cluster. Default: Prefect if a server "
            "is configured.",
        ),
        click.option(
            "--address", metavar="HOST:PORT", help="With --runner ray, the cluster: host:port, ray://host:port or "
            "auto. Default: RAY_ADDRESS, or the cluster on this machine.", **shared,
        ),
        click.option("--cpus-per-task", type=click.FloatRange(0, min_open=True), metavar="N",
                     help="With --runner ray, cores per task. Default: 1.", **shared),
        click.option("--gpus-per-task", type=click.FloatRange(0), metavar="N",
                     help="With --runner ray, GPUs per task. Default: 0.", **shared),
    )  # fmt: skip

    @functools.wraps(command)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_cluster(click.get_current_context())
        return command(*args, **kwargs)

    wrapped: Any = checked
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def resource_options(command: F) -> F:
    """`--device`, `--workers`, `--score-batch`, those of `--runner` and `--force`, for commands that compute."""
    force = click.option("--force", is_flag=True, help="Recompute, and report whether the stored result matches.")
    return limit_options(force(command))


def limit_options(command: F) -> F:
    """As `resource_options`, without `--force`."""
    return machine_options(runner_option(command))


def machine_options(command: F) -> F:
    """`--device`, `--workers` and `--score-batch`, in whichever process the work is done."""
    options = (
        click.option(
            "--device", default="auto", show_default=True, callback=_device, help="auto, cpu, cuda, cuda:1, ..."
        ),
        click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Tasks at once."),
        click.option(
            "--score-batch", default=256, show_default=True, type=click.IntRange(1), help="Batch size for scoring."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def resources(device: str, workers: int, score_batch: int) -> "Resources":
    from tamis.flows.configs import Resources

    context = click.get_current_context(silent=True)
    beside = context is not None and context.meta.get(_RUNNER) == "ray"
    if device.startswith("cuda") and not beside:  # whether it is there is asked before anything is started
        from tamis.training.devices import pick_device

        pick_device(device)
    return Resources(device=device, workers=workers, batch_size=score_batch)


def run_flow(name: str, limits: "Resources | None", store: str, config: "BaseModel", *, force: bool = False) -> Any:
    """Run a flow as `--runner` says; see `tamis.flows.work.run`."""
    from tamis.flows.work import run

    context = click.get_current_context(silent=True)
    told: dict[str, Any] = {} if context is None else context.meta
    return run(name, store, config, limits, force=force, runner=told.get(_RUNNER), cluster=told.get(_CLUSTER))


def _check_cluster(context: click.Context) -> None:
    """Make a Cluster of what was said of it."""
    told: dict[str, Any] = context.meta.pop(_TOLD, {})
    if context.meta.get(_RUNNER) != "ray":
        if told:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in told)
            raise click.UsageError(f"{names} without a cluster: add --runner ray.")
        return
    from tamis.flows.rays.cluster import Cluster

    if context.get_parameter_source("workers") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--workers is for this machine. On a cluster, --cpus-per-task says how many tasks fit.")
    fields = {"address": "address", "cpus_per_task": "cpus", "gpus_per_task": "gpus"}
    context.meta[_CLUSTER] = Cluster(**{fields[name]: value for name, value in told.items()})


def said(created: bool, confirmed: bool | None) -> str:
    """How an answer came about, for people."""
    if confirmed is not None:
        return "recomputed: confirmed" if confirmed else "recomputed: MISMATCH, the stored result was kept"
    return "new" if created else "cached"
