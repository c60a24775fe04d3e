"""What a training run reads: one epoch's batches after another, the first of them also to measure the pixels on.

Cost: what is read to measure the pixels is kept for the first steps, where they are to read the same.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor

from tamis.store.datasets import Dataset
from tamis.store.selections import Selection
from tamis.store.selections.drafts import Draft
from tamis.training.strategies.contract import Statistics
from tamis.training.streaming.batches import Batch
from tamis.training.streaming.stream import SelectionStream

STATISTICS = 1_024  # mean and standard deviation are those of the first samples of the first epoch, at least so many
Source = Dataset | Selection | Draft


class Feed:
    """The batches of a training run.

    Args:
        open_stream: opens a stream with the run's seed, batch size and way of decoding.
        source: what is trained on.

    Attributes:
        stream: of the source.
        waited: seconds that waiting for batches took.
    """

    def __init__(self, open_stream: Callable[[Source], SelectionStream], source: Source) -> None:
        self._open, self.stream, self.waited = open_stream, open_stream(source), 0.0
        self._source = source
        self._head = list[Batch]()
        self._rest: Generator[Batch] | None = None

    def measure(self, source: Source) -> Statistics:
        """Mean and standard deviation of the pixels of what the first epoch of a source begins with."""
        if source.key == self._source.key:
            self._rest = self.stream.epoch(0)
            self._head = self._first(self._rest)
            return pixel_statistics([batch.images for batch in self._head])
        with closing(self._open(source).epoch(0)) as batches:
            return pixel_statistics([batch.images for batch in self._first(batches)])

    def is_ahead(self, steps: int) -> bool:
        """Whether more was read than so many steps have consumed: the books do not balance until they have."""
        return steps <= len(self._head)

    def epoch(self, epoch: int, position: int) -> Generator[Batch]:
        """The batches of an epoch from a position on."""
        if self._rest is None:
            self._rest = self.stream.epoch(epoch, position)
        with closing(self._rest) as rest:
            yield from self._head
            yield from self._timed(rest)
        self._rest, self._head = None, []

    def _first(self, batches: Iterator[Batch]) -> list[Batch]:
        return list(islice(self._timed(batches), -(-STATISTICS // self.stream.batch_size)))

    def _timed(self, batches: Iterator[Batch]) -> Generator[Batch]:
        while True:
            started = perf_counter()
            batch = next(batches, None)
            self.waited += perf_counter() - started
            if batch is None:
                return
            yield batch


def pixel_statistics(batches: Sequence[Tensor]) -> Statistics:
    """Mean and standard deviation of each channel, of pixels scaled to 0..1.

    Args:
        batches: uint8 tensors [B, C, H, W].

    Returns:
        C numbers each. A channel that is the same everywhere has the standard deviation 1.
    """
    means, deviations = list[float](), list[float]()
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(batches[0].shape[1]):
        # Counting the 256 values is exact and takes no memory, whatever the size of the images.
        counts = sum(torch.bincount(images[:, channel].flatten(), minlength=256) for images in batches)
        share = torch.as_tensor(counts).double() / torch.as_tensor(counts).sum()
        mean = float(share @ values)
        means.append(mean)
        deviations.append(float(share @ (values - mean) ** 2) ** 0.5 or 1.0)
    return Statistics(tuple(means), tuple(deviations))
