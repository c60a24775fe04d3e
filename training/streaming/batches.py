"""Batches: read by byte range, decoded or as they are, made ahead of their use in background threads.

What: `Loader` turns lists of sample numbers into a `Batch` (tensors, ready for a model) or a `RawBatch` (the members'
bytes); `in_background` has that done while the batch before is used.
When: behind `SelectionStream` and `score_shard`.
Cost: of raw bytes 1.5 µs a sample of 2 kB; decoded, 3 µs on top of the decoder (`tamis.training.decoding.decode`), on a
second core. At most `AHEAD` + 2 batches are in memory, which share the limit of `decoded_limit`. The threads end when
the iterator does, however it does.
Between processes a batch travels as a whole: small ones through the pipe, large ones in shared memory
(`tamis.training.streaming.sharing`), into which raw ones are read in the first place.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import reduction
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.training.border import IMAGE
from tamis.training.decoding.decode import IMAGES, check_suffix, decode_images, decoded_limit
from tamis.training.decoding.whole import How
from tamis.training.streaming.local import Reader
from tamis.training.streaming.lookup import Index
from tamis.training.streaming.readers import Media, open_reader
from tamis.training.streaming.sharing import Block, block_or_none

AHEAD = 2
# Bytes of a raw batch from which shared memory pays: below, the pipe costs less than a file descriptor's journey.
SHARED = 1 << 20
PIPED = 64 << 10  # bytes of images up to which they go through the pipe as well

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Buffer = bytes | memoryview
T = TypeVar("T")
R = TypeVar("R")


class Batch(NamedTuple):
    """B samples, ready for a model."""

    images: Tensor  # uint8 [B, C, H, W]
    labels: Tensor  # int64 [B], -1 where the dataset has none; or a task's targets (`Targets`)
    weights: Tensor  # float32 [B]
    samples: Tensor  # int64 [B]


@dataclass(frozen=True)
class Targets:
    """How a task's targets are read, where they are no class numbers: out of a member beside the image.

    Attributes:
        member: by suffix.
        decode: from the members of B samples, and what sample i is called in a message, to numbers [B]. A function of a
            module, so that worker processes find it.
    """

    member: str
    decode: Callable[[Sequence[bytes], Callable[[int], str]], NDArray[Any]]


@dataclass(frozen=True)
class Beside:
    """Targets that are known beforehand, and lie beside the shards.

    Attributes:
        of: from the numbers of B samples, their encoded images, the height and width of all of them when decoded, and
            what sample i is called in a message, to numbers [B, ...]. A function of a module, as that of `Targets`.
    """

    of: Callable[[Ints, Sequence[Any], tuple[int, int], Callable[[int], str]], NDArray[Any]]


def members_beside(targets: Targets | Beside | None) -> list[str]:
    """The members that are read for targets, beside the image."""
    return [targets.member] if isinstance(targets, Targets) else []


def _batch(images: Tensor, labels: NDArray[Any], weights: Floats, samples: Ints) -> Batch:
    return Batch(images, torch.from_numpy(labels), torch.from_numpy(weights), torch.from_numpy(samples))


@dataclass
class RawBatch:
    """B samples as they lie in the shards.

    Attributes:
        members: by suffix, B byte strings: `bytes`, or where that saves a copy of large ones a `memoryview`, read-only,
            over the shard itself or over memory that a worker process shares.
        labels: int64 [B], -1 where the dataset has none.
        weights: float32 [B].
        samples: int64 [B].
    """

    members: Mapping[str, Sequence[Buffer]]
    labels: Ints
    weights: Floats
    samples: Ints
    shared: Block | None = field(default=None, repr=False)  # all members' bytes end to end

    def __reduce__(self) -> tuple[Any, ...]:
        members = {name: [bytes(one) for one in parts] for name, parts in self.members.items()}
        return RawBatch, (members, self.labels, self.weights, self.samples)


def _split(data: NDArray[np.uint8], sizes: dict[str, Ints]) -> Mapping[str, Sequence[Buffer]]:
    view, ends = data.data.toreadonly(), np.cumsum(np.concatenate([*sizes.values()])).tolist()
    parts = iter([view[a:b] for a, b in zip([0, *ends], ends, strict=False)])
    return {name: list(islice(parts, len(each))) for name, each in sizes.items()}


def parted(batch: Batch | RawBatch) -> tuple[tuple[Any, ...], Block | None]:
    """A batch for another process: what is pickled, and the shared memory that holds the rest. See `joined`."""
    if isinstance(batch, RawBatch):
        if batch.shared is None:
            return (batch,), None
        sizes = {name: np.fromiter(map(len, parts), np.int64) for name, parts in batch.members.items()}
        return (sizes, batch.labels, batch.weights, batch.samples), batch.shared
    rest = (batch.labels.numpy(), batch.weights.numpy(), batch.samples.numpy())
    dense = batch.images.is_contiguous(memory_format=torch.channels_last)
    images = batch.images if dense else batch.images.contiguous()
    block = block_or_none(images.nbytes) if images.nbytes >= PIPED else None
    if block is None:
        return (images.numpy(), *rest), None
    block.tensor.as_strided(images.shape, images.stride()).copy_(images)
    return ((tuple(images.shape), images.stride()), *rest), block


def joined(block: Block | None, first: Any, *rest: Any) -> Batch | RawBatch:
    """The batch that `parted` took apart, over the same memory."""
    if isinstance(first, RawBatch):
        return first
    if isinstance(first, dict):
        assert block is not None
        return RawBatch(_split(block.tensor.numpy(), first), *rest, shared=block)
    labels, weights, samples = rest
    images = torch.from_numpy(first) if block is None else block.tensor.as_strided(*first)
    return _batch(images, labels, weights, samples)


def _reduce(batch: Batch | RawBatch) -> tuple[Any, ...]:
    """For a stock DataLoader's workers. torch would put images into /dev/shm, and hang where that is full."""
    if isinstance(batch, Batch) and any(part.device.type != "cpu" for part in batch):
        return Batch, (*batch,)
    parts, block = parted(batch)
    if isinstance(parts[0], RawBatch):
        return parts[0].__reduce__()  # type: ignore[return-value]  # it is the tuple that it is declared as
    return joined, (block, *parts)


