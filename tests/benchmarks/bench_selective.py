"""The selection step of Selective-Backprop without its forward pass, against a loop over losses and a training step."""

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import torch
from benchlib import Result, folder, medians
from torch.nn import functional

from tamis.curation.selective.drawing import draw
from tamis.curation.selective.history import LossHistory
from tamis.curation.selective.priority import Priority
from tamis.store import Store
from tamis.store.datasets.packing import pack_digits
from tamis.training.config import InLoop, TrainConfig
from tamis.training.loop import At, Looked
from tamis.training.models.registry import build_model
from tamis.training.planning import plan
from tamis.training.strategies.queue import Queue
from tamis.training.strategies.selective import SelectiveBackprop
from tamis.training.streaming.batches import Batch

BATCH = 128
SELECTIVITY = 1 / 3
SHOWN = 10  # batches of an epoch of the dataset
LOOP = 17.6  # µs a sample that the authors' loop takes where half a microsecond is asked for
LABEL = "batches of 128, 32x32x3 bytes and labels, one third selected"


def run(quick: bool, data: Path | None) -> list[Result]:
    sizes, batches, repeats = ((1024, 8192, 20_000), 4, 1) if quick else ((1024, 65_536, 1_000_000), 300, 15)
    stream = _Batches(batches)
    with folder() as path:
        store = Store.create(path / "store")
        store.datasets.add("digits", pack_digits(path / "digits"))
        timed = [make(size) for size in sizes for make in (partial(_ours, store, stream), partial(_bare, stream))]
        taken = [seconds / (batches * BATCH) * 1e6 for seconds in medians(repeats, *timed, clock=process_time)]
    (small, large, huge), bare = taken[::2], taken[1::2]
    counts = (BATCH, 16, 2)  # losses that the loop is measured on
    peers = [_peer(stream, size, count, 1 if quick else 5) for size, count in zip(sizes, counts, strict=True)]
    step = _training_step("preact8" if quick else "preact20", 1 if quick else 7)
    names = [f"a sample, R = {size:,}" for size in sizes]
    steps = [f"percentile, draw and filling, R = {size:,}" for size in sizes]
    return [
        Result(steps[0], bare[0], "µs", target=0.5, note=LABEL),
        Result(steps[1], bare[1], "µs", f"R = {sizes[0]:,}", bare[0], 4),
        Result(steps[2], bare[2], "µs", target=2),
        Result(names[0], small, "µs", target=0.5, note="all that the strategy does with a batch"),
        Result(names[1], large, "µs", f"R = {sizes[0]:,}", small, 4),
        Result(names[2], huge, "µs", target=2),
        Result(names[0], small, "µs", "a deque and a loop", peers[0], 0.5 / LOOP),
        *(Result(names[i], (large, huge)[i - 1], "µs", "a deque and a loop", peers[i]) for i in (1, 2)),
        Result("a batch", small * BATCH, "µs", "training step, ResNet20", step * 1e6, 0.01, "one thread, a full batch"),
    ]


class _Batches:
    """Losses that fall as training goes on, images and labels; as a strategy is given them."""

    def __init__(self, batches: int) -> None:
        generator = np.random.default_rng(0)
        self.losses = [
            (generator.exponential(size=BATCH) * (1 - i / batches / 2)).astype(np.float32) for i in range(batches)
        ]
        self.images = generator.integers(256, size=(BATCH, 32, 32, 3), dtype=np.uint8)
        self.labels = generator.integers(10, size=BATCH)
        pixels, right = torch.from_numpy(self.images).permute(0, 3, 1, 2), torch.ones(BATCH, dtype=torch.bool)
        parts = (pixels, torch.from_numpy(self.labels), torch.ones(BATCH))
        self.given = [
            (
                Batch(*parts, torch.arange(i % SHOWN * BATCH, (i % SHOWN + 1) * BATCH)),
                Looked(torch.from_numpy(one), right),
            )
            for i, one in enumerate(self.losses)
        ]
        self.draws = [torch.Generator().manual_seed(i) for i in range(batches)]

    def before(self, size: int) -> np.ndarray:
        """A history of that many losses."""
        return np.random.default_rng(1).exponential(size=size).astype(np.float32)


def _ours(store: Store, stream: _Batches, size: int) -> Callable[[], None]:
    asked = InLoop(name="selective-backprop", selectivity=SELECTIVITY, start=0, history=size)
    planned = plan(store, TrainConfig(dataset="digits", channels=1, strategy=asked))
    strategy = SelectiveBackprop(store, planned, torch.device("cpu"))
    strategy.begin(0)
    strategy.trained(np.zeros(size, np.int64), stream.before(size), None)

    def steps() -> None:
        for step, ((batch, looked), draws) in enumerate(zip(stream.given, stream.draws, strict=True)):
            for _ in strategy.take(At(0, 0, step), batch, looked, draws):
                pass
        strategy.begin(0)

    return steps


def _bare(stream: _Batches, size: int) -> Callable[[], None]:
    """The step itself: percentile, draw, batch filling."""
    history, queue, function = LossHistory(size), Queue(BATCH), Priority.selecting(SELECTIVITY)
    history.add(stream.before(size))
    generator = np.random.default_rng(0)

    def steps() -> None:
        for (batch, _), losses in zip(stream.given, stream.losses, strict=True):
            chosen = np.flatnonzero(draw(function(history.enter(losses)), generator))
            for _ in queue.add(batch, chosen, np.ones(len(chosen), np.float32)):
                pass

    return steps


def _peer(stream: _Batches, size: int, count: int, repeats: int) -> float:
    """µs a sample as anybody would write it: one loss after the other, compared with the whole history."""
    history, draws, beta = deque(stream.before(size).tolist(), maxlen=size), random.Random(0), 1 / SELECTIVITY - 1
    waiting: list[tuple[np.ndarray, int]] = []

    def steps() -> None:
        for i, loss in enumerate(stream.losses[0][:count].tolist()):
            history.append(loss)
            share = np.count_nonzero(np.array(history) <= loss) / len(history)
            if draws.random() < share**beta:
                waiting.append((stream.images[i], int(stream.labels[i])))
            if len(waiting) == BATCH:
                np.stack([image for image, _ in waiting]), np.array([label for _, label in waiting])
                waiting.clear()

    return medians(repeats, steps, clock=process_time)[0] / count * 1e6


def _training_step(name: str, repeats: int) -> float:
    """CPU seconds of forward pass, backward pass and update on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = build_model(name, num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.rand(BATCH, 3, 32, 32, generator=draws), torch.randint(10, (BATCH,), generator=draws)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    try:
        return medians(repeats, step, clock=process_time)[0]
    finally:
        torch.set_num_threads(threads)
