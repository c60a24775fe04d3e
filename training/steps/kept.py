"""Selection passes whose activations are kept: what they chose is trained on without a second forward pass.

How: between two updates the weights do not change, so the losses of all selection passes since the last update are
those that training on the chosen samples would compute. Their graphs are kept until enough samples are chosen; then one
backward pass goes through all of them.
Cost: autograd goes through everything that was looked at, chosen or not, so the backward pass is that of training on
all of it. It pays only where a second forward pass costs more than that.
Memory: the activations of every selection pass since the last update, chosen or not: about 1 / selectivity batches.
Source: A. Jiang, thesis, 2021, section 3.5, "Future implementation optimizations".
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from tamis.training.streaming.batches import Batch


class Kept:
    """The chosen losses since the last update.

    Attributes:
        samples: how many there are.
        peak: the most bytes of activations that were kept at a time.
    """

    def __init__(self) -> None:
        self.samples = self.peak = 0
        self._losses: list[Tensor] = []
        self._right: list[Tensor] = []
        self._parts: list[Batch] = []
        self._bytes, self._seen = 0, set[int]()

    @contextmanager
    def counting(self) -> Generator[None]:
        """Count what a forward pass inside saves for its backward pass."""
        with torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor):
            yield
        self.peak = max(self.peak, self._bytes)

    def add(self, batch: Batch, part: Batch, losses_B: Tensor, right_B: Tensor | None) -> None:
        """Keep the losses of a part of a batch.

        Args:
            batch: what was looked at.
            part: the chosen samples of it, in their order.
            losses_B: with their graph.
            right_B: whether predictions were right.
        """
        rows_K = torch.isin(batch.samples, part.samples).nonzero()[:, 0].to(losses_B.device)
        self._losses.append(losses_B[rows_K])
        self._parts.append(part)
        if right_B is not None:
            self._right.append(right_B[rows_K])
        self.samples += len(part.samples)

    def take(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Losses [K] with their graph, weights [K], samples [K], and what was right; nothing is kept afterwards."""
        right = torch.cat(self._right) if len(self._right) == len(self._losses) else None
        taken = (
            torch.cat(self._losses), torch.cat([part.weights for part in self._parts]),
            torch.cat([part.samples for part in self._parts]), right,
        )  # fmt: skip
        peak = self.peak
        self.__init__()
        self.peak = peak
        return taken

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self._bytes += storage.nbytes()
        return tensor
