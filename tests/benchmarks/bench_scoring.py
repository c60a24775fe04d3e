"""Scoring through the flow, against a bare PyTorch loop over batches that are decoded already."""

import time
from pathlib import Path

import numpy as np
import torch
from benchlib import Result, folder

from tamis.store import Store
from tamis.store.datasets.packing import pack_digits
from tamis.store.runs import Run
from tamis.training.streaming.batches import Chosen, load_batches
from tamis.training.streaming.lookup import Index

BATCH = 256


def run(quick: bool, data: Path | None) -> list[Result]:
    with folder() as path:
        shards = [] if quick or data is None else sorted(Path(data).glob("train-*.tar"))
        shards = shards or pack_digits(path / "digits")
        trained, model = _train(path / "trained", shards[:1], "preact8" if len(shards) == 5 else "preact20")
        _score(path / "warm", shards[:1], trained, model)  # fills PyTorch's caches
        flow, bare, cached = [], [], []
        for number in range(1 if quick else 3):
            flow.append(_score(path / f"flow{number}", shards, trained, model)[0])
            bare.append(_bare(path / f"flow{number}", trained))
            cached.append(_score(path / f"flow{number}", shards, trained, model)[1])
        note = f"{trained.model}, {len(shards)} shards"
        middle = [float(np.median(times)) for times in (flow, bare, cached)]
        return [
            Result("scoring flow", middle[0], "s", "bare forward loop, decoded batches", middle[1], 1.10, note),
            Result("  the same, answered from the store", middle[2], "s", target=2, note="in the process"),
        ]


def _train(path: Path, shards: list[Path], name: str) -> tuple[Run, bytes]:
    """A briefly trained model: what it says does not matter here, that it is a real one does."""
    from tamis.training.job import TrainConfig, train

    store = Store.create(path)
    store.datasets.add("data", shards)
    result = train(store, TrainConfig(dataset="data", model=name, epochs=1))
    assert result.run.blob is not None
    return result.run, store.blobs.get(result.run.blob)


def _score(path: Path, shards: list[Path], trained: Run, model: bytes) -> tuple[float, float]:
    """Seconds of the flow, and of asking again, on a store that has the data and the model."""
    from tamis.flows import work
    from tamis.flows.configs import Resources, ScoreConfig

    store = Store.open_or_create(path)
    store.datasets.add("data", shards)
    store.runs.begin(kind="train", key=trained.key, dataset=trained.dataset, model=trained.model, config=trained.config)
    store.runs.finish(trained.key, model=store.blobs.put(model))
    config = ScoreConfig(dataset="data", runs=(trained.key,))
    started = time.perf_counter()
    work.run("score", str(path), config, Resources(batch_size=BATCH), runner="direct")
    scored = time.perf_counter()
    assert work.cached_scores(store, config) is not None
    return scored - started, time.perf_counter() - scored


@torch.inference_mode()
def _bare(path: Path, trained: Run) -> float:
    """Seconds of the same model over the same batches, decoded beforehand."""
    from tamis.training.signals.outputs import load_model

    store = Store.open(path)
    blob = store.runs.get(trained.key).blob
    assert blob is not None
    model, _ = load_model(store, blob)
    batches = [loaded.batch.images for loaded in load_batches(*_whole(store))]
    started = time.perf_counter()
    for images in batches:
        model(images)
    return time.perf_counter() - started


def _whole(store: Store) -> tuple[Index, list[Chosen]]:
    dataset = store.datasets.get("data")
    starts = range(0, dataset.samples, BATCH)
    groups = (np.arange(a, min(a + BATCH, dataset.samples)) for a in starts)
    return Index.open(store, dataset), [Chosen(g, np.ones(len(g), np.float32)) for g in groups]
