"""Signals of a trained model: its outputs, and from them one number a sample.

What: `load_model` opens a model of the store, `predict` runs it over batches, `score_shard` gives what a scorer
(`tamis.training.signals.scorers`) makes of it for one shard's samples, in their order.
When: to score a dataset (`tamis.training.signals.scoring` calls it shard by shard).
Cost: one forward pass; decoding goes on beside it in a thread. NaN stands where a model gave logits that are not
finite: they are counted and kept out of rankings later, never hidden.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.devices import pick_device
from tamis.training.models.registry import ImageClassifier
from tamis.training.models.saved import open_model
from tamis.training.models.weights import ModelMeta
from tamis.training.signals.scorers import UNCERTAINTY, Scorer
from tamis.training.streaming.batches import Batch, Chosen, Images, load_batches, members_beside
from tamis.training.streaming.lookup import Index
from tamis.training.tasks import get_task


def load_model(store: Store, digest: str) -> tuple[ImageClassifier, ModelMeta]:
    """A model of the store, in evaluation mode, on the CPU.

    Args:
        store: the store.
        digest: of the model's blob, as in a finished training's `run.blob`.

    Returns:
        The model, which takes uint8 images as they are decoded, and its description.

    Raises:
        BlobNotFound, BlobCorrupt: the store's answer.
        CheckpointError: the blob is no model, or its weights do not fit the model that it names.
    """
    return open_model(store.blobs.get(digest), f"blob {digest}")


def predict(
    model: nn.Module, batches: Iterable[Batch], device: str | torch.device = "auto"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits, batch by batch.

    Args:
        model: takes uint8 images; put in evaluation mode and moved to the device.
        batches: what to look at.
        device: "auto", "cpu", "cuda", ... or a device.

    Yields:
        Sample numbers (int64 [B], on the CPU) and logits (float32 [B, classes], on the device).
    """
    place = pick_device(device) if isinstance(device, str) else device
    model = model.to(place).eval()
    for batch in batches:
        with torch.inference_mode():  # not around the yield: the caller's own code runs there
            logits_BK = model(batch.images.to(place, non_blocking=True)).float()
        yield batch.samples, logits_BK


def score_shard(
    store: Store,
    dataset: Dataset,
    shard: int,
    model: nn.Module,
    meta: ModelMeta,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
    scorer: Scorer = UNCERTAINTY,
) -> dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_]]:
    """Every signal of one shard's samples.

    Args:
        store: the store that the dataset is in.
        dataset: the dataset.
        shard: number of the shard.
        model: from `load_model`.
        meta: from `load_model`.
        device: where to compute.
        batch_size: samples a forward pass.
        scorer: what is made of the model's outputs.

    Returns:
        Arrays [count] in the order of the shard's samples. Those of "uncertainty": `confidence`, `margin`, `entropy`
        (float64, NaN where logits are not finite), `predicted` (int64), and for data with labels `loss` (float64; NaN
        where the model has no such class) and `correct` (bool).

    Raises:
        TaskError: the scorer is not made for what the model learnt.
        ShardChanged, DecodeError: naming the shard or the sample.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected at least 1.")
    first, count = dataset.shards[shard].first_sample, dataset.shards[shard].count
    chosen = _in_order(np.arange(first, first + count), batch_size)
    parts: list[dict[str, Tensor]] = []
    scorer.check_task(meta.task)
    task, labelled = get_task(meta.task), dataset.label is not None
    targets = task.targets(dataset) if labelled else None
    index = Index.open(store, dataset, [dataset.image, *members_beside(targets)])
    with closing(load_batches(index, chosen, Images(meta.in_channels, meta.image_size), targets)) as loaded:
        kept: list[Tensor] = []

        def batches() -> Generator[Batch]:
            for batch, _ in loaded:
                kept.append(batch.labels)
                yield batch

        for _, logits_BK in predict(model, batches(), device):
            with torch.inference_mode():
                parts.append(scorer.score(logits_BK, kept.pop() if labelled else None, task))
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _in_order(samples: NDArray[np.int64], batch_size: int) -> Iterator[Chosen]:
    for a in range(0, len(samples), batch_size):
        part = samples[a : a + batch_size]
        yield Chosen(part, np.ones(len(part), np.float32))
