"""How good a classifier is on some batches, as a function of its own."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from tamis.training.streaming.batches import Batch
from tamis.training.tasks import CLASSIFICATION


class Evaluation(NamedTuple):
    """How good a model is on some samples."""

    accuracy: float
    loss: float
    samples: int


def evaluate(model: nn.Module, batches: Iterable[Batch], *, device: torch.device | None = None) -> Evaluation:
    """Accuracy and mean cross-entropy; every sample counts alike.

    Args:
        model: takes uint8 images and gives logits; it is put in evaluation mode.
        batches: what to judge it on.
        device: where the model is; by default where its first parameter is.
    """
    samples = 0

    def counted() -> Iterable[Batch]:
        nonlocal samples
        for batch in batches:
            samples += len(batch.samples)
            yield batch

    found = CLASSIFICATION.evaluate(model, counted(), device)
    return Evaluation(found.get("accuracy", 0.0), found.get("loss", 0.0), samples)
