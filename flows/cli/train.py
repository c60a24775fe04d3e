"""`tamis train`: train on all of a data set, or on what was selected."""

from typing import Any

import click

from tamis.flows.cli.common import App, common, resource_options, resources, run_flow, said
from tamis.flows.cli.output import emit, run_facts


@click.command()
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--selection", help="name, name@version or key; default: train on all.")
@click.option("--model", required=True, help="preact20, preact56, resnet18, ..., or your own as module:function.")
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(1))
@click.option("--optimizer", default="sgd", show_default=True, type=click.Choice(["sgd", "adam", "rmsprop"]))
@click.option("--lr", default=0.1, show_default=True, type=float, help="Learning rate at the start.")
@click.option("--momentum", default=0.9, show_default=True, type=float)
@click.option("--weight-decay", default=5e-4, show_default=True, type=float)
@click.option("--schedule", default="cosine", show_default=True, type=click.Choice(["cosine", "step"]))
@click.option("--step-size", default=30, show_default=True, type=click.IntRange(1), help="Epochs between steps.")
@click.option("--gamma", default=0.1, show_default=True, type=float, help="Factor of a step.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--augment", default="crop-flip", show_default=True, type=click.Choice(["none", "crop-flip"]))
@click.option("--evaluate-on", help="Data set to measure accuracy on, as name or name@version.")
@click.option("--evaluate-every", type=click.IntRange(1), help="Epochs between measurements, for tamis report.")
@click.option("--record-losses", is_flag=True, help="Keep every sample's loss of every epoch (table losses).")
@resource_options
@common
def train(app: App, device: str, workers: int, score_batch: int, force: bool, **fields: Any) -> None:
    """Train a model on the chosen samples alone: nothing else is read from the shards.

    A run that is there already is the answer; one that was killed goes on from its last checkpoint.

    \b
    Examples:
      tamis train --dataset cifar10 --selection cifar10-entropy --model preact56 --epochs 30 --evaluate-on cifar10-test
      tamis train --dataset cifar10 --model resnet18 --schedule step --step-size 30
      tamis train --dataset cifar10 --selection cifar10-entropy@1 --model mypackage.models:small --lr 0.03
      tamis train --dataset cifar10 --selection cifar10-gm --model mobilenet_v2 --optimizer adam --lr 0.001
    """
    from tamis.training.job import TrainConfig, find

    config = TrainConfig(**{k: v for k, v in fields.items() if v is not None})
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
