"""Loss history: what recording costs the loop that is recorded, and the views on 10^7 rows.

Recording: ResNet20 (preact20) trains on random images of CIFAR-10's size, batch 128, with and without a `LossRecorder`,
in turns; the loop's own time is that of `add` and `end_epoch`, for 50,000 rows an epoch, and the whole recording is the
process's CPU time for the same calls without a model, writing included. The views stand against the same query by
DuckDB by hand, over the same files.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any

import duckdb
import numpy as np
import torch
from benchlib import Result, folder, medians
from deltalake import DeltaTable
from torch.nn import functional

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.sql.views import DERIVED
from tamis.training import LossRecorder, build_model

BATCH = 128
LOSSES = "(select *, epoch - loss_epoch as staleness from read_parquet(getvariable('files'), hive_partitioning = true))"
ASKED = {
    "losses_newest": "select sum(loss) as loss, sum(staleness) as staleness from losses_newest{run}",
    "loss_stats": "select sum(mean) as mean, sum(forgetting) as forgetting from loss_stats{run}",
}


def run(quick: bool, data: Path | None) -> list[Result]:
    rows, images = (1_000, 256) if quick else (50_000, 1_280)
    runs, epochs, samples = (2, 3, 100) if quick else (10, 20, 50_000)
    with folder() as path:
        results = _recording(Store.create(path / "store"), rows, images, 1 if quick else 3)
    with folder(kept=f"history-{runs}x{epochs}x{samples}") as path:
        store = build(path / "store", runs, epochs, samples)
        return [*results, *(line for name in DERIVED for line in _views(store, name, 1 if quick else 3))]


def build(path: Path, runs: int, epochs: int, samples: int) -> Store:
    """A store with that loss history; what an earlier, interrupted build left is used."""
    store = Store.open_or_create(path)
    done = {r.key for r in store.runs.all() if r.status == "finished"}
    for number in range(runs):
        key = f"{number:032x}"
        if key in done:
            continue
        store.runs.begin(kind="train", key=key, dataset="made@1")
        for epoch in range(epochs):
            draw = np.random.default_rng([number, epoch])
            loss, right = draw.exponential(2.0 / (epoch + 1), samples), draw.random(samples) < epoch / epochs
            store.runs.put_losses(key, epoch, np.arange(samples), loss, epoch, selected=loss > 0.1, correct=right)
        store.runs.finish(key)
    return store


def _recording(store: Store, rows: int, images: int, repeats: int) -> list[Result]:
    dataset = _dataset(store, rows)
    own, mine, cpu = zip(*(_calls(store, dataset, f"calls{turn}") for turn in range(repeats)), strict=True)
    step = _Training(images)
    plain, recorded = medians(repeats, lambda: step.epoch(None), lambda: step.epoch(store, dataset))
    epoch = plain * rows / images
    note = f"{rows} rows an epoch, batch {BATCH}"
    return [
        Result("the loop's own time, an epoch", 1000 * float(np.median(own)), "ms", target=100, note=note),
        Result("  of it CPU", 1000 * float(np.median(mine)), "ms", note="what is left when nobody else is at work"),
        Result("all of recording, CPU", float(np.median(cpu)), "s", "an epoch of ResNet20", epoch, 0.01, note),
        Result("training while recording", recorded, "s", "training", plain, note=f"{images} images"),
    ]


def _dataset(store: Store, rows: int) -> Dataset:
    """A dataset of so many samples, which nobody reads."""
    return Dataset("made", 1, "0" * 32, rows, (), "png", None, (), store.tables, ())


def _calls(store: Store, dataset: Dataset, run: str) -> tuple[float, float, float]:
    """Recording two epochs, an epoch: seconds of the loop's own, its CPU seconds, and those of all threads."""
    losses = torch.rand(BATCH)
    correct, own, mine = losses < 0.5, 0.0, 0.0
    began = process_time()
    with LossRecorder(store, run, dataset=dataset) as recorder:
        for _ in range(2):
            for first in range(0, dataset.samples, BATCH):
                samples = torch.arange(first, min(first + BATCH, dataset.samples))
                count, started, used = len(samples), perf_counter(), thread_time()
                recorder.add(samples, losses[:count], correct=correct[:count])
                own, mine = own + perf_counter() - started, mine + thread_time() - used
            started, used = perf_counter(), thread_time()
            recorder.end_epoch()
            own, mine = own + perf_counter() - started, mine + thread_time() - used
    return own / 2, mine / 2, (process_time() - began) / 2


class _Training:
    """Steps of ResNet20 on images that are there already."""

    def __init__(self, images: int) -> None:
        torch.manual_seed(0)
        self._images, self._labels = torch.rand(images, 3, 32, 32), torch.randint(10, (images,))
        self._model = build_model("preact20", num_classes=10, in_channels=3).train()
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01)
        self._epochs = 0

    def epoch(self, store: Store | None, dataset: Dataset | None = None) -> None:
        self._epochs += 1
        with self._recorder(store, dataset) as recorder:
            for first in range(0, len(self._images), BATCH):
                part = slice(first, first + BATCH)
                logits = self._model(self._images[part])
                losses = functional.cross_entropy(logits, self._labels[part], reduction="none")
                self._optimizer.zero_grad()
                losses.mean().backward()
                self._optimizer.step()
                if recorder is not None:
                    samples = torch.arange(first, first + len(losses))
                    recorder.add(samples, losses, correct=logits.argmax(1) == self._labels[part])

    @contextmanager
    def _recorder(self, store: Store | None, dataset: Dataset | None) -> Iterator[LossRecorder | None]:
        if store is None or dataset is None:
            yield None
            return
        with LossRecorder(store, f"trained{self._epochs}", dataset=dataset) as recorder:
            yield recorder


def _views(store: Store, name: str, repeats: int) -> list[Result]:
    files = DeltaTable(store.root.table_uri("losses")).file_uris()
    results: list[Result] = []
    for what, where in (("all runs", ""), ("one run", f" where run = '{1:032x}'")):
        ours = ASKED[name].format(run=where)
        theirs = f"with losses as {LOSSES}, {name} as ({DERIVED[name]}) {ours}"
        _same(store.query(ours).to_pylist()[0], _by_hand(files, theirs)[0])
        work: list[Callable[[], object]] = [lambda q=ours: store.query(q), lambda q=theirs: _by_hand(files, q)]
        all_ours, all_theirs = medians(repeats, *work)
        target = None if where else 1.3  # of one run, what counts is reading the log
        results.append(
            Result(f"{name}, {what}", all_ours, "s", "DuckDB by hand", all_theirs, target, f"{len(files)} files")
        )
    return results


def _by_hand(files: list[str], query: str) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    connection.execute("set variable files = ?", [files])
    return connection.sql(query).to_arrow_table().to_pylist()


def _same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    if any(not np.isclose(float(ours[name]), float(theirs[name])) for name in ours):
        raise RuntimeError("The two ways of asking do not agree: what is compared is not the same work.")
