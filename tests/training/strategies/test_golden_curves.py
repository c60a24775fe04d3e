"""Loss curves of Selective-Backprop and StaleSB, held against a plain loop of the paper's algorithm.

The loop is written here from algorithm 1 and sections 3.3 to 3.5 of the thesis with nothing of tamis but the network:
a deque for the history, comparisons one by one, a list for the queue. From the run that is judged it takes what chance
decides, the order of reading and which coins fell; every loss, probability, batch and step it works out itself.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training import loop
from tamis.training.config import InLoop
from tamis.training.job import TrainConfig, train
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.signals.outputs import load_model
from tamis.training.strategies.selective import SelectiveBackprop
from tamis.training.strategies.stale import StaleSB
from tamis.training.streaming.batches import Chosen, Images, load_batches
from tamis.training.streaming.lookup import Index

BATCH, HISTORY, LR, DECAY = 64, 200, 0.05, 5e-4
Array = np.ndarray[Any, Any]


class Pass(NamedTuple):
    """A batch of a selection pass: its losses, probabilities, and which coins fell."""

    epoch: int
    samples: Array
    losses: Array
    probabilities: Array
    chosen: Array


class Trained(NamedTuple):
    """A step, with the losses before it."""

    samples: Array
    losses: Array


class Chances(NamedTuple):
    """Before a reuse epoch: the probability of each sample."""

    values: Array


Seen = list[Pass | Trained | Chances]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What a run does, in its order; nothing is changed."""
    events: Seen = []
    weigh, chances, step = SelectiveBackprop.weigh, StaleSB.chances, loop.train_step

    def weighed(self: Any, at: Any, samples: Array, losses: Array, generator: Any) -> Any:
        weights, probabilities = weigh(self, at, samples, losses, generator)
        events.append(Pass(at.epoch, samples, losses, probabilities, weights > 0))
        return weights, probabilities

    def drawing(self: Any) -> Array:
        events.append(Chances(chances(self)))
        return events[-1].values

    def stepped(model: Any, batch: Any, *rest: Any) -> Any:
        told = step(model, batch, *rest)
        events.append(Trained(batch.samples.numpy(), told.losses_B.numpy()))
        return told

    monkeypatch.setattr(SelectiveBackprop, "weigh", weighed)
    monkeypatch.setattr(StaleSB, "chances", drawing)
    monkeypatch.setattr(loop, "train_step", stepped)
    return events


class Plain:
    """The paper's algorithm.

    Args:
        network: untrained.
        images, labels: of the dataset.
        beta: exponent.
    """

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, beta: float) -> None:
        self.network, self.images, self.labels, self.beta = network, images, labels, beta
        self.optimizer = torch.optim.SGD(network.parameters(), LR, 0.9, weight_decay=DECAY, nesterov=True)
        self.history, self.queue = deque[float](maxlen=HISTORY), list[int]()
        self.stored = dict[int, float]()

    def losses(self, samples: Iterable[int], training: bool) -> Tensor:
        some = torch.tensor(list(samples))
        self.network.train(training)
        return functional.cross_entropy(self.network(self.images[some]), self.labels[some], reduction="none")

    def look(self, samples: list[int]) -> tuple[Tensor, list[float]]:
        """Losses as the network is, and each one's probability: all enter the history, then shares are taken."""
        with torch.no_grad():
            losses = self.losses(samples, training=False)
        self.history.extend(losses.tolist())
        self.stored |= dict(zip(samples, losses.tolist(), strict=True))
        return losses, [share(one, self.history) ** self.beta for one in losses.tolist()]

    def step(self, samples: list[int]) -> Tensor:
        """Losses before the step, which is on their mean."""
        losses = self.losses(samples, training=True)
        self.optimizer.zero_grad()
        losses.mean().backward()
        self.optimizer.step()
        return losses.detach()


def share(loss: float, history: Iterable[float]) -> float:
    """The part of a history that a loss is not below."""
    held = [other <= loss for other in history]
    return sum(held) / len(held)