for _kind in (Batch, RawBatch):
    reduction.register(_kind, _reduce)


class Chosen(NamedTuple):
    """B samples to be read."""

    samples: Ints  # [B]
    weights: Floats  # [B]


class Loaded(NamedTuple):
    """A batch, and how many bytes were read for it."""

    batch: Any  # Batch or RawBatch
    bytes_read: int


@dataclass(frozen=True)
class Images:
    """How images become tensors: the same for every batch.

    Attributes:
        channels: 3 (RGB) or 1 (grey).
        size: None for images as they are, all equally large; a number scales and cuts them to size x size.
        fit: with a size: "crop" cuts the centre out, "stretch" and "pad" keep the whole image.
    """

    channels: int = 3
    size: int | None = None
    fit: How = "crop"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}: images are read with 3 (RGB) or 1 (grey).")
        if self.size is not None and not 1 <= self.size <= IMAGE:
            raise ValueError(
                f"image size is {self.size}: expected 1 to {IMAGE} pixels, or None to keep images as they are."
            )


class Loader:
    """Reads batches of one dataset. Each thread that calls it gets a reader of its own.

    Args:
        index: of the dataset.
        media: how its shards are read.
        images: how images are decoded.
        side_by_side: the samples of a batch lie side by side, so near ranges are worth reading as one.
        share: raw batches are bound for another process.
        held: batches that are in memory at a time: those made ahead, the one being made, and the one in use.
        targets: what `batch` gives in place of class numbers; the index has its member.

    Raises:
        ShardChanged, DecodeError: by all methods, naming the shard or the sample.
    """

    def __init__(
        self,
        index: Index,
        media: Media,
        images: Images | None = None,
        *,
        side_by_side: bool = False,
        share: bool = False,
        held: int = AHEAD + 2,
        targets: Targets | Beside | None = None,
    ) -> None:
        self._index, self._media, self._side_by_side, self._share = index, media, side_by_side, share
        self._images, self._held, self._targets = images or Images(), held, targets
        self._readers: dict[int, Reader] = {}

    def batch(self, chosen: Chosen, soon: Chosen | None = None) -> Loaded:
        """Decoded images of B samples; `soon` will be asked for a few batches later.

        Raises:
            DecoderRefused: the dataset's images have a suffix without a decoder.
        """
        self._expect(soon)
        index, reader, samples = self._index, self._reader(), chosen.samples
        image, before = index.dataset.image, reader.bytes_read
        suffix, where = check_suffix(image, IMAGES), index.where(image, samples)
        found = reader.read(samples, where).views() if self._side_by_side else reader.each(samples, where)
        images = decode_images(
            found,
            suffix,
            channels=self._images.channels,
            size=self._images.size,
            fit=self._images.fit,
            limit=decoded_limit(self._held),
            name=lambda i: index.name(int(samples[i])),
        )
        labels = self._labels(reader, samples, found, (images.shape[2], images.shape[3]))
        return Loaded(_batch(images, labels, chosen.weights, samples), reader.bytes_read - before)

    def raw(self, chosen: Chosen, soon: Chosen | None = None) -> Loaded:
        """The members of B samples as bytes; `soon` will be asked for a few batches later."""
        self._expect(soon)
        index, reader, samples = self._index, self._reader(), chosen.samples
        labels, before = index.labels[samples], reader.bytes_read
        where = {name: index.where(name, samples) for name in index.members}
        sizes = {name: place.size for name, place in where.items()}
        total = sum(int(size.sum()) for size in sizes.values())
        shared = block_or_none(total) if self._share and total >= SHARED else None
        if shared is not None:
            memory = shared.tensor.numpy()
            members, filled = _split(memory, sizes), 0
            for name, place in where.items():
                reader.into(samples, place, memory[filled : filled + int(sizes[name].sum())])
                filled += int(sizes[name].sum())
        else:
            members = {name: reader.views(samples, place) for name, place in where.items()}
        batch = RawBatch(members, labels, chosen.weights, samples, shared)
        return Loaded(batch, reader.bytes_read - before)

    def close(self) -> None:
        """Give back what the readers hold; no thread may be reading."""
        while self._readers:
            self._readers.popitem()[1].close()

    def _labels(self, reader: Reader, samples: Ints, encoded: Sequence[Any], sides: tuple[int, int]) -> NDArray[Any]:
        index, targets = self._index, self._targets
        if targets is None:
            return index.labels[samples]
        if isinstance(targets, Beside):
            return targets.of(samples, encoded, sides, lambda i: index.name(int(samples[i])))
        found = reader.each(samples, index.where(targets.member, samples))
        return targets.decode(found, lambda i: index.name(int(samples[i])))

    def _expect(self, chosen: Chosen | None) -> None:
        if chosen is not None:
            for name in self._index.members:
                self._reader().expect(lambda name=name: self._index.where(name, chosen.samples))

    def _reader(self) -> Reader:
        thread = threading.get_ident()
        if thread not in self._readers:
            index = self._index
            self._readers[thread] = open_reader(
                index.dataset.shards, lambda sample: index.keys(np.asarray([sample]))[0], self._media
            )
        return self._readers[thread]


