"""Stem features, computed once for all candidates.

What: `Stem` runs the frozen layers, in evaluation mode, from one branchpoint to another. `Features` holds what they
make of a source's samples at some branchpoints: `fill` computes all that is missing in one pass, in which a batch goes
through the stem segment by segment, so that the features at branchpoint b + 1 come from those at b and each segment
runs once; `batches` gives them for any rows.
How: memory-mapped files in the machine's cache folder, one for a branchpoint, float32 (the images, branchpoint 0, as
bytes), in the layout in which convolutions run fastest, so a batch is a copy of some rows. A file is named by what
decides its numbers, and shows whole or not at all.
Bounds: `fitting` says which branchpoints a limit of the disk leaves room for, the smallest first. Features that are not
kept are computed from the nearest ones below that are, down to the decoded images; without these, samples are decoded
again. Files of other builds go, the longest unused first, when there is no room. In memory are a few batches; the pages
of the files are the operating system's.
Exactness: the numbers are those of the base model in evaluation mode, up to what a library's kernels make of another
number of images in a batch (the last bits).
Cost: one forward pass of the stem over the samples; N x activations x 4 bytes of disk a branchpoint.

Legend: N samples of the source, B of a batch.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tamis.store.keys import key_of
from tamis.store.mapped import cache_folder
from tamis.store.roots.roots import reporting_full
from tamis.training.mainstream.base.splitting import Split
from tamis.training.mainstream.trainer.sources import Ints, Source, in_order
from tamis.training.models.registry import ImageClassifier
from tamis.training.streaming.batches import AHEAD, in_background

VERSION = 1  # of what is computed: raise it when the same question comes to have other numbers
IMAGES = 0  # the branchpoint before the first layer
_MEMORY = 64 << 20  # bytes of a batch at the widest branchpoint; inside of a block there are several times as many
_UNFINISHED = 24 * 3600.0  # seconds after which a file that is being written belongs to a killed process
_SUFFIX = ".npy"


class Stem:
    """The layers of a base model up to its branchpoints, frozen.

    Args:
        model: the base model; it is put in evaluation mode, and its weights are never changed here.
        split: of it.

    Attributes:
        shapes: of one sample at each branchpoint, that of the images first.
    """

    def __init__(self, model: ImageClassifier, split: Split) -> None:
        self._model, self._split, self._segments = model.eval(), split, dict[int, nn.Module]()
        self.shapes: list[tuple[int, ...]] = [tuple(one.shape) for one in split.branchpoints]

    @property
    def device(self) -> torch.device:
        return self._model.mean.device

    def bytes_of(self, branch: int) -> int:
        """Of one sample's features."""
        return int(np.prod(self.shapes[branch])) * (1 if branch == IMAGES else 4)

    def run(self, x: Tensor, at: int, to: int) -> Tensor:
        """Features at a branchpoint out of those at an earlier one.

        Args:
            x: [B, ...] at `at`: for 0 uint8 images.
            at, to: branchpoints, rising.
        """
        x = x.to(self.device, non_blocking=True)
        with torch.no_grad():
            for here in range(at, to):
                x = self._segment(here)(x)
        return x

    def _segment(self, here: int) -> nn.Module:
        if here not in self._segments:
            self._segments[here] = self._split.segment(here, here + 1).eval()
        return self._segments[here]


def fitting(sizes: Mapping[int, int], limit: float) -> list[int]:
    """The branchpoints whose features there is room for: the smallest first, of equal ones the later.

    Args:
        sizes: bytes of all features by branchpoint.
        limit: bytes.
    """
    kept, used = list[int](), 0
    for branch in sorted(sizes, key=lambda one: (sizes[one], -one)):
        if used + sizes[branch] <= limit:
            kept.append(branch)
            used += sizes[branch]
    return sorted(kept)


