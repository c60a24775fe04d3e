"""Open shards, counted for the process: the readers of all its threads and streams share one limit.

What: `Files` are one reader's open shards. What is not in use is closed, the longest unused first, when others need its
place, and opened again when it is read again.
How: at most half of the descriptors that the process may have (`ulimit -n`), and fewer where the rest of the program
leaves fewer. A reader holds what it reads from only while it reads: others' descriptors are never closed in that time.
Maps of files cost a descriptor too, and live as long as what was read from them; where there are many, reading copies.
"""

import errno
import mmap
import os
import resource
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tamis.store.errors import ShardChanged

SHARE = 0.5  # of the descriptors that the process may have
_FULL = (errno.EMFILE, errno.ENFILE)


@dataclass
class _Open:
    descriptor: int
    users: int = 0
    mapped: memoryview | None = None


class _Process:
    """Everything that is open in this process, the longest unused first."""

    def __init__(self) -> None:
        # Reentrant, because a reader may be collected as garbage in the midst of this.
        self.lock = threading.RLock()
        self.open: OrderedDict[tuple[int, int], _Open] = OrderedDict()
        self.owners: weakref.WeakSet[Files] = weakref.WeakSet()
        self.maps = 0

    def forked(self) -> None:
        """In a forked process: the threads that were reading are not there."""
        self.lock = threading.RLock()
        for one in self.open.values():
            one.users = 0

    @property
    def limit(self) -> int:
        return max(1, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SHARE))

    def shrink(self, most: int) -> int:
        """Close what is unused until at most so many are open; how many were closed."""
        closed = 0
        with self.lock:
            for key in list(self.open) if len(self.open) > most else ():
                if len(self.open) <= most:
                    break
                if (one := self.open.get(key)) is not None and not one.users:
                    self.close(key)
                    closed += 1
        return closed

    def close(self, key: tuple[int, int]) -> None:
        with self.lock:
            found = self.open.pop(key, None)
            if found is not None:
                os.close(found.descriptor)


_PROCESS = _Process()
os.register_at_fork(after_in_child=_PROCESS.forked)


class Files:
    """The open shards of one reader.

    Args:
        opener: opens a shard, by number, and returns its descriptor.
    """

    def __init__(self, opener: Callable[[int], int]) -> None:
        self._opener = opener
        self._mine: set[int] = set()
        _PROCESS.owners.add(self)

    @property
    def most(self) -> int:
        """How many shards may be in use at a time: this reader's part of the process's limit."""
        return max(1, _PROCESS.limit // max(1, len(_PROCESS.owners)))

    def take(self, shards: Collection[int]) -> dict[int, int]:
        """The descriptors of some shards, open until `give`.

        Raises:
            ShardChanged: a shard is missing or was replaced, or no descriptor is to be had.
        """
        found: dict[int, int] = {}
        try:
            for shard in shards:
                found[shard] = self._take(shard)
        except BaseException:
            self.give(found)
            raise
        return found

    def give(self, shards: Collection[int]) -> None:
        """No longer use some shards; they stay open while there is room."""
        with _PROCESS.lock:
            for shard in shards:
                _PROCESS.open[id(self), shard].users -= 1

    def map(self, shard: int) -> memoryview | None:
        """A shard in use, mapped; None where too many files are mapped already."""
        one = _PROCESS.open[id(self), shard]
        if one.mapped is None and _PROCESS.maps < _PROCESS.limit // 2:
            try:
                made = mmap.mmap(one.descriptor, 0, prot=mmap.PROT_READ)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                return None
            with _PROCESS.lock:
                _PROCESS.maps += 1
            weakref.finalize(made, _unmapped)
            one.mapped = memoryview(made)
        return one.mapped

    def close(self) -> None:
        """Close every descriptor."""
        while self._mine:
            _PROCESS.close((id(self), self._mine.pop()))

    def _take(self, shard: int) -> int:
        key = (id(self), shard)
        with _PROCESS.lock:
            found = _PROCESS.open.get(key)
            if found is not None:
                found.users += 1
                _PROCESS.open.move_to_end(key)
                return found.descriptor
        _PROCESS.shrink(_PROCESS.limit - 1)
        opened = self._opened(shard)
        with _PROCESS.lock:
            _PROCESS.open[key] = _Open(opened, 1)
            self._mine.add(shard)
        return opened

    def _opened(self, shard: int) -> int:
        while True:
            try:
                return self._opener(shard)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if not _PROCESS.shrink(len(_PROCESS.open) // 2):
                    raise ShardChanged(
                        f"Shard {shard} of the dataset cannot be opened: this process has too many open files "
                        f"({resource.getrlimit(resource.RLIMIT_NOFILE)[0]} are allowed). Raise the limit (ulimit -n), "
                        "or close files."
                    ) from error


def _unmapped() -> None:
    with _PROCESS.lock:
        _PROCESS.maps -= 1
