"""Chosen samples waiting until they fill a batch.

How: they are copied once, from the batch in which they were read into the one that is trained on; its memory is used
again once that has been. A batch of which everything is chosen, while nothing waits, is passed on as it is. Images on a
GPU are copied there; everything else by NumPy, whose calls cost a third of torch's where so little is to be done.
Memory: a training batch.
"""

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.training.streaming.batches import Batch

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Queue:
    """First in, first out.

    Args:
        size: samples of a training batch.
    """

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._space: _Space | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, batch: Batch, rows_K: Ints, weights_K: Floats) -> Generator[Batch]:
        """Training batches that are full with this; each is used up when the next one is asked for.

        Args:
            batch: what was read.
            rows_K: which of its samples are chosen.
            weights_K: their weights.
        """
        if not self._count and len(rows_K) == len(batch.samples) == self._size:
            yield batch._replace(weights=torch.from_numpy(weights_K))
            return
        if self._space is None or not self._space.fits(batch):
            self._space = _Space(batch, self._size)
        while len(rows_K):
            room = self._size - self._count
            self._space.put(self._count, batch, rows_K[:room], weights_K[:room])
            self._count += min(room, len(rows_K))
            rows_K, weights_K = rows_K[room:], weights_K[room:]
            if self._count == self._size:
                yield self._take()

    def rest(self) -> Generator[Batch]:
        """What waits, as a batch that is not full."""
        if self._count:
            yield self._take()

    def state(self) -> list[Tensor]:
        """What waits, for a checkpoint."""
        if not self._count:
            return []
        assert self._space is not None
        return [part.cpu().clone() for part in self._space.first(self._count)]

    def load(self, state: list[Any]) -> None:
        """Go on from a state."""
        self._count = 0
        if state:
            batch = Batch(*state)
            self._space = _Space(batch, self._size)
            self._count = len(batch.samples)
            self._space.put(0, batch, np.arange(self._count), batch.weights.numpy())

    def _take(self) -> Batch:
        assert self._space is not None
        count, self._count = self._count, 0
        taken = self._space.first(count)
        return taken._replace(samples=taken.samples.clone())  # the books keep them


class _Space:
    """Memory for a training batch.

    Args:
        like: a batch of images of the same kind.
        size: samples.
    """

    def __init__(self, like: Batch, size: int) -> None:
        images = like.images
        self._last = images.is_contiguous(memory_format=torch.channels_last)
        self._kind = (images.shape[1:], images.device)
        shape = images.permute(0, 2, 3, 1).shape[1:] if self._last else images.shape[1:]
        self._images = images.new_empty((size, *shape))
        self._batch = Batch(
            self._images.permute(0, 3, 1, 2) if self._last else self._images,
            like.labels.new_empty((size, *like.labels.shape[1:])), torch.empty(size), like.samples.new_empty(size),
        )  # fmt: skip
        self._labels, self._weights, self._samples = (part.numpy() for part in self._batch[1:])
        self._pixels = None if images.device.type != "cpu" else self._images.numpy()

    def fits(self, batch: Batch) -> bool:
        """Whether the images are of the same kind."""
        return self._kind == (batch.images.shape[1:], batch.images.device)

    def put(self, at: int, batch: Batch, rows_K: Ints, weights_K: Floats) -> None:
        """Copy some samples of a batch to a position."""
        here = slice(at, at + len(rows_K))
        images = batch.images.permute(0, 2, 3, 1) if self._last else batch.images
        # With mode "raise" NumPy would fill an array of its own first; these rows are in range.
        if self._pixels is not None:
            images.numpy().take(rows_K, axis=0, out=self._pixels[here], mode="clip")
        else:
            torch.index_select(images, 0, torch.from_numpy(rows_K).to(images.device), out=self._images[here])
        batch.labels.numpy().take(rows_K, axis=0, out=self._labels[here], mode="clip")
        batch.samples.numpy().take(rows_K, out=self._samples[here], mode="clip")
        self._weights[here] = weights_K

    def first(self, count: int) -> Batch:
        """The first samples of it, over its memory."""
        return self._batch if count == len(self._samples) else Batch(*(part[:count] for part in self._batch))
