"""`tamis package plan`: which branch and rate each application gets within a budget of compute."""

from typing import TYPE_CHECKING, Any, cast

import click

from tamis.flows.cli.common import App, Share, common
from tamis.flows.cli.output import emit, facts, table

if TYPE_CHECKING:
    from tamis.training.mainstream.scheduling.plan import Plan

MODES = ("mainstream", "optimum", "fair", "no-sharing", "max-sharing")
_APPLICATIONS = ("name", "package", "branch", "branchpoint", "fps", "votes", "f1", "recall", "precision")
_MOVES = ("application", "branch", "fps", "gain", "added", "why")


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "numbers"

    def __init__(self, kind: type[float] | type[int]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return cast("tuple[float, ...]", value)  # click converts a default twice
        try:
            return tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers; expected for example 1,2,5", param, ctx)


@click.command()
@click.argument("refs", metavar="NAME...", nargs=-1)
@click.option("--budget", type=Share(), required=True, metavar="SHARE", help="Compute to use, e.g. 50% of the device.")
@click.option("--mode", type=click.Choice(MODES), default="mainstream", show_default=True, help="How to schedule.")
@click.option(
    "--rates", type=Numbers(float), default="1,2,3,4,5,6,7,8,9,10", show_default=True, metavar="FPS,...",
    help="Frames per second to choose from.",
)  # fmt: skip
@click.option(
    "--votes", type=Numbers(int), default="1", show_default=True, metavar="X,...",
    help="Numbers of consecutive hits to choose from.",
)  # fmt: skip
@click.option("--profile-device", metavar="NAME", help="Device of the latency profile, if there are several.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the latency profile, if there are several.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the plan to a JSON file.")
@common
def plan(
    app: App, refs: tuple[str, ...], budget: float, mode: Any, rates: tuple[float, ...], votes: tuple[int, ...],
    profile_device: str | None, threads: int | None, out: str | None,
) -> None:  # fmt: skip
    """Plan how packages share a device: a branch and a frame rate for each. NAME is a name or name@version.

    Modes: mainstream (greedy), optimum (exact), fair (the worst F1 as high as possible), no-sharing (whole models) and
    max-sharing (everyone at the deepest branch). The answer says why each move was made, and what no-sharing and
    max-sharing would reach.

    \b
    Examples:
      tamis package plan trains@1 bikes@2 --budget 50%
      tamis package plan trains bikes --budget 80% --mode fair --votes 1,2,3 --out plan.json
    """
    from tamis.training.mainstream.scheduling.packaged import workload_of
    from tamis.training.mainstream.scheduling.plan import plan as schedule
    from tamis.training.mainstream.scheduling.plan import write_plan

    workload, profiles = workload_of(
        app.open().packages, refs, rates=rates, votes=votes, device=profile_device, threads=threads
    )
    made = schedule(workload, budget, mode, profiles=profiles)
    if out is not None:
        write_plan(out, made)
    emit(made.model_dump(mode="json") | {"out": out}, app.as_json, lambda: show_plan(made, out))


def show_plan(made: "Plan", out: str | None) -> None:
    """Print a plan for people."""
    table([a.model_dump() for a in made.applications], _APPLICATIONS, "Applications")
    if made.moves:
        table([m.model_dump() for m in made.moves], _MOVES, "Moves")
    reached = {
        name: f"needs a budget of {b.needed:.3g}" if b.f1 is None else f"F1 {b.f1:.4f}"
        for name, b in made.baselines.items()
    }
    facts(
        {"mode": made.mode, "F1": f"{made.f1:.4f}", "cost": f"{made.cost:.4g} of {made.budget:.4g}"}
        | reached
        | ({} if out is None else {"written to": out})
    )
