"""Batches of decoded images, made ahead of their use in one background thread.

What: `load_batches` turns lists of sample numbers into tensors: byte ranges from the index, one read a batch, decoded
while the model works on the batch before.
When: behind `SelectionStream.epoch` and `score_shard`.
Cost: the decoder's (`tamis.training.decode`), on a second core; about 5 µs a sample on top. At most `AHEAD` + 1 batches
are in memory. The thread ends when the iterator does, however it does.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.store.datasets import Dataset, Locations
from tamis.training.decode import IMAGES, check_suffix, decode_images
from tamis.training.reading import Reader, open_reader

AHEAD = 2

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
T = TypeVar("T")
R = TypeVar("R")


class Batch(NamedTuple):
    """B samples, ready for a model."""

    images: Tensor  # uint8 [B, C, H, W]
    labels: Tensor  # int64 [B], -1 where the data set has none
    weights: Tensor  # float32 [B]
    samples: Tensor  # int64 [B]


class Chosen(NamedTuple):
    """B samples to be read."""

    samples: Ints  # [B]
    weights: Floats  # [B]


class Loaded(NamedTuple):
    """A batch and what reading it cost."""

    batch: Batch
    bytes_read: int


@dataclass(frozen=True)
class Images:
    """How images become tensors: the same for every batch.

    Attributes:
        channels: 3 (RGB) or 1 (grey).
        size: None for images as they are, all equally large; a number scales and cuts them to size x size.
    """

    channels: int = 3
    size: int | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}: images are read with 3 (RGB) or 1 (grey).")
        if self.size is not None and self.size < 1:
            raise ValueError(
                f"image size is {self.size}: expected at least 1 pixel, or None to keep images as they are."
            )


@dataclass(frozen=True)
class ImageIndex:
    """Where every sample's image lies, and its label."""

    suffix: str
    where: Locations  # [N]
    labels: Ints  # [N]


@lru_cache(maxsize=4)
def image_index(dataset: Dataset) -> ImageIndex:
    """The index of a data set's images: 28 bytes a sample, read once a process for the data sets used last.

    Raises:
        DecoderRefused: the data set's images have a suffix without a decoder.
    """
    return ImageIndex(check_suffix(dataset.image, IMAGES), dataset.locations(), dataset.labels())


def take(where: Locations, samples: Ints) -> Locations:
    """The locations of some samples, in their order."""
    return Locations(where.shard[samples], where.offset[samples], where.size[samples])


def load_batches(
    dataset: Dataset, chosen: Iterable[Chosen], images: Images = Images(), *, ahead: int = AHEAD
) -> Generator[Loaded]:
    """Read and decode batches in order.

    Args:
        dataset: where the samples are.
        chosen: the batches' samples and weights; drawn as they are needed.
        images: how images are decoded.
        ahead: how many batches are made before they are asked for.

    Yields:
        The batches, and the bytes that each was read from.

    Raises:
        ShardChanged, DecodeError: naming the shard or the sample.
    """
    loader = _Loader(dataset, image_index(dataset), images, open_reader(dataset.shards, lambda s: dataset.keys([s])[0]))
    try:
        yield from in_background(loader.load, chosen, ahead=ahead)
    finally:
        loader.reader.close()


def in_background(work: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Generator[R]:
    """`map(work, items)` in one thread that keeps `ahead` results ready. Errors come out where their result would."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="tamis-batches")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Loader:
    dataset: Dataset
    index: ImageIndex
    images: Images
    reader: Reader = field(repr=False)

    def load(self, chosen: Chosen) -> Loaded:
        samples = chosen.samples
        ranges = self.reader.read(samples, take(self.index.where, samples))
        images = decode_images(
            ranges.views(),
            self.index.suffix,
            channels=self.images.channels,
            size=self.images.size,
            name=lambda i: f"Sample {self.dataset.keys([samples[i]])[0]} (number {samples[i]})",
        )
        labels = torch.from_numpy(self.index.labels[samples])
        batch = Batch(images, labels, torch.from_numpy(chosen.weights), torch.from_numpy(samples))
        return Loaded(batch, ranges.data.size)
