"""`tamis package profile`: how long the base model of a package takes on this device."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say, table

if TYPE_CHECKING:
    from tamis.store.packages.profiles import Profile


@click.command()
@click.argument("ref", metavar="NAME")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads used for one frame. Default: as many as torch uses."
)
@click.option(
    "--repeats", type=click.IntRange(1, 10_000), default=25, show_default=True, help="Rounds; the median counts."
)
@common
def profile(app: App, ref: str, device: str, threads: int | None, repeats: int) -> None:
    """Measure the base model of package NAME on this device, for tamis package plan.

    Stores the seconds per frame of each segment between branchpoints. One profile serves every package of the same base
    model; measuring again replaces it. Run it when nothing else does.

    \b
    Examples:
      tamis package profile people
      tamis package profile people@2 --device cpu --threads 1 --repeats 100 --json
    """
    from tamis.training.mainstream.trainer.profiles import profile_base

    store = app.open()
    base = store.packages.bases.get(store.packages.get(ref).base)
    made = profile_base(store, base, device=device, threads=threads, repeats=repeats)
    answer = {
        "base": base.key, "model": base.model, "device": made.device, "threads": made.threads, "version": made.version,
        "segments": list(made.segments), "rest": made.rest, "whole": sum(made.segments) + (made.rest or 0.0),
    }  # fmt: skip
    emit(answer, app.as_json, lambda: _show(made, answer))


def _show(made: "Profile", answer: dict[str, Any]) -> None:
    rows = [{"segment": f"to branchpoint {n}", "ms": 1e3 * seconds} for n, seconds in enumerate(made.segments, 1)]
    table([*rows, {"segment": "to the outputs", "ms": 1e3 * (made.rest or 0.0)}], title=f"Base model {answer['model']}")
    threads = f"{made.threads} thread" + ("s" if made.threads > 1 else "")
    say(f"{1e3 * answer['whole']:.1f} ms a frame on {made.device}, {threads} (profile version {made.version}).")
