"""`tamis report costs`: where the seconds of runs went."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say, size, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tamis.training.reports.costs import Cost

_SHORT = {"selection_forward": "selection", "selecting": "choosing", "training_forward": "forward"}


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--dataset", help="Only training runs on this dataset: name or name@version.")
@click.option("--plot", metavar="FILE", help="Draw stacked bars to a .png or .svg file.")
@common
def costs(app: App, runs: tuple[str, ...], dataset: str | None, plot: str | None) -> None:
    """Show where the time of training runs went, in seconds that add up to the total.

    selection: forward passes that only select; choosing: the rest of selecting; forward and backward: passes of
    training; reading: waiting for batches; evaluate: evaluations; other: what is left (loading, augmentation,
    checkpoints). Blank: not measured by that run.

    A second table has backprops (samples that got a backward pass), and the samples and bytes read. Detectors have a
    third one: mean average precision, also by size of boxes, and for the strategy in-batch t_diff: the mean time of an
    epoch without selection less that of one with it, in seconds (needs --evaluate-every). RUNs are keys or prefixes of
    them; default: all finished training runs.

    \b
    Examples:
      tamis report costs
      tamis report costs 1f0c9a 77ab02 5e77c1 --plot costs.svg
      tamis report costs --dataset cifar10 --json
    """
    from tamis.training.reports.costs import costs

    found = costs(app.open(), runs, dataset=dataset)
    if plot is not None:
        from tamis.training.reports.drawing.drawings import draw_costs

        draw_costs(found, plot)

    def people() -> None:
        table(_seconds(found), title="Seconds of training runs")
        table(_counts(found), title="What they processed")
        if any(one.precision is not None or one.t_diff is not None for one in found):
            table(_detectors(found), title="Mean average precision, and seconds that an epoch with selection saves")
        if plot is not None:
            say(f"Drawn in {plot}")

    emit({"runs": [asdict(one) for one in found], "drawn": plot}, app.as_json, people)


def _seconds(found: "Sequence[Cost]") -> list[dict[str, Any]]:
    rows = [{_SHORT.get(name, name): seconds for name, seconds in asdict(one.parts).items()} for one in found]
    return [fact | row | {"total": one.total} for fact, row, one in zip(_facts(found), rows, found, strict=True)]


def _counts(found: "Sequence[Cost]") -> list[dict[str, Any]]:
    rows = [{"backprops": one.backprops, "samples": one.samples} for one in found]
    read = [None if one.bytes is None else size(one.bytes) for one in found]
    return [fact | row | {"bytes": text} for fact, row, text in zip(_facts(found), rows, read, strict=True)]


def _detectors(found: "Sequence[Cost]") -> list[dict[str, Any]]:
    from tamis.training.tasks.coco import MEASURES

    pairs = [(fact, one) for fact, one in zip(_facts(found), found, strict=True) if one.precision or one.t_diff]
    return [
        fact | {name.replace("map_", ""): (one.precision or {}).get(name) for name in MEASURES} | {"t_diff": one.t_diff}
        for fact, one in pairs
    ]


def _facts(found: "Sequence[Cost]") -> list[dict[str, Any]]:
    """What runs are, without what all of them have in common."""
    facts = [{"dataset": one.dataset, "model": one.model, "seed": one.seed} for one in found]
    told = [name for name in ("dataset", "model", "seed") if len({fact[name] for fact in facts}) > 1]
    return [
        {"run": one.run[:12], "strategy": one.label, **{name: fact[name] for name in told}}
        for one, fact in zip(found, facts, strict=True)
    ]
