"""Reading byte ranges of shards: just the members that are wanted, no tar parsing.

What: a reader takes where members lie (shard, offset, size; from the index) and returns their bytes: `each` one by one,
`into` end to end in memory of the caller's, `read` with near ranges merged into one.
When: behind every stream and every scoring pass. A reader belongs to one thread.
How: `LocalReader` reads files with one `pread` a range: 1.3 µs for 2 kB that the operating system has in memory. Large
members that are in memory are not copied at all: `views` maps the files and hands out what is mapped, once the
operating system has said of the first, the middle and the last one of a batch that they are in memory, and that the
files are long enough. A descriptor is opened, and the shard checked against the index, once for as long as it stays
among the last used of the process (`tamis.training.streaming.files`). Where reads turn out to come from a disk, the
ranges of the batches to come are asked for ahead, all at once.
The reader of object stores is `tamis.training.streaming.remote.RemoteReader`. Schemes that no reader is entered for in
`open_reader` are refused: nothing is piped through a shell.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tamis.store.datasets import Locations, Shard
from tamis.store.errors import ShardChanged
from tamis.training.streaming.files import Files

# The most bytes between two ranges that `read` still reads as one. Between the images of two samples that follow each
# other lie padding, a label's header and block, and the next header: 1,536 to 2,047 bytes. Never a whole sample with
# an image and a label, so what was not chosen is not read.
GAP = 2_047
_LARGE = 8 << 10  # bytes a member from which mapping costs less than copying
_SLOW = 30e-6  # seconds a range: no memory is that slow, no disk that fast
_SLOW_FOR = 64  # batches after which it is looked at anew whether reads are slow

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Key = Callable[[int], str]


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

    def views(self) -> list[memoryview]:
        """Each member's bytes, without a copy."""
        view, ends = self.data.data, self.starts + self.sizes
        return [view[a:b] for a, b in zip(self.starts.tolist(), ends.tolist(), strict=True)]


class Reader(Protocol):
    """What a medium must offer.

    `where` has N entries, in any order, repeats allowed; `samples_N` says in error messages whose members they are.
    `bytes_read` counts what was read, gaps included.
    """

    @property
    def bytes_read(self) -> int: ...

    def each(self, samples_N: Ints, where: Locations) -> list[bytes]:
        """The bytes of one member of each sample."""
        ...

    def views(self, samples_N: Ints, where: Locations) -> Sequence[bytes | memoryview]:
        """The same, not copied where that is cheaper: good for as long as the shards do not change."""
        ...

    def into(self, samples_N: Ints, where: Locations, out: Bytes) -> None:
        """The same, end to end in `out`, which holds exactly as many bytes."""
        ...

    def read(self, samples_N: Ints, where: Locations) -> Ranges:
        """The same, with ranges that touch or nearly touch read as one: for samples that lie side by side."""
        ...

    def expect(self, where: Callable[[], Locations]) -> None:
        """Say what will be read soon; it is asked where that is only if it helps."""
        ...

    def close(self) -> None:
        """Give back descriptors or connections."""
        ...


