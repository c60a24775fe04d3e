"""What streaming looks up for each sample: the place of its members, its label, its key.

All of it is mapped from the store's flat copies (`tamis.store.mapped`), so it costs no memory of the process's own,
however many samples there are, and worker processes share it. An index travels to another process by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store import mapped as flat
from tamis.store.datasets import Dataset, Locations, Shard
from tamis.training.errors import LabelError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """The index of one dataset version.

    Args:
        store: the store.
        dataset: the version.
        members: the members, by suffix, that will be read.
    """

    store: Store
    dataset: Dataset
    members: tuple[str, ...]

    @classmethod
    def open(cls, store: Store, dataset: Dataset, members: Sequence[str] | None = None) -> "Index":
        """Map what is needed, making the flat copies where they are not there yet.

        Args:
            store: the store.
            dataset: the version.
            members: by suffix; by default the image.

        Raises:
            ShardError: some samples lack a member.
            LabelError: one of them holds the labels from before the dataset's were changed.
        """
        if dataset.outdated is not None and dataset.outdated in (members or ()):
            raise LabelError(
                f"Member .{dataset.outdated} of {dataset.ref} holds the labels from before they were changed: leave it "
                "out. The dataset's own labels are class numbers, given as labels or as the member "
                f"{dataset.given_label!r}."
            )
        made = cls(store, dataset, (dataset.image,) if members is None else tuple(members))
        _ = made._places, made._members  # now, and not in a worker in the middle of an epoch
        return made

    @property
    def labels(self) -> Ints:
        """[N] class numbers, -1 where there are none."""
        return flat.column(self._places, "label")

    def where(self, member: str, samples_B: Ints) -> Locations:
        """Where one member of some samples lies, in their order."""
        offset, size = self._members[member]
        return Locations(self._shard[samples_B], offset[samples_B], size[samples_B])

    def keys(self, samples_B: Ints) -> list[str]:
        """The WebDataset keys of some samples."""
        return self._keys.take(pa.array(samples_B)).to_pylist()

    def name(self, sample: int) -> str:
        """What a sample is called in messages."""
        return f"Sample {self.keys(np.asarray([sample]))[0]} (number {sample})"

    def uris(self, samples_B: Ints) -> list[str]:
        """The addresses of the shards that some samples lie in."""
        every = self.dataset.shards
        return [every[shard].uri for shard in self._shard[samples_B].tolist()]

    def shards(self, samples: Ints) -> list[Shard]:
        """The shards that some samples lie in."""
        return [self.dataset.shards[i] for i in np.unique(self._shard[samples]).tolist()]

    def bytes_of(self, samples: Ints) -> int:
        """How many bytes the members of some samples have together."""
        return sum(int(size[samples].sum()) for _, size in self._members.values())

    @cached_property
    def _places(self) -> pa.Table:
        return flat.places(self.store.root, self.dataset)

    @cached_property
    def _shard(self) -> NDArray[np.int32]:
        return flat.column(self._places, "shard")

    @cached_property
    def _members(self) -> dict[str, tuple[Ints, Ints]]:
        tables = {name: flat.member(self.store.root, self.dataset, name) for name in self.members}
        return {name: (flat.column(t, "offset"), flat.column(t, "size")) for name, t in tables.items()}

    @cached_property
    def _keys(self) -> pa.ChunkedArray:
        return flat.keys(self.store.root, self.dataset)["key"]

    def __reduce__(self) -> tuple[object, ...]:
        return Index, (self.store, self.dataset, self.members)  # what it maps is there, and mapped when it is needed
