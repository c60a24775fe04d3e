"""`tamis select gradmatch`: choose by matching gradients, in a training run that goes with it or by trained models."""

from typing import TYPE_CHECKING, Any, TypeAlias

import click

from tamis.curation.methods import METHODS
from tamis.flows.cli.common import App, common, resource_options, resources, run_flow, said
from tamis.flows.cli.fields import FieldsCommand
from tamis.flows.cli.output import emit, facts, table
from tamis.flows.cli.selections.select import beside_random, make_beside, own_options, select

if TYPE_CHECKING:
    from tamis.flows.configs import Resources
    from tamis.store import Store
    from tamis.store.selections import Selection
    from tamis.training.config import TrainConfig

__all__ = ["select"]  # the group, with what is added to it here

# What was chosen, what else is shown of it, and how the answer came about.
_Made: TypeAlias = "tuple[Selection, dict[str, Any], str]"

GRADMATCH = METHODS["gradmatch"]
# Fields of a training run that have no option, or one of their own.
_OWN = ("dataset", "selection", "reselect", "strategy", "model", "epochs", "task", "span")


def _training() -> "type[TrainConfig]":
    from tamis.training.config import TrainConfig

    return TrainConfig


class _TrainingLast(FieldsCommand):
    """The options of choosing come first, then those of the training run."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        everything, own = super().get_params(ctx), click.Command.get_params(self, ctx)
        return [*own[:-1], *everything[: len(everything) - len(own)], own[-1]]


@select.command(cls=_TrainingLast, fields=_training, without=_OWN)
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--budget", default="10%", show_default=True, help="Budget per round: 10%, 0.1, or a number of samples.")
@click.option("--model", help="Train this model on its own selections: preact20, resnet18, module:function, ...")
@click.option("--run", "runs", multiple=True, metavar="KEY", help="Select with the model of a finished run instead.")
@click.option("--every", default=20, show_default=True, type=click.IntRange(1), help="Epochs between rounds (R).")
@own_options(GRADMATCH, without=("batch_size",))
@click.option(
    "--warm",
    type=click.FloatRange(0, 1, min_open=True),
    help="Warm start: first train on all data, for ceil(WARM * epochs * budget) epochs (kappa).",
)
@click.option("--target", help="Match the gradient of this dataset, not the training gradient.")
@click.option("--head", help="Module whose gradients are matched; default: the linear last layer, in closed form.")
@click.option("--name", help="The selection's name; default: DATASET-gradmatch.")
@click.option("--epochs", default=30, show_default=True, type=click.IntRange(1), help="Number of training epochs.")
@beside_random
@resource_options
@common
def gradmatch(
    app: App,
    dataset: str,
    model: str | None,
    runs: tuple[str, ...],
    device: str,
    workers: int,
    score_batch: int,
    force: bool,
    beside_random: bool,
    **given: Any,
) -> None:
    """Select few samples whose weighted gradients match the full gradient, every few epochs (Grad-Match).

    With --model, a model is trained on its own selections, which are stored as the rounds of one selection. Later runs
    of `tamis train --selection NAME` replay them with any learning rate, optimizer or architecture, without matching
    again (Cached-Grad-Match). With --run, nothing is trained: the model of each run makes one round, and only --seed
    and --batch-size (mini-batch size for --kind batch) of the training options apply.

    \b
    Examples:
      tamis select gradmatch --dataset cifar10 --budget 10% --model preact20 --epochs 30 --every 5 --name cifar10-gm
      tamis select gradmatch --dataset cifar10 --budget 10% --model preact20 --warm 0.5 --evaluate-on cifar10-test
      tamis select gradmatch --dataset cifar10 --budget 5000 --run 1f0c9a --kind batch
      tamis select gradmatch --dataset cifar10 --run 1f0c9a --spare 0 --beside-random
      tamis train --dataset cifar10 --selection cifar10-gm --model preact56 --optimizer adam --lr 0.001
    """
    if (model is None) == (not runs):
        raise click.UsageError(
            "Choose a gradient source: either --model MODEL (trained now) or --run KEY (already trained)."
        )
    from tamis.training.config import Reselect

    how = Reselect(**{name: given.pop(name) for name in Reselect.model_fields if given.get(name) is not None})
    limits = resources(device, workers, score_batch)
    store = app.open()
    if model is not None:
        fields = {name: value for name, value in given.items() if value is not None}
        config = _training()(dataset=dataset, model=model, reselect=how, **fields)
        made, shown, answer = _by_training(store, config, limits, force)
    else:
        fields = {name: given[name] for name in ("batch_size", "seed")}
        made, shown, answer = _by_runs(store, runs, {"dataset": dataset, "reselect": how, **fields}, limits, force)
    if beside_random:
        shown["beside"] = make_beside(app, made, force=force)
    _show(app, made, shown, answer)


def _by_training(store: "Store", config: "TrainConfig", limits: "Resources", force: bool) -> _Made:
    """Train a model on its own choices; a run that is there is the answer."""
    from tamis.training.job import find

    there = None if force else find(store, config)
    answer: dict[str, Any] = {"run": there.key, "cached": True, "confirmed": None} if there else {}
    if not answer:
        from tamis.training.models.registry import check_model  # loads torch

        check_model(config.model)
        answer = run_flow("train", limits, store.root.url, config, force=force)
    run = store.runs.get(answer["run"])
    assert run.selection is not None
    shown = {"run": run.key, "metrics": {k: v for k, v in run.metrics.items() if k != "history"}}
    return store.selections.get(run.selection), shown, said(not answer["cached"], answer["confirmed"])


def _by_runs(store: "Store", runs: tuple[str, ...], fields: dict[str, Any], limits: "Resources", force: bool) -> _Made:
    """One round by the model of each run, trained already."""
    from tamis.training.selecting.by_runs import MatchConfig

    keys = tuple(store.runs.get(key).key for key in runs)
    answer = run_flow("match", limits, store.root.url, MatchConfig(runs=keys, **fields), force=force)
    made = store.selections.get(answer["selection"])
    return made, {"runs": list(keys)}, said(answer["created"], answer["confirmed"])


def _show(app: App, made: "Selection", shown: dict[str, Any], answer: str) -> None:
    notes = made.stats.get("rounds", [{}] * len(made.rounds))
    rounds = [
        {
            "round": each.round,
            "from epoch": each.first_epoch,
            "samples": each.size,
            "objective": each.objective,
            "relative error": note.get("error"),
            "filled": note.get("filled"),
            "seconds": note.get("seconds"),
        }
        for each, note in zip(made.rounds, notes, strict=True)
    ]
    whole = {"selection": made.ref, "key": made.key, "dataset": made.dataset, **shown, "seconds": made.seconds}

    def people() -> None:
        facts(whole | {"answer": answer})
        table(rounds, title="Rounds")

    emit(whole | {"rounds": rounds, "answer": answer}, app.as_json, people)
