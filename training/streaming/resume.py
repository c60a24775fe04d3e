"""Where a reader of an epoch is, in numbers that another world size or another number of workers can go on from.

What: a `Position` in this process; its state as plain numbers; a rank's `Share` of an epoch, batch by batch, from a
position on. What a job saved is read by `tamis.training.streaming.states`.
Source: the batches of an epoch are numbered from where the epoch was entered (`begin`); worker w of W delivers batches
w, w + W, ...; the loader hands them out in turn.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tamis.training.streaming.shuffle import BLOCK

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Position:
    """A place in an epoch.

    Attributes:
        epoch: from 0.
        begin: the global position at which this pass entered the epoch.
        taken: samples that this worker of this rank has delivered since.
        worker, workers: which of how many.
    """

    epoch: int = 0
    begin: int = 0
    taken: int = 0
    worker: int = 0
    workers: int = 1

    def after(self, samples: int) -> "Position":
        """The position when so many more samples were delivered."""
        return replace(self, taken=self.taken + samples)

    def state(self, share: "Share", size: int, item: int | None = None) -> dict[str, int]:
        """Plain numbers, for one rank's share of an epoch of `size` samples; in a loader's worker also that worker's.

        Args:
            share: the rank's.
            size: samples of the epoch.
            item: samples of what the stream yields at a time, in a loader's worker; else None.
        """
        batch, own = share.batch_size, share.own(size, self.begin)
        mine = self.taken
        if self.workers > 1:
            due, begun = divmod(self.taken, batch)
            mine = (self.worker + self.workers * due) * batch
            if begun and mine + begun >= own:  # that was the epoch's last batch, which is shorter
                mine = own
        state = {"epoch": self.epoch, "samples_consumed": min(self.begin + min(mine, own) * share.world, size)}
        if item is not None:
            state |= {"begin": self.begin, "taken": self.taken, "worker": self.worker, "workers": self.workers}
            state |= {"batch_size": batch, "world": share.world, "item": item}
        return state


@dataclass(frozen=True)
class Share:
    """One rank's part of every epoch: position p belongs to rank (p - begin) mod world.

    Attributes:
        rank, world: which of how many.
        batch_size: samples a batch on each rank.
        drop_last: leave out what does not fill a batch on every rank.
    """

    rank: int
    world: int
    batch_size: int
    drop_last: bool = False

    def own(self, size: int, begin: int = 0) -> int:
        """How many samples each rank gets of an epoch of `size` from a position on; the same for all."""
        if self.drop_last:
            return (size - begin) // (self.batch_size * self.world) * self.batch_size
        return -(-(size - begin) // self.world)

    def blocks(self, size: int, at: Position) -> Iterator[list[Positions]]:
        """The positions of the batches that are left, computed in blocks of many batches.

        Args:
            size: samples of the epoch; positions from there on are padding.
            at: where the reader is, and which of the rank's workers it is.

        Yields:
            Lists of batches: int64 arrays of at most `batch_size` positions; the first batch may have been begun.
        """
        own, batch = self.own(size, at.begin), self.batch_size
        count, ends = max(1, BLOCK // batch), -(-own // batch)
        skip, first = at.taken % batch, at.worker + at.workers * (at.taken // batch)
        for a in range(first, ends, at.workers * count):
            numbers = np.arange(a, min(a + at.workers * count, ends), at.workers, dtype=np.int64)
            steps = (numbers[:, None] * batch + np.arange(min(batch, own))).ravel()
            positions = at.begin + self.rank + self.world * steps[steps < own]
            parts = [positions[b : b + batch] for b in range(0, len(positions), batch)]
            parts[0], skip = parts[0][skip:], 0
            if len(parts[0]) or len(parts) > 1:  # the epoch's last batch may have been delivered as a whole
                yield parts if len(parts[0]) else parts[1:]