class LocalReader:
    """Reads shards that are files on this machine.

    Args:
        shards: of the dataset, in its order.
        key: what a sample is called, for error messages.
        sparse: the reads will be scattered over the files and leave most of them out, so that the operating system
            should not read ahead of them.
        whole: have the operating system read a whole file when it is first touched.
        digests: hash a shard before it is first read, instead of trusting its size and time.
        path: where a shard's file is; by default where it was indexed.

    All methods raise ShardChanged where a shard is missing, was replaced, or ends before a member does.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        key: Key,
        *,
        sparse: bool = False,
        whole: bool = False,
        digests: bool = False,
        path: Callable[[Shard], str] | None = None,
    ) -> None:
        self._shards, self._key, self._digests, self._path = shards, key, digests, path
        self._advice = os.POSIX_FADV_RANDOM if sparse else os.POSIX_FADV_WILLNEED if whole else os.POSIX_FADV_NORMAL
        self._files = Files(lambda shard: self._open(shards[shard]))
        self._slow = 0
        self.bytes_read = 0

    def each(self, samples_N: Ints, where: Locations) -> list[bytes]:
        """The bytes of one member of each sample, as `bytes`."""
        shards, sizes = where.shard.tolist(), where.size.tolist()
        used = set(shards)
        if len(used) > self._files.most:
            return [b for p in _halves(len(shards)) for b in self.each(samples_N[p], _part(where, p))]
        files = self._files.take(used)
        try:
            started = perf_counter()  # opening and checking shards is not what reading costs
            found = list(map(os.pread, [files[shard] for shard in shards], sizes, where.offset.tolist()))
            seconds = perf_counter() - started
        finally:
            self._files.give(used)
        if list(map(len, found)) != sizes:
            raise cut_short(self._shards, self._key, samples_N, where, np.asarray(list(map(len, found))))
        self._count(sum(sizes), seconds / max(len(sizes), 1))
        return found

    def views(self, samples_N: Ints, where: Locations) -> Sequence[bytes | memoryview]:
        """The same, mapped from the files where members are large and in memory already."""
        count, used = len(where.size), set(where.shard.tolist())
        if not count or int(where.size.sum()) < count * _LARGE or len(used) > self._files.most:
            return self.each(samples_N, where)
        files = self._files.take(used)
        try:
            found = self._mapped(files, where)
        finally:
            self._files.give(used)
        return self.each(samples_N, where) if found is None else found  # the first names what was cut short

    def _mapped(self, files: dict[int, int], where: Locations) -> list[memoryview] | None:
        """Views of the files; None where reading is better."""
        shards, offsets = where.shard.tolist(), where.offset.tolist()
        ends = (where.offset + where.size).tolist()
        some = (0, len(ends) // 2, len(ends) - 1)
        if not all(_in_memory(files[shards[at]], ends[at] - 1) for at in some):
            return None
        maps = {shard: self._files.map(shard) for shard in files}
        # A page beyond a file's end would end the process when it is touched.
        there = {shard: os.fstat(descriptor).st_size for shard, descriptor in files.items()}
        if any(end > there[shard] for shard, end in zip(shards, ends, strict=True)):
            return None
        whole = {shard: view for shard, view in maps.items() if view is not None}
        if len(whole) < len(maps):
            return None
        self.bytes_read += int(where.size.sum())
        return [whole[shard][a:b] for shard, a, b in zip(shards, offsets, ends, strict=True)]

    def into(self, samples_N: Ints, where: Locations, out: Bytes) -> None:
        """The same, end to end in `out` (uint8, as long as the sizes' sum)."""
        view, started = out.data, perf_counter()
        ends = np.cumsum(where.size)
        places = zip(
            where.shard.tolist(), where.offset.tolist(), (ends - where.size).tolist(), ends.tolist(), strict=True
        )
        got = [self._fill(shard, view[a:b], offset) for shard, offset, a, b in places]
        if got != where.size.tolist():
            raise cut_short(self._shards, self._key, samples_N, where, np.asarray(got))
        self._count(len(view), (perf_counter() - started) / max(len(got), 1))

    def read(self, samples_N: Ints, where: Locations) -> Ranges:
        """The same, with ranges that touch or nearly touch read as one."""
        plan = merge(where)
        data = np.empty(int(plan.lengths.sum()), np.uint8)
        view, filled = data.data, 0
        for shard, offset, length in zip(
            plan.shards.tolist(), plan.offsets.tolist(), plan.lengths.tolist(), strict=True
        ):
            got = self._fill(shard, view[filled : filled + length], offset)
            if got < length:
                there = np.clip(offset + got - where.offset, 0, where.size)
                got_N = np.where(where.shard == shard, there, where.size)
                raise cut_short(self._shards, self._key, samples_N, where, got_N)
            filled += length
        self.bytes_read += filled
        return Ranges(data, plan.starts, np.asarray(where.size, np.int64))

    def expect(self, where: Callable[[], Locations]) -> None:
        """Have the operating system fetch what will be read soon, where reads have been slow."""
        if not self._slow:
            return
        soon = where()
        used = set(soon.shard.tolist())
        if len(used) > self._files.most:
            return
        files = self._files.take(used)
        try:
            places = zip(soon.shard.tolist(), soon.offset.tolist(), soon.size.tolist(), strict=True)
            for shard, offset, size in places:
                os.posix_fadvise(files[shard], offset, size, os.POSIX_FADV_WILLNEED)
        finally:
            self._files.give(used)

    def close(self) -> None:
        """Close every descriptor."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # the constructor may have failed; the process may be ending
            self.close()

    def _count(self, size: int, seconds: float) -> None:
        self.bytes_read += size
        self._slow = _SLOW_FOR if seconds > _SLOW else max(self._slow - 1, 0)

    def _fill(self, shard: int, view: memoryview, offset: int) -> int:
        """Read until the view is full or the file ends; the bytes read."""
        descriptor, got = self._files.take((shard,))[shard], 0
        try:
            while got < len(view):
                count = os.preadv(descriptor, [view[got:]], offset + got)  # a single call stops at 2 GiB
                if count == 0:
                    break
                got += count
        finally:
            self._files.give((shard,))
        return got

    def _open(self, shard: Shard) -> int:
        path = shard.uri
        if self._path is not None:
            path = self._path(shard)  # a copy, which was checked when it was made
        elif self._digests:
            shard.check_bytes()
        else:
            shard.check()
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # others' are closed for it
            raise ShardChanged(f"Shard {path} cannot be opened: {error.strerror}. Make it readable.") from error
        os.posix_fadvise(opened, 0, 0, self._advice)
        return opened


def cut_short(shards: Sequence[Shard], key: Key, samples_N: Ints, where: Locations, got_N: Ints) -> ShardChanged:
    """The error for a range of which fewer bytes than its size were there, naming the first such sample."""
    at = int(np.flatnonzero(got_N < where.size)[0])
    sample, end = int(samples_N[at]), int(where.offset[at] + got_N[at])
    return ShardChanged(
        f"Shard {shards[where.shard[at]].uri} ends at byte {end}, and sample {key(sample)} (number {sample}) reaches "
        f"to byte {where.offset[at] + where.size[at]}: it was cut short after it was indexed. Restore it."
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


def _halves(count: int) -> tuple[slice, slice]:
    return slice(0, count // 2), slice(count // 2, None)


def _part(where: Locations, part: slice) -> Locations:
    return Locations(where.shard[part], where.offset[part], where.size[part])


def _in_memory(descriptor: int, at: int) -> bool:
    """Whether a byte is in memory. No where there is none, and where the file system cannot tell, as tmpfs."""
    try:
        return os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except OSError:
        return False
