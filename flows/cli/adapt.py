"""`tamis adapt`: search for a prioritisation function (AdaptSB)."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, Names, common, limit_options, resources, run_flow
from tamis.flows.cli.fields import FieldsCommand
from tamis.flows.cli.output import emit, facts, note, table

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tamis.store import Store
    from tamis.training.config import InLoop

_NOT_ASKED = (
    "dataset", "selection", "reselect", "strategy", "span", "task", "train", "distill", "truth", "truth_score",
    "box_weight",
)  # fmt: skip
_FOUND = frozenset({"priority", "beta", "selectivity", "leaves"})  # parameters that are not the user's here


def _fields() -> "type[BaseModel]":
    from tamis.training.adapting.config import AdaptOptions
    from tamis.training.config import TrainConfig

    class Asked(TrainConfig, AdaptOptions):
        """The options of a search, then those of a training run."""

    return Asked


def _strategies() -> "dict[str, type[InLoop]]":
    from tamis.training.adapting.config import STRATEGIES
    from tamis.training.strategies import get_strategy

    found = {name: get_strategy(name).Parameters for name in STRATEGIES}
    return {name: model for name, model in found.items() if model is not None}


@click.command(cls=FieldsCommand, fields=_fields, without=_NOT_ASKED, further=_strategies, left_out=_FOUND)
@click.argument("dataset")
@click.option("--strategy", type=Names(lambda: list(_strategies())), help="Default: selective-backprop.")
@limit_options
@common
def adapt(
    app: App, dataset: str, strategy: str | None, device: str, workers: int, score_batch: int, **given: Any
) -> None:
    """Search for the function from loss to probability of selection that trains best under a budget (AdaptSB).

    Each trial trains Selective-Backprop on DATASET with another function; its value is the error on --holdout, the mean
    of the last three epochs. The best one is stored by name, for `tamis train --strategy selective-backprop --priority
    NAME`. Trials are stored as they end: a killed search resumes, a longer one begins with the trials of a shorter one,
    and several processes on one store share the work (--parallel).

    With --segments, training itself proceeds in segments, each with a function searched for from its first weights
    (AdaptSB-Multi); --epochs is then the length of the whole.

    \b
    Examples:
      tamis adapt cifar10 --model preact20 --trials 20 --budget-epochs 2 --holdout 10%
      tamis adapt cifar10 --model preact20 --budget-backprops 100000 --sampler random --parallel 4 --workers 4
      tamis adapt cifar10 --model preact20 --epochs 30 --segments 3 --budget-epochs 10 --evaluate-on cifar10-test
      tamis train --dataset cifar10 --strategy selective-backprop --priority cifar10-adaptsb
    """
    from tamis.training.adapting.config import AdaptConfig, AdaptOptions
    from tamis.training.config import InLoop, TrainConfig
    from tamis.training.models.registry import check_model  # loads torch

    asked = {name: value for name, value in given.items() if value is not None}
    options = {name: asked.pop(name) for name in list(asked) if name in AdaptOptions.model_fields}
    own = {name: asked.pop(name) for name in list(asked) if name not in TrainConfig.model_fields}
    chosen = InLoop(name=strategy or "selective-backprop", **own) if strategy or own else None
    config = AdaptConfig(train=TrainConfig(dataset=dataset, strategy=chosen, **asked), **options)
    check_model(config.train.model)
    store = app.open()
    if config.sampler == "gp" and config.trials <= config.startup:
        note(f"{config.trials} trials: the first {config.startup} are random, so no Gaussian process proposes any.")
    answer = run_flow("adapt", resources(device, workers, score_batch), store.root.url, config)
    shown = answer | {
        "found": [_found(store, *pair) for pair in zip(answer["priorities"], answer["searches"], strict=True)]
    }
    emit(shown, app.as_json, lambda: _show(shown))


def _found(store: "Store", ref: str, search: str) -> dict[str, Any]:
    """What a search came to."""
    run, stored = store.runs.get(search), store.priorities.get(ref)
    counts = {name: run.metrics[name] for name in ("trial", "complete", "pruned", "failed")}
    values = {name: stored.function[name] for name in ("kind", "values", "points")}
    return {
        "priority": ref,
        "search": search,
        "error": run.metrics["value"],
        **counts,
        **values,
        "seconds": run.seconds,
    }


def _show(shown: dict[str, Any]) -> None:
    for one in shown["found"]:
        facts(one | {"answer": "cached" if shown["cached"] else "new"})
    if shown["runs"]:
        table([{"segment": at, "run": key} for at, key in enumerate(shown["runs"], 1)], title="Training runs")
