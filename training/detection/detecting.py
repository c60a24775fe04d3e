"""A detector's pass over chosen samples: asked for each frame once, ever.

What: a `Question` says which detector looks at which samples; `missing` which of them no earlier pass has looked at,
`compute` looks at those, `finish` makes a run of all, whose boxes show in the tables `boxes` and `detections`.
How: what a detector says of a frame is kept in parts (`tamis.training.detection.blocks`): files for each `BLOCK` of a
shard's samples, keyed by the shard's content and the detector, which name the frames that they hold. A later request,
of other or more samples of the same shards, in whichever dataset they are, reads the parts and asks the detector for
the rest alone; a killed pass goes on behind the last part; passes at the same time share the blocks. Frames are read
and decoded in a thread while the detector is at those before. A batch holds frames of one size only, nothing is padded,
so what is found in a frame depends on that frame alone.
Guarantee: with other batch sizes, and in any order, boxes and scores are the same but for the rounding of the device's
kernels (1e-4 in the tests, on float32); a box that is that close to a threshold of the detector's own may come or go.
Faults: where a batch fails its frames are tried one by one, and the frame that fails is kept as failed, with the error;
so is one that cannot be decoded. A detector that fails on all frames of a block or breaks the contract, a device
that is out of memory, and a shard that changed end the pass.
Cost: the detector's; beside it 30 bytes a box and 24 a frame. Memory for some batches of frames.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tamis.store import Store
from tamis.store.boxes import DETECT, Frames, one_line, starts
from tamis.store.datasets import Dataset, Shard
from tamis.store.keys import key_of
from tamis.store.runs import Run
from tamis.training.decoding.pixels import decoder_key
from tamis.training.detection.blocks import Blocks, Part, empty, joined, some_of
from tamis.training.detection.detector import Detector, Source, open_detector
from tamis.training.errors import DecodeError, ModelFailed, UnknownModelError
from tamis.training.signals.parts import pack_part, read_part

if TYPE_CHECKING:
    from torch import Tensor

    from tamis.training.streaming.batches import Loader

VERSION = 1  # of what is computed: raise it when the same question comes to have other boxes
BLOCK = 256  # samples of a shard that share a part: what a killed pass does again
_BROKEN = 8  # frames that fail one and all: it is the detector
LARGEST = 64  # frames of a batch, whatever is asked for
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """Which detector looks at which samples.

    Attributes:
        store: the store.
        dataset: the version whose samples are looked at.
        detector: from `find_detector`.
        samples: int64, ascending, each once; None for all.
    """

    store: Store
    dataset: Dataset
    detector: Source
    samples: Ints | None = None

    @property
    def what(self) -> dict[str, Any]:
        """What a frame's boxes depend on, beside the frame."""
        return {**self.detector.identity, "decoder": decoder_key((self.dataset.image, None)), "version": VERSION}

    def key(self, classes: Sequence[str]) -> str:
        """Of the run."""
        import hashlib

        chosen = None if self.samples is None else hashlib.sha256(self.samples.astype("<i8").tobytes()).hexdigest()
        asked = {"dataset": self.dataset.key, "samples": chosen, "classes": list(classes), **self.what}
        return key_of(DETECT, asked)

    def kept(self, shard: Shard) -> Blocks:
        """What passes have kept of a shard."""
        asked = {"shard": shard.content, "image": self.dataset.image, "of": BLOCK, **self.what}
        key = key_of("detect-part", asked)
        return Blocks(self.store.root, f"parts/{key[:2]}/{key}")

    def chosen(self, shard: Shard) -> Ints:
        """[n] the places in a shard of the samples that are asked for."""
        if self.samples is None:
            return np.arange(shard.count)
        first = np.searchsorted(self.samples, [shard.first_sample, shard.first_sample + shard.count])
        return self.samples[first[0] : first[1]] - shard.first_sample

    def missing(self, number: int) -> Ints:
        """[n] the samples of one shard that are asked for and that no pass has looked at."""
        shard = self.dataset.shards[number]
        kept = self.kept(shard)
        left = [np.setdiff1d(some, kept.read(block)["at"]) for block, some in self.blocks(shard)]
        return np.concatenate([*left, np.zeros(0, np.int64)]) + shard.first_sample

    def blocks(self, shard: Shard) -> Iterator[tuple[int, Ints]]:
        """The blocks of a shard that are asked for, and the places in them."""
        places = self.chosen(shard)
        for block in np.unique(places // BLOCK).tolist():
            yield block, places[places // BLOCK == block]


@dataclass
class Cost:
    """What a pass came to.

    Attributes:
        asked: frames that were asked for.
        cached: of them, looked at by earlier passes.
        ms: a frame, the detector alone; None where it was not needed.
    """

    asked: int
    cached: int
    ms: float | None = None


def compute(
    asked: Question,
    shards: Sequence[int],
    *,
    device: str = "auto",
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
    detector: Detector | None = None,
) -> float:
    """Look at the samples of some shards that nobody has looked at, and keep what was found.

    Args:
        asked: which samples, and by which detector.
        shards: numbers of shards.
        device: "auto", "cpu", "cuda", ...
        batch_size: frames that the detector is given at once, `LARGEST` at most.
        progress: called with the number of frames just done.
        detector: the one that `asked` names, where it is open already.

    Returns:
        Seconds that the detector took.

    Raises:
        UnknownModelError, ModelFailed: the detector cannot be built.
        ModelFailed: it failed on each of `_BROKEN` frames and more: it is broken, not they.
        ShardChanged: naming the shard.
    """
    left = [(number, asked.missing(number)) for number in shards]
    left = [(number, samples) for number, samples in left if len(samples)]
    if not left:
        return 0.0
    opened, seconds = detector or open_detector(asked.store, asked.detector, device), 0.0
    size = max(1, min(batch_size, LARGEST))
    for number, samples, found in _looked(asked, opened, left, size, device):
        _check_some(found)
        shard = asked.dataset.shards[number]
        found["at"] = samples - shard.first_sample
        asked.kept(shard).add(int(found["at"][0] // BLOCK), found)
        seconds += float(np.nansum(found["ms"])) / 1e3
        if progress is not None:
            progress(len(samples))
    return seconds


def classes_of(asked: Question, device: str = "auto") -> tuple[str, ...]:
    """The names of the detector's classes; builds it where none were given, once."""
    if asked.detector.classes:
        return asked.detector.classes
    key = key_of("detect-classes", asked.what)
    name = f"parts/{key[:2]}/{key}.npz"
    kept = read_part(asked.store, name)
    if kept is None or "classes" not in kept:
        made = open_detector(asked.store, asked.detector, device).classes
        kept = {"classes": np.asarray(made, np.str_)}
        asked.store.root.put(name, pack_part(kept))
    return tuple(kept["classes"].tolist())


def finish(
    asked: Question, classes: Sequence[str], cost: Cost, *, selection: str | None = None, device: str = "auto"
) -> Run:
    """Make the run of frames that were all looked at.

    Args:
        asked: which samples, and by which detector.
        classes: names by number.
        cost: kept with the run.
        selection: key of the selection that the samples are of.
        device: for frames whose part was removed or damaged since.
    """
    runs, key, seconds = asked.store.runs, asked.key(classes), 0.0
    there = runs.find(key)
    if there is not None:
        return there

    def batches() -> Iterator[Frames]:
        nonlocal seconds
        for number, shard in enumerate(asked.dataset.shards):
            if len(asked.missing(number)):
                compute(asked, [number], device=device)
            kept = asked.kept(shard)
            for block, places in asked.blocks(shard):
                part = some_of(kept.read(block), places)
                seconds += float(np.nansum(part["ms"])) / 1e3
                yield _frames(part, shard)

    config: dict[str, Any] = {**asked.what, "model_run": asked.detector.model_run, "classes": list(classes)}
    config["model"] = asked.detector.identity["model"]
    runs.begin(
        kind=DETECT, key=key, dataset=asked.dataset.ref, model=asked.detector.name, config=config, selection=selection
    )
    tally = runs.put_boxes(key, batches())
    metrics = {"samples": tally.frames, **asdict(tally), "cached": cost.cached, "ms": cost.ms}
    return runs.finish(key, metrics=metrics, seconds={"total": seconds})


def _looked(
    asked: Question, detector: Detector, left: Sequence[tuple[int, Ints]], size: int, device: str
) -> Generator[tuple[int, Ints, Part]]:
    """Blocks of frames as they are done: their shard, samples, and what was found."""
    from tamis.training.devices import pick_device
    from tamis.training.streaming.batches import AHEAD, Loader, in_background
    from tamis.training.streaming.lookup import Index
    from tamis.training.streaming.readers import Media

    place = pick_device(device)
    index = Index.open(asked.store, asked.dataset)
    loader = Loader(index, Media("ranges", options=asked.store.root.options), side_by_side=True)
    reading, at_work = _Reading(loader, asked.dataset.image), deque[tuple[int, Ints]]()

    def groups() -> Iterator[Ints]:
        for number, some in _turns(asked, left):
            at_work.append((number, some))
            yield from (some[a : a + size] for a in range(0, len(some), size))

    try:
        with closing(in_background(reading.frames, groups(), ahead=AHEAD)) as loaded:
            for first in loaded:
                number, some = at_work.popleft()
                found = [_found(detector, first, place)]
                found += [_found(detector, next(loaded), place) for _ in range(size, len(some), size)]
                yield number, some, joined(found)
    finally:
        loader.close()


def _check_some(found: Part) -> None:
    """Refuse a block of frames that failed one and all."""
    errors = found["errors"].tolist()
    if len(errors) >= _BROKEN and all(errors):
        raise ModelFailed(
            f"The detector failed on all of {len(errors)} frames, first with: {errors[0]}. Nothing of them was kept: "
            "correct it, and run the command again."
        )


def _turns(asked: Question, left: Sequence[tuple[int, Ints]]) -> Iterator[tuple[int, Ints]]:
    """Blocks of frames to look at, drawn as they are needed; those that another pass is at come last, if at all."""
    later = list[tuple[int, Ints]]()
    for number, samples in left:
        shard = asked.dataset.shards[number]
        blocks = (samples - shard.first_sample) // BLOCK
        for block in np.unique(blocks).tolist():
            turn = number, samples[blocks == block]
            if asked.kept(shard).take(block):
                yield from _still_left(asked, *turn)
            else:
                later.append(turn)
    for turn in later:
        yield from _still_left(asked, *turn)


def _still_left(asked: Question, number: int, samples: Ints) -> Iterator[tuple[int, Ints]]:
    shard = asked.dataset.shards[number]
    places = samples - shard.first_sample
    left = np.setdiff1d(places, asked.kept(shard).read(int(places[0] // BLOCK))["at"])
    if len(left):
        yield number, left + shard.first_sample


class _Reading:
    """Reads frames: as a batch while all have one size, one by one from the first that is otherwise."""

    def __init__(self, loader: "Loader", image: str) -> None:
        self._loader, self._image, self._alike = loader, image, True

    def frames(self, samples: Ints) -> "Tensor | list[Tensor | str]":
        """uint8 [3, H, W] of each sample, or what is wrong with it; as one tensor where they were read as a batch."""
        from tamis.training.streaming.batches import Chosen

        if self._alike:
            try:
                return self._loader.batch(Chosen(samples, np.ones(len(samples), np.float32))).batch.images
            except DecodeError:
                self._alike = False
        return [self._one(sample) for sample in np.split(samples, len(samples))]

    def _one(self, sample: Ints) -> "Tensor | str":
        from tamis.training.streaming.batches import Chosen

        try:
            return self._loader.batch(Chosen(sample, np.ones(1, np.float32))).batch.images[0]
        except DecodeError as error:
            return f"DecodeError: {error}"


def _found(detector: Detector, frames: "Tensor | Sequence[Tensor | str]", device: Any) -> Part:
    """What a detector finds in some frames, those of one size at a time."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    each: list[Part | str] = [frame if isinstance(frame, str) else "" for frame in frames]
    ms = np.full(len(frames), np.nan, np.float32)
    for i, frame in enumerate(frames):
        if not isinstance(frame, str):
            sizes.setdefault(tuple(frame.shape), []).append(i)
    for group in sizes.values():
        started = perf_counter()
        alike = [frames[i] for i in group] if isinstance(frames, list) else frames  # a batch needs no copy
        for i, one in zip(group, _of_alike(detector, alike, device), strict=True):
            each[i] = one
        ms[group] = (perf_counter() - started) * 1e3 / len(group)
    wh = [(0, 0) if isinstance(frame, str) else (frame.shape[2], frame.shape[1]) for frame in frames]
    return _part(each, np.asarray(wh, np.int32).reshape(-1, 2), ms)


def _of_alike(detector: Detector, frames: Any, device: Any) -> "list[Part | str]":
    """For frames of one size, in one batch; where that fails, in batches of one."""
    import torch

    try:
        with torch.inference_mode():
            given = frames if isinstance(frames, torch.Tensor) else torch.stack(list(frames))
            images = given.to(device, non_blocking=True)
            found = detector(images)
            return [{name: value.cpu().numpy() for name, value in one.items()} for one in found]
    except (torch.OutOfMemoryError, UnknownModelError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a detector of one's own raises is kept with its frame
        if len(frames) == 1:
            return [f"{type(error).__name__}: {error}"]
        return [one for frame in frames for one in _of_alike(detector, [frame], device)]


def _part(each: Sequence["Part | str"], sizes: npt.NDArray[np.int32], ms: npt.NDArray[np.float32]) -> Part:
    """Frames as arrays, without the places that they have in a shard."""
    good = [one for one in each if not isinstance(one, str)]
    part = empty()
    if good:
        part["labels"] = np.concatenate([one["labels"] for one in good]).astype(np.int32)
        part["scores"] = np.concatenate([one["scores"] for one in good]).astype(np.float32)
        part["corners"] = np.concatenate([one["boxes"] for one in good]).astype(np.float32).reshape(-1, 4)
    part["counts"] = np.asarray([0 if isinstance(one, str) else len(one["scores"]) for one in each], np.int64)
    part["errors"] = np.asarray([one_line(one) or "failed" if isinstance(one, str) else "" for one in each], np.str_)
    part["sizes"], part["ms"] = sizes, ms
    return part


def _frames(part: Part, shard: Shard) -> Frames:
    errors = [error or None for error in part["errors"].tolist()]
    return Frames(
        part["at"] + shard.first_sample, starts(part["counts"]), part["labels"], part["scores"], part["corners"],
        part["sizes"], errors, part["ms"],
    )  # fmt: skip
