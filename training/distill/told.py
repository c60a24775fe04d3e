"""What a teacher says of every sample, computed once and read beside the samples.

What: `Told` keeps a teacher's answers as float16, [N, E] of a dataset: the class logits, or of SSD the regression
outputs and logits of every prior, E = P (4 + K). `beside` has a batch carry them behind its targets, `parted` takes
them apart again. Once they are there no training run asks the teacher again, whatever its epochs or its loss.
How: images as they are decoded for the student. Answers lie in the store, a file for each block of a shard's samples,
keyed by the shard's content, the teacher's digest and how images are decoded: a killed pass goes on behind the last
block, another dataset of the same shards asks for the rest alone. A flat copy in the cache is mapped into memory.
Cost: one forward pass over the dataset, all of it, though a selection may need a part. 2 E bytes a sample on disk,
twice; SSDLite for 320 pixels and one class 39 kB, SSD300 on COCO 1.5 MB, which is said before it is computed. Memory
for one block.

Legend: N samples, E numbers of an answer, B samples of a batch, M boxes of a sample at most, P priors, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.ssd import SSD

from tamis.store import Store, mapped
from tamis.store.datasets import Dataset
from tamis.store.keys import key_of
from tamis.training.decoding.pixels import decoder_key
from tamis.training.errors import TaskError
from tamis.training.models.detectors.ssd import CORNERS
from tamis.training.models.registry import ImageClassifier
from tamis.training.signals.parts import pack_part, read_part
from tamis.training.streaming.batches import Beside, Chosen, Images, Targets, load_batches
from tamis.training.streaming.lookup import Index
from tamis.training.tasks.contract import Task

if TYPE_CHECKING:
    from tamis.store.datasets import Shard

VERSION = 1  # of what is computed: raise it when the same question comes to have other answers
BLOCK, BLOCK_OF_PRIORS = 4_096, 64  # samples of a file
_ROW = 5  # numbers of a box among targets
_SAID_FROM = 100 << 20  # bytes on disk that are worth a line
Halves = NDArray[np.float16]


class Teacher(NamedTuple):
    """Who answers, and to what.

    Attributes:
        model: in evaluation mode.
        digest: of its blob.
        task: that it learnt.
        images: how images are decoded for the student.
        device: where to compute.
    """

    model: ImageClassifier
    digest: str
    task: Task
    images: Images
    device: torch.device


class Told:
    """A teacher's answers.

    Args:
        store: the store.
        teacher: who answers.
        notify: called with a sentence when something is worth knowing.

    Attributes:
        asked: samples that the teacher was asked for here.
        bytes: of the answers that are read, on disk.
        width: E, once answers were asked for.

    Raises:
        TaskError: the teacher is a detector without priors.
    """

    def __init__(self, store: Store, teacher: Teacher, notify: Callable[[str], None]) -> None:
        if teacher.task.in_image and not isinstance(teacher.model.network, SSD):
            raise TaskError("Distillation compares priors, which SSD alone has: give ssd or ssdlite as both models.")
        self._store, self._teacher, self._notify = store, teacher, notify
        self._block = BLOCK_OF_PRIORS if teacher.task.in_image else BLOCK
        self.asked, self.bytes, self.width = 0, 0, 0

    def of(self, dataset: Dataset) -> Halves:
        """The answers of a dataset's samples, [N, E], mapped; computed where they are missing.

        Raises:
            TaskError: an answer is not finite.
            ShardChanged, DecodeError: naming the shard or the sample.
        """
        blocks = [(shard, first) for shard in dataset.shards for first in range(0, shard.count, self._block)]
        width = self._answers(dataset, *blocks[0]).shape[1]
        self.width, shape = width, (dataset.samples, width)
        size = 2 * dataset.samples * width
        missing = sum(not self._store.root.exists(self._part(dataset, *block)) for block in blocks)
        if missing and size >= _SAID_FROM:
            self._notify(
                f"The teacher's answers on {dataset.ref} are {width:,} numbers a sample, {size / 2**30:.1f} GiB in the "
                f"store and again in the cache; {missing} of {len(blocks)} blocks are to be computed."
            )

        def fill(answers_NE: NDArray[Any]) -> None:
            for shard, first in blocks:
                found = self._answers(dataset, shard, first)
                start = shard.first_sample + first
                answers_NE[start : start + len(found)] = found

        self.bytes += size
        what = {"kind": "told", "dataset": dataset.key, **self._what(dataset)}
        return mapped.array(self._store.root, what, shape, np.float16, fill)

    def beside(self, dataset: Dataset, own: Targets | Beside | None) -> Beside:
        """Targets of a dataset with the answers behind them: float32 [B, T + E], T numbers of targets.

        Args:
            dataset: that is read.
            own: the task's targets.
        """
        assert not isinstance(own, Targets)  # of regression, which has no teacher
        labels_N = Index.open(self._store, dataset).labels if own is None else None
        return Beside(partial(_joined, own, labels_N, self.of(dataset)))

    def _what(self, dataset: Dataset) -> dict[str, Any]:
        teacher, images = self._teacher, self._teacher.images
        return {
            "model": teacher.digest, "image": dataset.image, "channels": images.channels, "size": images.size,
            "version": VERSION, **decoder_key((dataset.image, images.size)),
        }  # fmt: skip

    def _part(self, dataset: Dataset, shard: "Shard", first: int) -> str:
        key = key_of("told-part", {"shard": shard.content, "first": first, **self._what(dataset)})
        return f"parts/{key[:2]}/{key}.npz"

    def _answers(self, dataset: Dataset, shard: "Shard", first: int) -> Halves:
        """Of a block, [n, E]."""
        name = self._part(dataset, shard, first)
        part = read_part(self._store, name)
        if part is None:
            samples = np.arange(first, min(first + self._block, shard.count)) + shard.first_sample
            part = {"told": np.concatenate(list(self._ask(dataset, samples)))}
            self._store.root.put(name, pack_part(part))
            self.asked += len(samples)
        return part["told"]

    def _ask(self, dataset: Dataset, samples: NDArray[np.int64]) -> Iterator[Halves]:
        """A forward pass over some samples that lie side by side."""
        teacher, size = self._teacher, self._teacher.task.judged
        model = teacher.model.to(teacher.device).eval()
        parts = (samples[a : a + size] for a in range(0, len(samples), size))
        chosen = (Chosen(part, np.ones(len(part), np.float32)) for part in parts)
        with closing(load_batches(Index.open(self._store, dataset), chosen, teacher.images)) as loaded:
            for batch, _ in loaded:
                with torch.inference_mode():
                    labels_B = batch.labels.to(teacher.device)
                    said = teacher.task.forward(model, batch.images.to(teacher.device), labels_B).float()
                    said = said[:, :, CORNERS:] if said.ndim == 3 else said
                    halves_BE = said.flatten(1).cpu().half()
                if not bool(halves_BE.isfinite().all()):
                    raise TaskError(
                        f"The teacher's answers on {dataset.ref} are not finite as float16 (65,504 at most): give "
                        "another teacher, or distil without keeping its answers."
                    )
                yield halves_BE.numpy()


def parted(packed_BW: Tensor, width: int, boxes: bool) -> tuple[Tensor, Tensor]:
    """What `Told.beside` put together.

    Args:
        packed_BW: targets and answers.
        width: E.
        boxes: targets are boxes.

    Returns:
        Targets, int64 [B] or float32 [B, M, 5], and answers, float32 [B, E].
    """
    targets_BT, told_BE = packed_BW[:, : packed_BW.shape[1] - width], packed_BW[:, packed_BW.shape[1] - width :]
    return targets_BT.unflatten(1, (-1, _ROW)) if boxes else targets_BT[:, 0].long(), told_BE


def _joined(
    own: Beside | None,
    labels_N: NDArray[np.int64] | None,
    told_NE: Halves,
    samples_B: NDArray[np.int64],
    encoded: Sequence[Any],
    sides: tuple[int, int],
    name: Callable[[int], str],
) -> NDArray[np.float32]:
    """[B, T + E]; float32 holds class numbers exactly, which end at 10 million."""
    if own is None:
        assert labels_N is not None
        targets = labels_N[samples_B]
    else:
        targets = own.of(samples_B, encoded, sides, name)
    return np.concatenate([targets.reshape(len(samples_B), -1), told_NE[samples_B]], axis=1, dtype=np.float32)
