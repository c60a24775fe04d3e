"""`tamis package replan`: a running plan again, as applications come, go, or claim too much."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, Share, common
from tamis.flows.cli.output import emit, note, table
from tamis.flows.cli.packages.planning import MODES, Numbers, show_plan

if TYPE_CHECKING:
    from tamis.training.mainstream.scheduling.replanning import Replanned

_LOWERED = ("application", "branch", "claimed", "lowered", "against", "discordance", "frames")
_CHANGES = ("application", "before", "after", "f1", "why")


@click.command()
@click.argument("plan", type=click.Path(dir_okay=False))
@click.option("--add", "added", multiple=True, metavar="NAME", help="Add a package as an application; repeatable.")
@click.option("--remove", "removed", multiple=True, metavar="APPLICATION", help="Take one out; repeatable.")
@click.option(
    "--monitor", "monitored", multiple=True, metavar="RUN|FILE",
    help="Lower claims that a run with --check-every contradicts: its key, or its JSON lines; repeatable.",
)  # fmt: skip
@click.option(
    "--slack", type=click.FloatRange(0, 1),
    help="How far claims may exceed the bound. Default: what chance allows for the number of frames checked (95 %).",
)  # fmt: skip
@click.option("--budget", type=Share(), metavar="SHARE", help="Compute to use. Default: the plan's.")
@click.option("--mode", type=click.Choice(MODES), help="How to schedule. Default: the plan's.")
@click.option(
    "--rates", type=Numbers(float), default="1,2,3,4,5,6,7,8,9,10", show_default=True, metavar="FPS,...",
    help="Frames per second to choose from.",
)  # fmt: skip
@click.option(
    "--votes", type=Numbers(int), metavar="X,...",
    help="Numbers of consecutive hits to choose from. Default: those in the plan.",
)  # fmt: skip
@click.option("--profile-device", metavar="NAME", help="Device of the latency profile. Default: the plan's.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the latency profile. Default: the plan's.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the new plan; onto PLAN, a run takes it over.")
@common
def replan(
    app: App, plan: str, added: tuple[str, ...], removed: tuple[str, ...], monitored: tuple[str, ...],
    slack: float | None, budget: float | None, mode: Any, rates: tuple[float, ...], votes: tuple[int, ...] | None,
    profile_device: str | None, threads: int | None, out: str | None,
) -> None:  # fmt: skip
    """Plan again what runs as PLAN: applications that came or went, claims that checks contradict.

    Applications keep their names. The answer says which claims were lowered, what changed, and why. Written onto PLAN,
    the new plan is taken over by `tamis package run` between two frames.

    \b
    Examples:
      tamis package replan plan.json --add bikes --out plan.json
      tamis package replan plan.json --remove trains --budget 30%
      tamis package replan plan.json --monitor seen.jsonl --out plan.json
    """
    from tamis.training.mainstream.runner.checking import monitored as counted
    from tamis.training.mainstream.scheduling.plan import read_plan, write_plan
    from tamis.training.mainstream.scheduling.replanning import replan as again

    store, old = app.open(), read_plan(plan)
    made = again(
        store.packages, old, added=added, removed=removed, monitored=counted(store, monitored), slack=slack,
        budget=budget, mode=mode, rates=rates, votes=votes or (), device=profile_device, threads=threads,
    )  # fmt: skip
    if out is not None:
        write_plan(out, made.plan)
    answer = {
        "plan": made.plan.model_dump(mode="json"), "changes": [one._asdict() for one in made.changes],
        "lowered": [one._asdict() for one in made.lowered], "out": out,
    }  # fmt: skip
    emit(answer, app.as_json, lambda: _show(made, out))
    for package in made.unused:
        note(f"{package} was monitored, and is none of the plan's packages")


def _show(made: "Replanned", out: str | None) -> None:
    if made.lowered:
        table([one._asdict() for one in made.lowered], _LOWERED, "Claims lowered")
    if made.changes:
        table([one._asdict() for one in made.changes], _CHANGES, "Changes")
    show_plan(made.plan, out)
