"""Choosing again as a training goes: Grad-Match between two epochs, and the rounds it leaves.

What: `choose` makes one round by a model: the gradients of all samples, and the few that match them.
`Reselector.before` is called at the beginning of every epoch; where a new choice is due it adds a round to the
training's draft, and the stream goes on with it. When the training is done, `publish` makes the draft a selection,
which other trainings replay.
How: a round is in the store before anything is trained on it. A killed training that goes on finds it there; one that
was killed while choosing chooses again from the same weights.
Cost: one forward pass over the data set and the pursuits, once every `every` epochs; the books have it as `select`.
Source: Killamsetty et al., "GRAD-MATCH", ICML 2021, algorithm 1 (R, kappa); Cai, Duan and Ananth, "Faster Training by
Automatically Selecting the Best Training Data", 2022 (keeping the rounds and replaying them: Cached-Grad-Match).
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from tamis.curation.gradmatch.method import Target, match
from tamis.curation.omp.batched import pursue_batch
from tamis.curation.omp.problem import Pursue
from tamis.curation.omp.processes import Pursuers
from tamis.curation.omp.solver import pursue_each
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.drafts import Draft
from tamis.store.selections import Published, RoundData
from tamis.training.config import GRADMATCH, Drafted, Plan, Reselect
from tamis.training.loop import pick_device
from tamis.training.models.registry import ImageClassifier, derive_seed
from tamis.training.signals.gradients import SampleGradients, last_layer, per_sample_gradients
from tamis.training.streaming.batches import Batch, Chosen, Images, Loaded, load_batches
from tamis.training.streaming.lookup import Index

_PASS = 256  # samples a forward pass
_LARGE = 10_000_000  # samples times samples chosen: from there on pursuits take longer than processes take to start
_PROCESSES = 16  # for pursuits, at most: there are seldom many more classes than a few tens


class Reselector:
    """What a training needs to choose again.

    Args:
        store: the store.
        plan: of a training that reselects.
        device: where the model is.
    """

    def __init__(self, store: Store, plan: Plan, device: torch.device) -> None:
        assert plan.draft is not None
        assert plan.config.reselect is not None
        self._store, self._plan, self._device = store, plan, device
        self._drafted: Drafted = plan.draft
        self._reselect: Reselect = plan.config.reselect
        config = plan.config
        self._asked = Asked(
            plan.draft.k,
            self._reselect.kind,
            self._reselect.lam,
            self._reselect.head,
            plan.draft.target,
            config.batch_size,
            Images(config.channels, config.image_size),
            config.seed,
        )
        self.draft = Draft(store.root, self._drafted.key, plan.dataset.ref)

    def sizes(self) -> list[int]:
        """How many samples each epoch of the training has."""
        full = self._drafted.full
        return [self._plan.dataset.samples if e < full else self._drafted.k for e in range(self._plan.config.epochs)]

    def before(self, epoch: int, model: ImageClassifier) -> float:
        """Make the round that begins at an epoch, if one does and it is not there yet; the seconds it took."""
        if not self._begins(epoch) or any(r.first_epoch == epoch for r in self.draft.rounds):
            return 0.0
        started = perf_counter()
        if epoch < self._drafted.full:
            everything = RoundData(np.arange(self._plan.dataset.samples), first_epoch=epoch)
            self.draft.add(everything, seconds=0.0, what="everything")
            return perf_counter() - started
        data, notes = choose(
            self._store, self._plan.dataset, model, self._asked, first_epoch=epoch, device=self._device
        )
        notes["seconds"] = seconds = perf_counter() - started
        self.draft.add(data, **notes)
        return seconds

    def publish(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Published:
        """Make the rounds a selection.

        Args:
            mean, std: of the pixels, as the training used them: a replay that is to give the same losses needs them.
        """
        made = self.draft.made
        spent = sum(one.notes["seconds"] for one in made)
        stats: dict[str, Any] = {
            "mean": list(mean),
            "std": list(std),
            "rounds": [one.notes for one in made],
            "seconds": {"select": spent},
        }
        rounds = [one.data for one in made]
        return self._store.selections.publish(
            name=self._drafted.name, **self._drafted.asked, rounds=rounds, seconds=spent, stats=stats
        )

    def _begins(self, epoch: int) -> bool:
        """Whether a round begins: with everything at first, where the training starts warm, and then every so often."""
        full = self._drafted.full
        return epoch == 0 if epoch < full else (epoch - full) % self._reselect.every == 0


@dataclass(frozen=True)
class Asked:
    """What is to be chosen.

    Attributes:
        k: how many samples.
        kind, lam, head: as in `tamis.training.config.Reselect`.
        target: the data set whose gradient is matched; None for the training gradient.
        batch_size: samples a mini-batch, for the kind "batch".
        images: how the model takes images.
        seed: of the partition into mini-batches.
    """

    k: int
    kind: Literal["class-gradient", "class", "batch"]
    lam: float
    head: str | None
    target: Dataset | None
    batch_size: int
    images: Images
    seed: int


def choose(
    store: Store,
    dataset: Dataset,
    model: ImageClassifier,
    asked: Asked,
    *,
    first_epoch: int = 0,
    device: str | torch.device = "auto",
    progress: Callable[[int], None] | None = None,
) -> tuple[RoundData, dict[str, Any]]:
    """One round by a model: gradients of all samples, and the few whose weighted sum matches theirs.

    Args:
        store: the store.
        dataset: what is chosen from.
        model: the gradients are those of its last layer; it is left as it was.
        asked: how many, and how.
        first_epoch: of the round.
        device: where to compute.
        progress: called with the number of samples just looked at, of the data set and of the target.

    Returns:
        The round, and what is worth knowing about it: seconds, relative error, how many were filled up, ...
    """
    started = perf_counter()
    with _pursuing(dataset, asked, device) as pursue:
        found, aim = _gradients(store, dataset, model, asked, device, progress), None
        if asked.target is not None:
            judged = _gradients(store, asked.target, model, asked, device, progress)
            aim = Target(judged.gradients, judged.labels)
        gradients = perf_counter() - started
        with threadpool_limits(1, user_api="blas"):  # threads of BLAS wait for each other at every small product
            chosen = match(
                found.gradients,
                found.labels,
                k=asked.k,
                kind=asked.kind,
                lam=asked.lam,
                target=aim,
                batch_size=asked.batch_size,
                pursue=pursue,
                generator=np.random.default_rng(derive_seed(asked.seed, GRADMATCH, asked.kind)),
            )
    notes = {"seconds": perf_counter() - started, "gradients": gradients, "error": chosen.error}
    notes |= {"filled": int(chosen.filled.sum()), "nonfinite": found.nonfinite[:10].tolist()}
    data = RoundData(found.samples[chosen.samples], chosen.weights, first_epoch, chosen.objective)
    return data, notes | {"excluded": len(chosen.excluded)}


@contextmanager
def _pursuing(dataset: Dataset, asked: Asked, device: str | torch.device) -> Generator[Pursue]:
    """What solves the pursuits: the model's GPU, processes that start beside the forward pass, or this one."""
    place, cores = pick_device(device), len(os.sched_getaffinity(0))
    if place.type == "cuda":
        yield partial(pursue_batch, device=place)
    elif asked.kind == "batch" or cores == 1 or dataset.samples * asked.k < _LARGE:
        yield pursue_each
    else:
        with Pursuers(min(cores, _PROCESSES)) as pursuers:
            yield pursuers.pursue


def _gradients(
    store: Store,
    dataset: Dataset,
    model: ImageClassifier,
    asked: Asked,
    device: str | torch.device,
    progress: Callable[[int], None] | None,
) -> SampleGradients:
    with closing(load_batches(Index.open(store, dataset), in_order(dataset), asked.images)) as loaded:
        batches = _counted(loaded, progress)
        if asked.head is not None:
            return per_sample_gradients(model, batches, f"network.{asked.head}", device)
        return last_layer(model, batches, device)


def _counted(loaded: Iterable[Loaded], progress: Callable[[int], None] | None) -> Iterator[Batch]:
    for one in loaded:
        yield one.batch
        if progress is not None:
            progress(len(one.batch.samples))


def in_order(dataset: Dataset) -> Iterator[Chosen]:
    """All samples of a data set, in batches for one pass."""
    for a in range(0, dataset.samples, _PASS):
        part = np.arange(a, min(a + _PASS, dataset.samples))
        yield Chosen(part, np.ones(len(part), np.float32))
