"""`tamis train`: train on all of a dataset, or on what was selected."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, Names, common, resource_options, resources, run_flow, said
from tamis.flows.cli.fields import FieldsCommand
from tamis.flows.cli.output import emit, run_facts

if TYPE_CHECKING:
    from tamis.training.config import Distill, InLoop, TrainConfig


def _config() -> "type[TrainConfig]":
    from tamis.training.config import TrainConfig

    return TrainConfig


def _strategies() -> "dict[str, type[InLoop]]":
    from tamis.training.strategies import STRATEGIES

    return {name: one.Parameters for name, one in STRATEGIES.items() if one.Parameters is not None}


def _strategy(name: str | None, given: Mapping[str, Any]) -> "InLoop | None":
    """A strategy's name and what was given of its parameters.

    Raises:
        click.UsageError: it has no such parameter, or none was named.
    """
    known = _strategies()
    for parameter in given:
        owners = [owner for owner, model in known.items() if parameter in model.model_fields]
        if name not in owners:
            raise click.UsageError(
                f"--{parameter.replace('_', '-')} is a parameter of {', '.join(owners)}: "
                f"{'give one of them as --strategy' if name is None else f'--strategy {name} does not have it'}."
            )
    from tamis.training.config import InLoop

    return None if name is None else InLoop(name=name, **given)


def _distill(run: str | None, given: Mapping[str, Any]) -> "Distill | None":
    """The teacher's run and what was given beside it.

    Raises:
        click.UsageError: something was given, but no teacher.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    if run is None and asked:
        raise click.UsageError(f"{', '.join(asked)} says how to distil: give the teacher's run as --distill.")
    from tamis.training.config import Distill

    return None if run is None else Distill(run=run, **asked)


@click.command(
    cls=FieldsCommand, fields=_config, without=("reselect", "strategy", "span", "distill"), further=_strategies
)
@click.option(
    "--strategy", type=Names(lambda: list(_strategies())), help="Choose by losses as the run goes, with this strategy."
)
@click.option("--distill", metavar="RUN", help="Learn from the model of this finished training run as well.")
@click.option("--alpha", type=click.FloatRange(0, 1), help="Weight of the truth when distilling; default: 0.5.")
@click.option("--temperature", type=float, help="Divides logits when distilling; default: 2.")
@click.option("--squared", is_flag=True, default=None, help="Multiply the divergence by the temperature's square.")
@click.option("--over", type=click.Choice(["all", "mined"]), help="Priors of a detector that are distilled.")
@click.option(
    "--distill-cached", is_flag=True, default=None, help="Keep the teacher's answers: it is asked once for each sample."
)
@click.option("--distill-boxes", is_flag=True, default=None, help="Distil a detector's regression as well.")
@resource_options
@common
def train(
    app: App,
    strategy: str | None,
    distill: str | None,
    alpha: float | None,
    temperature: float | None,
    squared: bool | None,
    over: str | None,
    distill_boxes: bool | None,
    distill_cached: bool | None,
    device: str,
    workers: int,
    score_batch: int,
    force: bool,
    **fields: Any,
) -> None:
    """Train a model on a dataset or a selection. Only selected samples are read from the shards.

    With --strategy the run selects by loss as it trains, and publishes what it trained on as a selection.

    An existing matching run is returned; a killed run resumes from its last checkpoint.

    \b
    Examples:
      tamis train --dataset cifar10 --selection cifar10-entropy --model preact56 --epochs 30 --evaluate-on cifar10-test
      tamis train --dataset cifar10 --model resnet18 --schedule step --step-size 30
      tamis train --dataset photos --model resnet18 --image-size 224 --precision bf16
      tamis train --dataset cifar10 --selection cifar10-entropy@1 --model mypackage.models:small --lr 0.03
      tamis train --dataset cifar10 --selection cifar10-gm --model mobilenet_v2 --optimizer adam --lr 0.001
      tamis train --dataset cifar10 --strategy selective-backprop --selectivity 0.33 --evaluate-on cifar10-test
      tamis train --dataset cifar10 --strategy stale-sb --selectivity 0.33 --every 3 --record-losses
      tamis train --dataset frames --task detection --truth RUN --model ssd300-resnet50 --strategy in-batch
      tamis train --dataset frames --task detection --truth RUN --model ssdlite-mobilenet --distill TEACHER_RUN
      tamis train --dataset frames --task detection --truth RUN --model fasterrcnn-resnet50 --weights resnet50.pth
    """
    from tamis.training.job import find

    given = {k: v for k, v in fields.items() if v is not None}
    own = {k: given.pop(k) for k in list(given) if k not in _config().model_fields}
    taught = {"alpha": alpha, "temperature": temperature, "squared": squared, "over": over, "boxes": distill_boxes}
    taught["cached"] = distill_cached
    config = _config()(**given, strategy=_strategy(strategy, own), distill=_distill(distill, taught))
    store = app.open()
    there = None if force else find(store, config)
    answer: dict[str, Any] = {"run": there.key, "cached": True, "confirmed": None} if there else {}
    if not answer:
        from tamis.training.models.registry import check_model  # loads torch

        check_model(config.model)
        answer = run_flow("train", resources(device, workers, score_batch), store.root.url, config, force=force)
    run = store.runs.get(answer["run"])
    shown = answer | {
        "dataset": run.dataset,
        "selection": run.selection,
        "model": run.model,
        "metrics": run.metrics,
        "seconds": run.seconds,
        "blob": run.blob,
    }
    form = {k: v for k, v in shown.items() if k not in ("cached", "confirmed")}
    emit(shown, app.as_json, lambda: run_facts(form | {"answer": said(not answer["cached"], answer["confirmed"])}))
