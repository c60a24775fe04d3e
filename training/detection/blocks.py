"""What is kept of the frames of a shard that a detector has looked at: files of blocks that passes only ever add to.

How: a pass adds what it found in a block as a file of its own, named by its content, and overwrites nothing, so that
passes over one block at once lose nothing of each other. Reading takes a block's files together; of a frame that two
passes looked at, the one whose file has the first name counts. Where a block has more than `MOST` files, they are
written as one, and then removed; a reader for whom a file vanishes lists them again. A pass marks the block that it
works on. The mark is advice: another pass leaves that block for last, and looks at it then if it is not done, whether
the mark is there or not, so that a mark left behind by a killed pass stops nobody.
Cost: a listing of a shard's files, then a file for each block and pass, at most `MOST` a block, 54 bytes a frame and
28 a box.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.store.boxes import starts
from tamis.store.roots.roots import Root
from tamis.training.signals.parts import pack_part, unpack_part

MOST = 8  # files of a block
_TRIES = 5  # of listing, where others write files as one meanwhile
Ints = npt.NDArray[np.int64]
Part = dict[str, npt.NDArray[Any]]
_EMPTY: dict[str, tuple[tuple[int, ...], str]] = {
    "at": ((0,), "int64"), "counts": ((0,), "int64"), "labels": ((0,), "int32"), "scores": ((0,), "float32"),
    "corners": ((0, 4), "float32"), "sizes": ((0, 2), "int32"), "ms": ((0,), "float32"), "errors": ((0,), "U1"),
}  # fmt: skip


class Blocks:
    """The blocks of one shard under one detector.

    Args:
        root: of the store.
        folder: where their files lie; it stands for the shard's content and the detector.
    """

    def __init__(self, root: Root, folder: str) -> None:
        self.folder, self._root = folder, root
        self._listed: list[str] | None = None

    def read(self, block: int) -> Part:
        """The frames of a block that were looked at, by their places in the shard; files that are damaged hold none."""
        return self._read(block)[1]

    def add(self, block: int, found: Part) -> None:
        """Keep frames; of those that another pass has added meanwhile, either may count from then on."""
        self._put(block, found)
        self._root.delete(self._mark(block))
        self._listed = None
        names, kept = self._read(block)
        if len(names) > MOST:
            whole = self._put(block, kept)
            for name in names:
                if name != whole:
                    self._root.delete(name)
            self._listed = None

    def take(self, block: int) -> bool:
        """Mark a block as being worked on; False where it is marked already."""
        return self._root.put_new(self._mark(block), b"")

    def _read(self, block: int) -> tuple[list[str], Part]:
        names, there = list[str](), list[bytes]()
        for _ in range(_TRIES):
            names = self._names(block)
            found = [self._root.get(name) for name in names]
            there = [data for data in found if data is not None]
            if len(there) == len(names):
                break
            self._listed = None  # written as one meanwhile
        parts = [part for data in there if (part := unpack_part(data)) is not None and part.keys() == _EMPTY.keys()]
        whole = joined([empty(), *parts])
        return names, some_of(whole, np.unique(whole["at"]))

    def _names(self, block: int) -> list[str]:
        if self._listed is None:
            self._listed = [name for name, _ in self._root.list(self.folder) if name.endswith(".npz")]
        return [name for name in self._listed if name.startswith(f"{self.folder}/{block:06d}-")]

    def _put(self, block: int, part: Part) -> str:
        data = pack_part(part)
        name = f"{self.folder}/{block:06d}-{hashlib.sha256(data).hexdigest()[:32]}.npz"
        self._root.put(name, data)
        return name

    def _mark(self, block: int) -> str:
        return f"{self.folder}/{block:06d}-taken"


def joined(parts: Iterable[Part]) -> Part:
    """Parts one behind the other."""
    every = list(parts)
    return {name: np.concatenate([part[name] for part in every]) for name in _EMPTY}


def some_of(part: Part, places: Ints) -> Part:
    """The frames of a part at these places, in their order; of a frame that is there twice, the first."""
    order = np.argsort(part["at"], kind="stable")
    frames = order[np.searchsorted(part["at"], places, sorter=order)] if len(places) else np.zeros(0, np.int64)
    offsets, counts = starts(part["counts"]), part["counts"][frames]
    boxes = np.repeat(offsets[frames] - starts(counts)[:-1], counts) + np.arange(counts.sum())
    by_frame = {name: part[name][frames] for name in ("at", "counts", "sizes", "ms", "errors")}
    return by_frame | {name: part[name][boxes] for name in ("labels", "scores", "corners")}


def empty() -> Part:
    """A part without frames."""
    return {name: np.zeros(shape, kind) for name, (shape, kind) in _EMPTY.items()}