class Features:
    """The stem features of one source.

    Args:
        source: the samples.
        stem: of the base.
        base: the base's key.
        keep: branchpoints whose features are kept on disk.
        rows: samples of a forward pass, at most; fewer where their activations would take too much memory.
    """

    def __init__(self, source: Source, stem: Stem, base: str, keep: Sequence[int], *, rows: int = 256) -> None:
        self.source, self.stem, self._base, self.keep = source, stem, base, tuple(keep)
        widest = max(stem.bytes_of(branch) * (4 if branch == IMAGES else 1) for branch in range(len(stem.shapes)))
        self.rows = max(1, min(rows, _MEMORY // widest))

    def path(self, branch: int) -> Path:
        """The file of a branchpoint's features."""
        what = {"version": VERSION, "base": None if branch == IMAGES else self._base, "branch": branch}
        key = key_of("stem-features", {**self.source.what, **what, "shape": [*self.stem.shapes[branch]]})
        return folder_of(self.source) / f"{key}{_SUFFIX}"

    def bytes_of(self, branch: int) -> int:
        """Of the features of all samples at a branchpoint."""
        return len(self.source.samples_N) * self.stem.bytes_of(branch)

    def missing(self) -> list[int]:
        """Branchpoints that are to be kept and are not there."""
        return [branch for branch in self.keep if not self.path(branch).is_file()]

    def fill(self, progress: Callable[[int], None] | None = None) -> None:
        """Compute what is missing.

        Args:
            progress: called with the number of samples just done.

        Raises:
            StoreFull: the disk is.
            ShardChanged, DecodeError: naming the shard or the sample.
        """
        missing = self.missing()
        if not missing:
            return
        with ExitStack() as files, reporting_full(str(folder_of(self.source))):
            made = {branch: files.enter_context(self._made(branch)) for branch in missing}
            begin, array = self._nearest(min(missing))
            rows = in_order(len(self.source.samples_N), self.rows)
            for some, found in zip(rows, self._read(array, rows), strict=True):
                x, here = found, begin
                for branch in missing:
                    x, here = self.stem.run(x, here, branch), branch
                    made[branch][some] = _rows_of(x)
                if progress is not None:
                    progress(len(some))

    def batches(self, branch: int, rows: Iterable[Ints]) -> Generator[Tensor]:
        """The features of some rows at a branchpoint, on the stem's device: float32, or for 0 uint8 images.

        Args:
            branch: index of the branchpoint.
            rows: of each batch.
        """
        begin, array = self._nearest(branch)
        for x in self._read(array, rows):
            yield self.stem.run(x, begin, branch)

    def _nearest(self, branch: int) -> tuple[int, npt.NDArray[Any] | None]:
        """The last branchpoint up to one whose features are on disk, and these; none: the images, to be decoded."""
        for one in range(branch, -1, -1):
            with contextlib.suppress(FileNotFoundError):  # not kept, or removed for want of room
                array = np.load(self.path(one), mmap_mode="r", allow_pickle=False)
                os.utime(self.path(one))  # it is in use
                return one, array
        return IMAGES, None

    def _read(self, array: npt.NDArray[Any] | None, rows: Iterable[Ints]) -> Iterator[Tensor]:
        """Batches of what was kept, or of decoded images."""
        if array is not None:
            yield from in_background(lambda some: _tensor(array, some), rows, ahead=AHEAD)
            return
        with closing(self.source.batches(rows)) as decoded:
            for batch in decoded:
                yield batch.images

    @contextlib.contextmanager
    def _made(self, branch: int) -> Generator[npt.NDArray[Any]]:
        """An array to be filled, which is there under its name when it is left."""
        shape, path = self.stem.shapes[branch], self.path(branch)
        if len(shape) == 3:
            shape = (*shape[1:], shape[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            kind = np.uint8 if branch == IMAGES else np.float32
            array = np.lib.format.open_memmap(part, "w+", np.dtype(kind), (len(self.source.samples_N), *shape))
            yield array
            array.flush()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def folder_of(source: Source) -> Path:
    """Where this machine keeps the features of a store's samples."""
    return cache_folder(source.store.root) / "features"


def make_room(folder: Path, limit: float, keep: Iterable[Path]) -> None:
    """Remove files until others than those of `keep` have at most `limit` bytes, the longest unused first.

    Args:
        folder: of features.
        limit: bytes, for files other than those of `keep`.
        keep: files that stay, or are about to be written.
    """
    stay, now = set(keep), time.time()
    found = list[tuple[float, int, Path]]()
    for path in folder.glob(f"*{_SUFFIX}*") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # somebody else makes room
            stat = path.stat()
            if path.name.startswith("."):
                if now - stat.st_mtime > _UNFINISHED:
                    path.unlink(missing_ok=True)
            elif path not in stay:
                found.append((stat.st_mtime, stat.st_size, path))
    used = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if used <= limit:
            break
        path.unlink(missing_ok=True)
        used -= size


def _rows_of(x: Tensor) -> npt.NDArray[Any]:
    """[B, ...] as it is kept: of maps the channels last."""
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).cpu().numpy()


def _tensor(array: npt.NDArray[Any], rows: Ints) -> Tensor:
    """Some rows as a tensor of their own; of maps in the layout channels_last."""
    side_by_side = len(rows) > 0 and int(rows[-1]) - int(rows[0]) == len(rows) - 1 and bool((np.diff(rows) == 1).all())
    found = array[int(rows[0]) : int(rows[-1]) + 1] if side_by_side else array[rows]
    x = torch.from_numpy(np.array(found))
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x
