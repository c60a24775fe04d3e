"""Reading byte ranges of shards: just the members that are wanted, no tar parsing.

What: `LocalReader.read` takes where members lie (shard, offset, size; from the index) and returns their bytes in one
array. Ranges that touch or nearly touch are read as one.
When: behind every stream and every scoring pass. A reader belongs to one thread.
Cost: one `preadv` a merged range, straight into the array; a descriptor is opened, and the shard checked against the
index, once for as long as it stays among the `OPEN_FILES` most recently used.
An object-store reader is another class with the same two methods (`Reader`), entered in `READERS` by its URL scheme.
Schemes that are not there are refused: nothing is piped through a shell.
"""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tamis.store.datasets import Locations, Shard
from tamis.store.errors import ShardChanged
from tamis.training.errors import SchemeRefused

OPEN_FILES = 64
# The most bytes between two ranges that are still read as one, b. Between the images of two samples that follow each
# other lie padding, a label's header and block, and the next header: 1,536 to 2,047 bytes. Never a whole sample with
# an image and a label, so what was not chosen is not read.
GAP = 2_047

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Ranges:
    """The bytes of N members.

    Attributes:
        data: uint8 [bytes read].
        starts: int64 [N], where member i begins in `data`.
        sizes: int64 [N], its bytes.
    """

    data: Bytes
    starts: Ints
    sizes: Ints

    def views(self) -> list[Bytes]:
        """Each member's bytes, without a copy."""
        ends = self.starts + self.sizes
        return [self.data[a:b] for a, b in zip(self.starts.tolist(), ends.tolist(), strict=True)]


class Reader(Protocol):
    """What a medium must offer."""

    def read(self, samples_N: Ints, where: Locations) -> Ranges:
        """The bytes of one member of each sample; `where` has N entries, `samples_N` serves error messages."""
        ...

    def close(self) -> None:
        """Give back descriptors or connections."""
        ...


class LocalReader:
    """Reads shards that are files on this machine.

    Args:
        shards: of the data set, in its order.
        key: what a sample is called, for error messages.
        open_files: how many stay open.
    """

    def __init__(self, shards: Sequence[Shard], key: Callable[[int], str], *, open_files: int = OPEN_FILES) -> None:
        self._shards, self._key, self._open_files = shards, key, open_files
        self._descriptors: OrderedDict[int, int] = OrderedDict()

    def read(self, samples_N: Ints, where: Locations) -> Ranges:
        """The bytes of one member of each sample.

        Args:
            samples_N: int64 [N], which samples these are, for error messages.
            where: where their members lie, N entries, in any order, repeats allowed.

        Raises:
            ShardChanged: a shard is missing, was replaced, or ends before a member does.
        """
        plan = merge(where)
        data = np.empty(int(plan.lengths.sum()), np.uint8)
        view, filled = data.data, 0
        for shard, offset, length in zip(
            plan.shards.tolist(), plan.offsets.tolist(), plan.lengths.tolist(), strict=True
        ):
            got = _fill(self._descriptor(shard), view[filled : filled + length], offset)
            if got < length:
                raise self._short(samples_N, where, shard, offset + got)
            filled += length
        return Ranges(data, plan.starts, np.asarray(where.size, np.int64))

    def close(self) -> None:
        """Close every descriptor."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # the constructor may have failed; the process may be ending
            self.close()

    def _descriptor(self, shard: int) -> int:
        found = self._descriptors.get(shard)
        if found is not None:
            self._descriptors.move_to_end(shard)
            return found
        if len(self._descriptors) >= self._open_files:
            os.close(self._descriptors.popitem(last=False)[1])
        self._descriptors[shard] = _open_checked(self._shards[shard])
        return self._descriptors[shard]

    def _short(self, samples_N: Ints, where: Locations, shard: int, end: int) -> ShardChanged:
        cut = (where.shard == shard) & (where.offset + where.size > end)
        sample, needed = int(samples_N[cut][0]), int((where.offset + where.size)[cut][0])
        return ShardChanged(
            f"Shard {self._shards[shard].uri} ends at byte {end}, and sample {self._key(sample)} "
            f"(number {sample}) reaches to byte {needed}: it was cut short after it was indexed. Restore it."
        )


@dataclass(frozen=True)
class Plan:
    """R ranges to read, and where each of N members begins in what they bring, laid end to end."""

    shards: Ints  # [R]
    offsets: Ints  # [R]
    lengths: Ints  # [R]
    starts: Ints  # [N]


def merge(where: Locations, gap: int = GAP) -> Plan:
    """Put ranges in order of place and make one of those that overlap or lie at most `gap` bytes apart."""
    if not len(where.offset):
        nothing = np.zeros(0, np.int64)
        return Plan(nothing, nothing, nothing, nothing)
    # One number for (shard, offset); shards of 2^44 bytes (17 TB) and 2^19 shards fit.
    place = (where.shard.astype(np.int64) << 44) + where.offset
    order = np.argsort(place, kind="stable")
    place = place[order]
    reach = np.maximum.accumulate(place + where.size[order])
    first = np.flatnonzero(np.r_[True, place[1:] - reach[:-1] > gap])
    last = np.r_[first[1:], len(place)] - 1
    lengths = reach[last] - place[first]
    before = np.cumsum(lengths) - lengths
    starts = np.empty(len(place), np.int64)
    starts[order] = place + np.repeat(before - place[first], last - first + 1)
    return Plan(place[first] >> 44, place[first] & (2**44 - 1), lengths, starts)


def _open_checked(shard: Shard) -> int:
    shard.check()
    try:
        return os.open(shard.uri, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ShardChanged(f"Shard {shard.uri} cannot be opened: {error.strerror}. Make it readable.") from error


def _fill(descriptor: int, view: memoryview, offset: int) -> int:
    """Read until the view is full or the file ends; the bytes read."""
    got = 0
    while got < len(view):
        count = os.preadv(descriptor, [view[got:]], offset + got)  # a single call stops at 2 GiB
        if count == 0:
            break
        got += count
    return got


# By URL scheme; a plain absolute path has none.
READERS: dict[str, Callable[[Sequence[Shard], Callable[[int], str]], Reader]] = {"": LocalReader}


def open_reader(shards: Sequence[Shard], key: Callable[[int], str]) -> Reader:
    """The reader for where a data set's shards lie.

    Args:
        shards: of the data set, in its order, all on one medium.
        key: what a sample is called, for error messages.

    Raises:
        SchemeRefused: a shard's address has a scheme that no reader here opens.
    """
    schemes = {_scheme(shard.uri): shard.uri for shard in shards}
    refused = next((uri for scheme, uri in schemes.items() if scheme not in READERS), None)
    if refused is not None:
        raise SchemeRefused(
            f"Shard {refused!r} is not opened: shards are absolute paths on this machine, and no other kind of address "
            "is read. Add the data set again from its files."
        )
    if len(schemes) > 1:
        raise SchemeRefused(f"The shards lie on several media ({', '.join(schemes.values())}): one reader reads one.")
    return READERS[next(iter(schemes), "")](shards, key)


def _scheme(uri: str) -> str:
    """The scheme of an address; an absolute path has none, whatever colons it holds."""
    return "" if uri.startswith("/") else uri.partition(":")[0] or "?"
