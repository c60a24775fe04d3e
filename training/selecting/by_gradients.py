"""Choosing by gradients: one round of Grad-Match by one model.

What: `choose` gathers the gradients of all samples and matches their sum with those of a few.
When: between two epochs of a training run (`tamis.training.strategies.reselect`), or by the models of finished runs
(`tamis.training.selecting.by_runs`).
Cost: one forward pass over the dataset, and the pursuits: on the model's GPU, in processes that start beside the
forward pass, or in this one.
Source: Killamsetty et al., "GRAD-MATCH", ICML 2021.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from tamis.curation.contract import Inputs
from tamis.curation.gradmatch.gradients import Target
from tamis.curation.omp.batched import pursue_batch
from tamis.curation.omp.problem import Pursue
from tamis.curation.omp.processes import Pursuers
from tamis.curation.omp.solver import pursue_each
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import RoundData
from tamis.training.config import GRADMATCH
from tamis.training.devices import pick_device
from tamis.training.models.registry import ImageClassifier
from tamis.training.seeds import derive_seed
from tamis.training.signals.gradients import SampleGradients, last_layer, per_sample_gradients
from tamis.training.streaming.batches import Batch, Chosen, Images, Loaded, load_batches
from tamis.training.streaming.lookup import Index

_PASS = 256  # samples a forward pass
_LARGE = 10_000_000  # samples times samples chosen: from there on pursuits take longer than processes take to start
_PROCESSES = 16  # for pursuits, at most: there are seldom many more classes than a few tens


@dataclass(frozen=True)
class Asked:
    """What is to be chosen.

    Attributes:
        k: how many samples.
        params: of the method, as `tamis.training.config.Reselect.params` gives them.
        head: the module whose gradients are matched; None for the linear last layer.
        target: the dataset whose gradient is matched; None for the training gradient.
        images: how the model takes images.
        seed: of the partition into mini-batches.
    """

    k: int
    params: Mapping[str, Any]
    head: str | None
    target: Dataset | None
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
        progress: called with the number of samples just looked at, of the dataset and of the target.

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
            chosen = GRADMATCH.select(
                Inputs(len(found.samples), found.labels, gradients_N=found.gradients, target=aim),
                k=asked.k,
                **asked.params,
                pursue=pursue,
                generator=np.random.default_rng(derive_seed(asked.seed, GRADMATCH.name, asked.params["kind"])),
            )
    notes = {"seconds": perf_counter() - started, "gradients": gradients, **chosen.notes}
    notes |= {"nonfinite": found.nonfinite[:10].tolist(), "excluded": chosen.excluded}
    return RoundData(found.samples[chosen.samples], chosen.weights, first_epoch, chosen.objective), notes


@contextmanager
def _pursuing(dataset: Dataset, asked: Asked, device: str | torch.device) -> Generator[Pursue]:
    """What solves the pursuits: the model's GPU, processes that start beside the forward pass, or this one."""
    place, cores = pick_device(device), len(os.sched_getaffinity(0))
    if place.type == "cuda":
        yield partial(pursue_batch, device=place)
    elif asked.params["kind"] == "batch" or cores == 1 or dataset.samples * asked.k < _LARGE:
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
    """All samples of a dataset, in batches for one pass."""
    for a in range(0, dataset.samples, _PASS):
        part = np.arange(a, min(a + _PASS, dataset.samples))
        yield Chosen(part, np.ones(len(part), np.float32))
