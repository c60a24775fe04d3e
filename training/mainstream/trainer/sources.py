"""Samples of a dataset by number, decoded: what stem features are computed of.

How: the batches of `tamis.training.streaming.batches`, so only the members of the samples that are asked for are read,
and shards, decoders and labels are those of every training run.
Cost: see there; decoding goes on beside the computing in a thread.

Legend: N samples of the source, B of a batch.
"""

import hashlib
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.decoding.pixels import decoder_key
from tamis.training.streaming.batches import Batch, Chosen, Images, load_batches
from tamis.training.streaming.lookup import Index

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Some samples of a dataset.

    Attributes:
        store: the store.
        dataset: the version.
        samples_N: their numbers; rows of the source are places in it.
        weights_N: float32, of a selection's samples; ones for a dataset's.
        images: how they are decoded.
    """

    store: Store
    dataset: Dataset
    samples_N: Ints
    weights_N: npt.NDArray[np.float32]
    images: Images

    @cached_property
    def labels_N(self) -> Ints:
        """[N] class numbers."""
        return Index.open(self.store, self.dataset).labels[self.samples_N]

    @property
    def what(self) -> dict[str, object]:
        """What decides the pixels, as plain JSON."""
        digest = hashlib.sha256(self.samples_N.astype("<i8").tobytes()).hexdigest()
        return {
            "dataset": self.dataset.key, "samples": digest, "channels": self.images.channels,
            "image_size": self.images.size, **decoder_key((self.dataset.image, self.images.size)),
            **({} if self.images.fit == "crop" else {"fit": self.images.fit}),
        }  # fmt: skip

    def batches(self, rows: Iterable[Ints]) -> Generator[Batch]:
        """Decoded batches of some rows, as they are asked for.

        Args:
            rows: the rows of each batch.

        Raises:
            ShardChanged, DecodeError: naming the shard or the sample.
        """
        index = Index.open(self.store, self.dataset)
        chosen = (Chosen(self.samples_N[some], self.weights_N[some]) for some in rows)
        with closing(load_batches(index, chosen, self.images)) as loaded:
            for one in loaded:
                yield one.batch


def in_order(count: int, size: int) -> list[Ints]:
    """The rows of batches that go over everything once, in order."""
    return [np.arange(a, min(a + size, count)) for a in range(0, count, size)]
