"""Chosen samples waiting until they fill a batch.

How: they are copied once, from the batch in which they were read into the one that is trained on; its memory is used
again once that has been. A batch of which everything is chosen, while nothing waits, is passed on as it is.
Memory: two training batches.
"""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from tamis.training.streaming.batches import Batch


class Queue:
    """First in, first out.

    Args:
        size: samples of a training batch.
    """

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._space: Batch | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, batch: Batch, rows_K: Tensor, weights_K: Tensor) -> Generator[Batch]:
        """Training batches that are full with this; each is used up when the next one is asked for.

        Args:
            batch: what was read.
            rows_K: int64, on the CPU: which of its samples are chosen.
            weights_K: float32, on the CPU: their weights.
        """
        if not self._count and len(rows_K) == len(batch.samples) == self._size:
            yield batch._replace(weights=weights_K)
            return
        at = 0
        while at < len(rows_K):
            some = slice(at, at + self._size - self._count)
            self._put(batch, rows_K[some], weights_K[some])
            at = some.stop
            if self._count == self._size:
                yield self._take()

    def rest(self) -> Generator[Batch]:
        """What waits, as a batch that is not full."""
        if self._count:
            yield self._take()

    def state(self) -> list[Tensor]:
        """What waits, for a checkpoint."""
        return [part.cpu().clone() for part in self._filled()] if self._count else []

    def load(self, state: list[Any]) -> None:
        """Go on from a state."""
        self._count = 0
        if state:
            batch = Batch(*state)
            self._put(batch, torch.arange(len(batch.samples)), batch.weights)

    def _put(self, batch: Batch, rows_K: Tensor, weights_K: Tensor) -> None:
        if self._space is None or self._space.images.shape[1:] != batch.images.shape[1:]:
            self._space = _room(batch, self._size)
        here = slice(self._count, self._count + len(rows_K))
        pixels_BHWC, into_BHWC = (each.permute(0, 2, 3, 1) for each in (batch.images, self._space.images[here]))
        torch.index_select(pixels_BHWC, 0, rows_K.to(pixels_BHWC.device), out=into_BHWC)
        self._space.labels[here] = batch.labels[rows_K]
        self._space.samples[here] = batch.samples[rows_K]
        self._space.weights[here] = weights_K
        self._count = here.stop

    def _take(self) -> Batch:
        taken = self._filled()
        self._count = 0
        return taken._replace(samples=taken.samples.clone())  # the books keep them

    def _filled(self) -> Batch:
        assert self._space is not None
        return Batch(*(part[: self._count] for part in self._space))


def _room(batch: Batch, size: int) -> Batch:
    channels, *sides = batch.images.shape[1:]
    images_BHWC = batch.images.new_empty((size, *sides, channels))
    labels = batch.labels.new_empty((size, *batch.labels.shape[1:]))
    return Batch(images_BHWC.permute(0, 3, 1, 2), labels, torch.empty(size), batch.samples.new_empty(size))
