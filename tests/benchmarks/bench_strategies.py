"""Epochs of Selective-Backprop and StaleSB against epochs on everything; bytes read where the draw comes first.

All train the same model from the same weights with the same augmentation, on one thread, and read and decode beside it.
A run's epochs are told apart by what it noted after each. The first one is left out, but for StaleSB's, whose cycle is
a selection pass and the epochs that use its losses again.
"""

from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchlib import Result, folder

from tamis.store import Store
from tamis.store.datasets.packing import pack_digits
from tamis.store.runs import Run
from tamis.training.config import InLoop
from tamis.training.job import TrainConfig, train
from tamis.training.streaming.stream import SelectionStream

SHARE, EVERY = 1 / 3, 3
WAYS: dict[str, dict[str, Any] | None] = {
    "traditional": None,
    "selective-backprop": {"selectivity": SHARE, "start": 0},
    "selective-backprop, activations kept": {"selectivity": SHARE, "start": 0, "reuse": True},
    "stale-sb": {"selectivity": SHARE, "start": 0, "every": EVERY},
}


def run(quick: bool, data: Path | None) -> list[Result]:
    threads, seeds = torch.get_num_threads(), range(1 if quick else 3)
    torch.set_num_threads(1)
    try:
        with folder() as path:
            store, real = Store.create(path / "store"), not quick and data is not None
            shards = (
                sorted(Path(data).glob("train-*.tar"))[:1] if real and data is not None else pack_digits(path / "d")
            )
            store.datasets.add("data", shards)
            if real:  # half a shard: 2,500 images
                store.datasets.split("data", {"half": 0.5}, seed=0)
            runs = [{way: _train(store, real, way, seed) for way in WAYS} for seed in seeds]
            ratio = _bytes(store, runs[0]["stale-sb"])
    finally:
        torch.set_num_threads(threads)
    seconds = {way: median(_epoch(each[way], way) for each in runs) for way in WAYS}
    usual = seconds.pop("traditional")
    note = f"{runs[0]['traditional'].model}, {len(list(seeds))} seeds, a third chosen"
    targets = {"selective-backprop": 0.72, "stale-sb": 0.5}
    return [
        *(
            Result(f"an epoch of {way}", value, "s", "traditional", usual, targets.get(way), note)
            for way, value in seconds.items()
        ),
        Result("bytes of a reuse epoch", ratio, "x", target=1.05, note="against the drawn samples' images"),
    ]


def _train(store: Store, real: bool, way: str, seed: int) -> Run:
    asked = WAYS[way]
    name = way.partition(",")[0]
    config = TrainConfig(
        dataset="data-half" if real else "data", model="preact20" if real else "preact8", epochs=EVERY,
        channels=3 if real else 1, seed=seed, evaluate_on="data-half" if real else "data", evaluate_every=1,
        strategy=None if asked is None else InLoop(name=name, leaves=f"left-{seed}-{len(way)}", **asked),
    )  # fmt: skip
    return train(store, config).run


def _epoch(run: Run, way: str) -> float:
    """Seconds of an epoch, evaluations left out."""
    ends = [0.0, *(entry["seconds"] for entry in run.metrics["history"])]
    return ends[-1] / EVERY if way == "stale-sb" else (ends[-1] - ends[1]) / (EVERY - 1)


def _bytes(store: Store, run: Run) -> float:
    """What the reuse epochs read, over the bytes of the images that were drawn for them."""
    assert run.selection is not None
    left, dataset = store.selections.get(run.selection), store.datasets.get(run.dataset)
    whole = SelectionStream(store, dataset, members=(), channels=run.config["channels"])
    for _ in whole.epoch(0):
        pass
    sizes = dataset.locations().size
    drawn = sum(int(sizes[left.read_round(epoch)[0]].sum()) for epoch in range(1, EVERY))
    return (run.metrics["bytes_read"] - whole.bytes_read) / drawn
