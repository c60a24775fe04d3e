"""`tamis train`: train on all of a dataset, or on what was selected."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common, resource_options, resources, run_flow, said
from tamis.flows.cli.fields import FieldsCommand
from tamis.flows.cli.output import emit, run_facts

if TYPE_CHECKING:
    from tamis.training.config import TrainConfig


def _config() -> "type[TrainConfig]":
    from tamis.training.config import TrainConfig

    return TrainConfig


@click.command(cls=FieldsCommand, fields=_config, without=("reselect",))
@resource_options
@common
def train(app: App, device: str, workers: int, score_batch: int, force: bool, **fields: Any) -> None:
    """Train a model on a dataset or a selection. Only selected samples are read from the shards.

    An existing matching run is returned; a killed run resumes from its last checkpoint.

    \b
    Examples:
      tamis train --dataset cifar10 --selection cifar10-entropy --model preact56 --epochs 30 --evaluate-on cifar10-test
      tamis train --dataset cifar10 --model resnet18 --schedule step --step-size 30
      tamis train --dataset photos --model resnet18 --image-size 224 --precision bf16
      tamis train --dataset cifar10 --selection cifar10-entropy@1 --model mypackage.models:small --lr 0.03
      tamis train --dataset cifar10 --selection cifar10-gm --model mobilenet_v2 --optimizer adam --lr 0.001
    """
    from tamis.training.job import find

    config = _config()(**{k: v for k, v in fields.items() if v is not None})
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