def config(strategy: InLoop, epochs: int) -> TrainConfig:
    # the rest of an epoch is trained on at the rate of its end: a schedule that stepped there would show
    return TrainConfig(
        dataset="digits", model="preact8", epochs=epochs, batch_size=BATCH, channels=1, lr=LR, weight_decay=DECAY,
        schedule="step", step_size=epochs + 1, augment="none", strategy=strategy, seed=3,
    )  # fmt: skip


def plain(store: Store, dataset: Dataset, run: Any, beta: float) -> Plain:
    """At the beginning of a run."""
    index, everything = Index.open(store, dataset), np.arange(dataset.samples)
    chosen = [Chosen(everything, np.ones(len(everything), np.float32))]
    (loaded,) = load_batches(index, chosen, Images(1))
    meta = load_model(store, run.blob)[1]
    network = build_model("preact8", num_classes=10, in_channels=1, seed=3)
    return Plain(ImageClassifier(network, meta.mean, meta.std), loaded.batch.images, loaded.batch.labels, beta)


def close(ours: Any, theirs: Any) -> None:
    """As far as other kernels' rounding grows in so many steps."""
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-3, atol=2e-4)


def follow(judged: Seen, ours: Plain) -> dict[str, int]:
    """Go through a run beside the plain loop; how many of each there were."""
    for event in judged:
        if isinstance(event, Pass):
            losses, probabilities = ours.look(event.samples.tolist())
            close(event.losses, losses)
            # a loss that rounding moves past a neighbour changes shares by one of the history
            np.testing.assert_allclose(event.probabilities, probabilities, atol=3.0 * ours.beta / HISTORY)
            ours.queue += event.samples[event.chosen].tolist()
        elif isinstance(event, Chances):
            stored = [ours.stored[i] for i in range(len(ours.stored))]
            expected = [share(one, stored) ** ours.beta for one in stored]
            np.testing.assert_allclose(event.values, expected, atol=3.0 * ours.beta / 200)
        else:
            samples = event.samples.tolist()
            close(event.losses, ours.step(samples))
            if ours.queue:
                assert samples == ours.queue[:BATCH]
                assert len(samples) in (BATCH, len(ours.queue))
                del ours.queue[:BATCH]
    return {kind.__name__: sum(isinstance(one, kind) for one in judged) for kind in (Pass, Trained, Chances)}


def test_selective_backprop(store: Store, dataset: Dataset, seen: Seen) -> None:
    beta, batches = 2.0, -(-dataset.samples // BATCH)
    asked = InLoop(name="selective-backprop", beta=beta, history=HISTORY, start=0)
    run = train(store, config(asked, 2), device="cpu").run
    ours = plain(store, dataset, run, beta)
    counted = follow(seen, ours)
    assert counted["Pass"] == 2 * batches
    assert not ours.queue
    chosen = sum(int(one.chosen.sum()) for one in seen if isinstance(one, Pass))
    assert sum(len(one.samples) for one in seen if isinstance(one, Trained)) == chosen
    final = dict(load_model(store, str(run.blob))[0].named_parameters())
    for name, one in ours.network.named_parameters():
        torch.testing.assert_close(final[name], one, rtol=0.02, atol=0.004)


def test_stale(store: Store, dataset: Dataset, seen: Seen) -> None:
    """A pass, and an epoch of what its losses draw: the draw is by each sample's own loss, over all samples."""
    beta, batches = 2.0, -(-dataset.samples // BATCH)
    asked = InLoop(name="stale-sb", beta=beta, history=HISTORY, start=0, every=2)
    run = train(store, config(asked, 2), device="cpu").run
    ours = plain(store, dataset, run, beta)
    counted = follow(seen, ours)
    assert (counted["Pass"], counted["Chances"]) == (batches, 1)
    where = next(at for at, one in enumerate(seen) if isinstance(one, Chances))
    drawn = [i for one in seen[where:] if isinstance(one, Trained) for i in one.samples.tolist()]
    (told,) = (one for one in seen if isinstance(one, Chances))
    assert len(drawn) == len(set(drawn))
    assert abs(len(drawn) - told.values.sum()) < 5 * np.sqrt((told.values * (1 - told.values)).sum())