def load_batches(
    index: Index, chosen: Iterable[Chosen], images: Images | None = None, targets: Targets | Beside | None = None
) -> Generator[Loaded]:
    """Decoded batches of samples that lie side by side, in order: a pass over whole shards.

    Args:
        index: of the dataset.
        chosen: the batches' samples and weights; drawn as they are needed.
        images: how images are decoded.
        targets: what batches have in place of class numbers; the index has its member.

    Yields:
        The batches, and the bytes that each was read from.

    Raises:
        ShardChanged, DecodeError: naming the shard or the sample.
    """
    media = Media("ranges", options=index.store.root.options)
    loader = Loader(index, media, images, side_by_side=True, targets=targets)
    try:
        yield from in_background(loader.batch, chosen, ahead=AHEAD)
    finally:
        loader.close()


def in_background(work: Callable[[T], R], items: Iterable[T], *, ahead: int, threads: int = 1) -> Generator[R]:
    """`map(work, items)` in threads that keep `ahead` results ready. Errors come out where their result would."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tamis-batches")
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


def with_next(items: Iterable[T], ahead: int) -> Generator[tuple[T, T | None]]:
    """Each item with the one that comes `ahead` items later, or None."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > ahead:
            yield waiting.popleft(), item
    for item in waiting:
        yield item, None
