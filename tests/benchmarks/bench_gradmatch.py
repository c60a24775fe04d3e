"""Grad-Match in a training run: a choice against one forward pass, and a replay against training on random samples."""

from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from benchlib import Result, folder

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_digits
from tamis.training.config import Reselect
from tamis.training.job import TrainConfig, train
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.selecting.by_gradients import Asked, choose, in_order
from tamis.training.selecting.by_scores import SelectConfig, select
from tamis.training.signals.outputs import predict
from tamis.training.streaming.batches import Images, load_batches
from tamis.training.streaming.lookup import Index

NORMAL = ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


def run(quick: bool, data: Path | None) -> list[Result]:
    with folder() as path:
        shards = [] if quick or data is None else sorted(Path(data).glob("train-*.tar"))
        store = Store.create(path / "store")
        dataset = store.datasets.add("data", shards or pack_digits(path / "digits"))
        small, large = ("preact8", "preact14") if quick else ("preact20", "resnet18")
        found = _choices(store, dataset, small, 1 if quick else 3) + _choices(store, dataset, large, 1)
        return found + _replays(store, shards[:1], 1 if quick else 5)


def _choices(store: Store, dataset: Dataset, name: str, times: int) -> list[Result]:
    """One choice of 10 %, per class per gradient, against a forward pass over the same batches, taking turns."""
    model = ImageClassifier(build_model(name, num_classes=10, in_channels=3), *NORMAL)
    asked = Asked(dataset.samples // 10, Reselect().params(128), None, None, Images(), 0)
    passes, choices, pursuits = list[float](), list[float](), list[float]()
    for _ in range(times):
        passes.append(_forward(store, dataset, model))
        started = perf_counter()
        _, notes = choose(store, dataset, model, asked)
        choices.append(perf_counter() - started)
        pursuits.append(notes["seconds"] - notes["gradients"])
    one, other, pursuit = (float(np.median(each)) for each in (choices, passes, pursuits))
    note = f"{dataset.samples:,} samples, {asked.k:,} chosen, {torch.get_num_threads()} threads"
    return [
        Result(f"one choice with {name}", one, "s", "forward pass over the same samples", other, 1.15, note),
        Result(f"  its pursuits, {name}", pursuit, "s", target=3, note="all classes"),
    ]


def _forward(store: Store, dataset: Dataset, model: ImageClassifier) -> float:
    started = perf_counter()
    batches = (one.batch for one in load_batches(Index.open(store, dataset), in_order(dataset)))
    for _ in predict(model, batches):
        pass
    return perf_counter() - started


def _replays(store: Store, shards: list[Path], times: int) -> list[Result]:
    """Seconds a step of a replay, against a random selection of as many samples, taking turns, a new seed each time."""
    if shards:
        store.datasets.add("part", shards)
    name = "part" if shards else "data"
    recipe = {"dataset": name, "model": "preact8", "epochs": 4, "batch_size": 64}
    train(store, TrainConfig(reselect=Reselect(name="matched", budget="20%", every=2), **recipe))
    select(store, SelectConfig(dataset=name, method="random", budget="20%", name="random"))
    steps: dict[str, list[float]] = {"matched": [], "random": []}
    for seed in range(times):
        for chosen, found in steps.items():
            made = train(store, TrainConfig(selection=chosen, seed=seed, **recipe)).run
            found.append(made.seconds["train"] / made.metrics["steps"] * 1e3)
    one, other = (float(np.median(found)) for found in steps.values())
    return [Result("a step of a replay", one, "ms", "on as many random samples", other, 1.03, "preact8, batches of 64")]
