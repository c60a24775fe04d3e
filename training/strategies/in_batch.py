"""Selective-Backprop inside a batch: without a history, a fixed part of each batch.

What: in the middle of training each batch gets a forward pass and keeps `keep` of its samples, drawn without
replacement with a probability that grows with the loss's place in the batch. Every `interrupt`-th batch is trained on
whole.
When: where each step is to have the same number of samples, as in the training of detectors.
How: `tamis.curation.selective.in_batch`. The kept samples of a batch are a step of their own.
Source: seed of the method for detection: "Selective-Backprop for Object Detection", algorithm 1 (start .5, end .9,
keep .5, interrupt 2 and 3); the same rule is MosaicML Composer's.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tamis.curation.selective.in_batch import select_in_batch
from tamis.training import border
from tamis.training.strategies.loss_based import Floats, LossBased, PassParameters

if TYPE_CHECKING:
    from tamis.training.loop import At, Looking


class InBatchParameters(PassParameters):
    """Parameters of Selective-Backprop inside a batch.

    Attributes:
        begin: share of the epochs after which it begins.
        end: share of the epochs after which it ends.
        share: share of a batch that is trained on.
        interrupt: one of so many batches is trained on whole; 0 for none.
    """

    name: str = "in-batch"
    start: int = Field(default=0, ge=0, le=border.EPOCHS)
    begin: float = Field(default=0.5, ge=0, le=1)
    end: float = Field(default=0.9, ge=0, le=1)
    share: float = Field(default=0.5, gt=0, le=1)
    interrupt: int = Field(default=2, ge=0, le=border.EPOCHS)

    @model_validator(mode="after")
    def _in_order(self) -> "InBatchParameters":
        if self.begin >= self.end:
            raise ValueError(f"begin is {self.begin} and end {self.end}: it must end after it begins")
        return self


class InBatch(LossBased):
    """Keeps a part of each batch."""

    name = "in-batch"
    fills = False
    Parameters = InBatchParameters

    def passes(self, epoch: int) -> bool:
        epochs = self.plan.config.epochs
        return super().passes(epoch) and self.asked.begin * epochs <= epoch < self.asked.end * epochs

    def looking(self, at: "At") -> "Looking | None":
        whole = self.asked.interrupt and at.position // self.plan.config.batch_size % self.asked.interrupt == 0
        return None if whole else super().looking(at)

    def weigh(
        self, at: "At", samples_B: NDArray[np.int64], losses_B: Floats, generator: np.random.Generator
    ) -> tuple[NDArray[np.floating], None]:
        weights_B = np.zeros(len(samples_B), np.float32)
        weights_B[select_in_batch(losses_B, keep=self.asked.share, generator=generator)] = 1
        return weights_B, None
