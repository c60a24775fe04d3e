"""The stream of chosen samples: read by byte range out of the shards they already lie in, in an order that can be
repeated and resumed.

What: `SelectionStream` gives a selection's (or a whole data set's) samples epoch by epoch, as decoded batches
(`epoch`) or, iterated itself, as WebDataset dicts behind which every stock stage works.
Order: position p of the epoch's one global order belongs to rank (p - start) mod world. So all ranks together see the
same order whatever their number, every rank has the same number of batches, and what is left after `samples_consumed`
positions is the same for any number of ranks that go on from there.
The tail: `drop_last` drops what does not fill a batch on every rank; otherwise the last batch is shorter, and ranks
that would lack a sample in it get one from the epoch's beginning with weight 0, so a weighted loss is not biased.
Cost: bytes of the chosen samples only; 10 to 45 ns a sample for the order; see `tamis.training.batches`.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info

from tamis.store import Store
from tamis.store.datasets import Dataset, Locations
from tamis.store.errors import SelectionError
from tamis.store.selections import Selection
from tamis.training.batches import Batch, Chosen, Images, load_batches, take
from tamis.training.errors import DecoderRefused, StateMismatch
from tamis.training.order import BLOCK, EpochOrder
from tamis.training.reading import open_reader

if TYPE_CHECKING:
    import pyarrow as pa

# What stock WebDataset decoders would unpickle, so it never leaves the shard.
EXECUTABLE = frozenset({"pkl", "pickle", "pyd", "pth", "pt"})


@dataclass(frozen=True)
class _Round:
    """What is chosen from `first_epoch` on. `samples` None stands for all of a data set, without listing them."""

    first_epoch: int
    size: int
    samples: NDArray[np.int64] | None
    weights: NDArray[np.float32] | None

    def take(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self.samples is None or self.weights is None:
            return index, np.ones(len(index), np.float32)
        return self.samples[index], self.weights[index]


class SelectionStream(IterableDataset[dict[str, object]]):
    """A selection's samples, epoch by epoch.

    Args:
        store: the store that knows the selection.
        chosen: a selection, or a data set for all of its samples.
        seed: of the order.
        batch_size: samples a batch on each rank.
        rank, world: which of how many processes this is; by default what torch.distributed says, else 0 of 1.
        members: what a WebDataset dict holds, by suffix; by default the image and the label. An empty list spares their
            index where only `epoch` is used.
        shuffle: False keeps the selection's own order (a data set's: by sample number).
        drop_last: drop the samples at the end that do not fill a batch on every rank.
        channels: of decoded images, 3 (RGB) or 1 (grey).
        image_size: scale and cut decoded images to this many pixels; None takes them as they are.

    Attributes:
        samples_read: samples delivered by this object so far.
        bytes_read: bytes read from the shards for them.

    Raises:
        DecoderRefused: `members` names a pickle, which is never read.
    """

    def __init__(
        self,
        store: Store,
        chosen: Selection | Dataset,
        *,
        seed: int = 0,
        batch_size: int = 128,
        rank: int | None = None,
        world: int | None = None,
        members: Sequence[str] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        channels: int = 3,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        self.dataset = chosen if isinstance(chosen, Dataset) else store.datasets.get(chosen.dataset)
        self.key, self.seed, self.batch_size = chosen.key, seed, batch_size
        self.shuffle, self.drop_last, self.images = shuffle, drop_last, Images(channels, image_size)
        self.rank, self.world = _place(rank, world)
        self.samples_read = self.bytes_read = 0
        self._placed_by_torch = rank is None and world is None
        self._rounds = _rounds(chosen)
        self._members = _members(self.dataset, members)
        self._where: dict[str, Locations] = {}
        self._keys: pa.Array | None = None
        if self._members:
            # Here and not when it is first needed: that may be in a forked worker, where the tables cannot be read.
            self._where = {m: self.dataset.locations(m) for m in self._members}
            self._keys = self.dataset.members()["key"].combine_chunks()
        self._at, self._resume = (0, 0), (-1, 0)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: expected at least 1.")

    def size(self, epoch: int = 0) -> int:
        """How many samples the epoch has, over all ranks."""
        return self._round(epoch).size

    def batches(self, epoch: int = 0, start: int = 0) -> int:
        """How many batches the epoch has from a position on: the same on every rank."""
        return -(-self._own(epoch, start) // self.batch_size)

    def epoch(self, epoch: int, start: int | None = None) -> Generator[Batch]:
        """This rank's batches of one epoch, decoded ahead in a background thread.

        Args:
            epoch: from 0.
            start: the global position to begin at: `samples_consumed` of a state, whatever world size left it. By
                default where `load_state_dict` left this epoch, else 0.

        Yields:
            Batches of `batch_size`, the last one perhaps shorter. After each, `state_dict` counts it as consumed.

        Raises:
            ShardChanged, DecodeError: naming the shard or the sample.
        """
        start = self._start(epoch, start)
        step, self._at = self.batch_size * self.world, (epoch, start)
        with closing(load_batches(self.dataset, self._chosen(epoch, start), self.images)) as loaded:
            for number, (batch, read) in enumerate(loaded, 1):
                self._count(epoch, start + number * step, len(batch.samples), read)
                yield batch

    def __iter__(self) -> Iterator[dict[str, object]]:
        """This rank's samples of the epoch that is due, undecoded, as WebDataset dicts.

        Each has `__key__`, `__url__` (the shard), the members as bytes, `__sample__` (the number) and `__weight__`.
        The last two are named like that because stock decoders take every other value for bytes. DataLoader workers
        share out whole batches in turn, so a loader with the same batch size keeps the order. After a whole epoch the
        next one is due; where worker processes iterate copies, call `set_epoch` before each epoch.
        """
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        epoch = self._resume[0] if self._resume[0] >= 0 else self._at[0]
        start, keys = self._start(epoch, None), self._keys
        if keys is None:
            raise ValueError("The stream was made with members=(): it gives batches (`epoch`), no WebDataset dicts.")
        self._at = (epoch, start)
        with closing(open_reader(self.dataset.shards, lambda s: str(keys[s]))) as reader:
            for number, chosen in enumerate(self._chosen(epoch, start)):
                if number % workers == worker:
                    wanted, samples = self._wanted(chosen.samples)
                    ranges = reader.read(samples, wanted)
                    first = start + number * self.batch_size * self.world
                    yield from self._dicts(epoch, first, chosen, ranges.views(), ranges.data.size)
        self._at = (epoch + 1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Make this the epoch that iterating begins."""
        self._at, self._resume = (epoch, 0), (-1, 0)

    def state_dict(self) -> dict[str, str | int]:
        """Where the stream is: {selection, seed, epoch, samples_consumed}, the same on every rank."""
        epoch, consumed = self._resume if self._resume[0] >= 0 else self._at
        return {"selection": self.key, "seed": self.seed, "epoch": epoch, "samples_consumed": consumed}

    def load_state_dict(self, state: Mapping[str, str | int]) -> None:
        """Go on from a state, left by any number of ranks: `epoch(state["epoch"])` gives what that epoch had left.

        Raises:
            StateMismatch: the state is another selection's or another seed's, or is no state.
        """
        mine = {"selection": self.key, "seed": self.seed}
        theirs = {name: state.get(name) for name in mine}
        epoch, consumed = state.get("epoch"), state.get("samples_consumed")
        if theirs != mine or not isinstance(epoch, int) or not isinstance(consumed, int):
            raise StateMismatch(
                f"The state is of {theirs} at epoch {epoch}, sample {consumed}; this stream is of {mine}. Load it into "
                "a stream over the same selection with the same seed."
            )
        self._at = self._resume = (epoch, consumed)

    def _start(self, epoch: int, start: int | None) -> int:
        if start is None:
            start = self._resume[1] if epoch == self._resume[0] else 0
        self._resume = (-1, 0)
        if not 0 <= start <= self.size(epoch):
            raise ValueError(f"start is {start}: epoch {epoch} has positions 0 to {self.size(epoch)}.")
        self._check_place()
        return start

    def _chosen(self, epoch: int, start: int) -> Iterator[Chosen]:
        """This rank's batches as sample numbers, computed in blocks."""
        chosen, own = self._round(epoch), self._own(epoch, start)
        order = EpochOrder(self.key, chosen.size, self.seed, epoch, self.shuffle)
        block = max(1, BLOCK // self.batch_size) * self.batch_size
        for a in range(0, own, block):
            positions = start + self.rank + self.world * np.arange(a, min(a + block, own), dtype=np.int64)
            samples, weights = chosen.take(order.at(positions))
            weights[positions >= chosen.size] = 0  # padding: it stands in another rank's batch already
            for b in range(0, len(samples), self.batch_size):
                yield Chosen(samples[b : b + self.batch_size], weights[b : b + self.batch_size])

    def _own(self, epoch: int, start: int) -> int:
        """How many samples each rank gets from a position on."""
        left = self.size(epoch) - start
        if self.drop_last:
            return left // (self.batch_size * self.world) * self.batch_size
        return -(-left // self.world)

    def _round(self, epoch: int) -> _Round:
        in_force = [r for r in self._rounds if r.first_epoch <= epoch]
        if not in_force:
            first = self._rounds[0].first_epoch
            raise SelectionError(f"The selection begins at epoch {first}: nothing is selected in epoch {epoch}.")
        return in_force[-1]

    def _wanted(self, samples: NDArray[np.int64]) -> tuple[Locations, NDArray[np.int64]]:
        """Where all members of some samples lie, sample by sample within each member."""
        parts = [take(self._where[m], samples) for m in self._members]
        shard, offset, size = (np.concatenate([getattr(p, f) for p in parts]) for f in ("shard", "offset", "size"))
        return Locations(shard, offset, size), np.tile(samples, len(parts))

    def _dicts(
        self, epoch: int, first: int, chosen: Chosen, views: list[NDArray[np.uint8]], read: int
    ) -> Iterator[dict[str, object]]:
        count, shards = len(chosen.samples), self._where[self._members[0]].shard
        assert self._keys is not None
        for i, (sample, weight) in enumerate(zip(chosen.samples.tolist(), chosen.weights.tolist(), strict=True)):
            made: dict[str, object] = {
                "__key__": self._keys[sample].as_py(),
                "__url__": self.dataset.shards[shards[sample]].uri,
            }
            made.update((m, views[n * count + i].tobytes()) for n, m in enumerate(self._members))
            made.update(__sample__=sample, __weight__=weight)
            self._count(epoch, first + (i + 1) * self.world, 1, read if i == 0 else 0)
            yield made

    def _count(self, epoch: int, consumed: int, samples: int, read: int) -> None:
        self._at = (epoch, min(consumed, self.size(epoch)))
        self.samples_read += samples
        self.bytes_read += read

    def _check_place(self) -> None:
        if not self._placed_by_torch or get_worker_info() is not None or (self.rank, self.world) == _place(None, None):
            return
        raise RuntimeError(
            f"The stream was made as rank {self.rank} of {self.world} and torch.distributed now says "
            f"{_place(None, None)}: make the stream after init_process_group, or pass rank and world."
        )


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise ValueError(f"rank is {rank} and world is {world}: give both or neither.")
    if rank is None or world is None:
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank} of {world}: expected 0 to {world - 1}.")
    return rank, world


def _rounds(chosen: Selection | Dataset) -> list[_Round]:
    if isinstance(chosen, Dataset):
        return [_Round(0, chosen.samples, None, None)]
    return [_Round(r.first_epoch, r.size, *chosen.read_round(r.round)) for r in chosen.rounds]


def _members(dataset: Dataset, members: Sequence[str] | None) -> tuple[str, ...]:
    if members is None:
        return (dataset.image,) if dataset.label is None else (dataset.image, dataset.label)
    refused = [m for m in members if m.rpartition(".")[2].lower() in EXECUTABLE]
    if refused:
        raise DecoderRefused(
            f"Members {', '.join(refused)} are not streamed: pickles run code when they are decoded, and "
            "WebDataset's own decoder would do it. Name other members, such as "
            f"{dataset.image!r}."
        )
    return tuple(members)
