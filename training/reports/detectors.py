"""How good a detector is by the boxes of another run: a model that was trained here, or boxes that are stored already.

What: `judge_model` has a trained detector look at a dataset as training runs evaluate (`training.tasks.detection`);
`judge_boxes` takes what a pass of `tamis score boxes` found, of samples that both runs have looked at. Both give COCO's
measures, as a whole and of each class.
How: boxes of a pass are matched by the names of classes, so a teacher of 80 classes is judged on those of the truth.
Trained models must have the truth's classes, in their order.
Cost: one forward pass, or none; a second for some thousand images of each class.
Source: `tamis.training.tasks.coco`.

Legend: N samples of a dataset, A true boxes of all.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store.boxes import LOOKED
from tamis.store.datasets import Dataset
from tamis.store.runs import Run
from tamis.training.errors import LabelError
from tamis.training.models.registry import ImageClassifier
from tamis.training.models.weights import ModelMeta
from tamis.training.streaming.batches import Batch
from tamis.training.streaming.stream import SelectionStream
from tamis.training.tasks.coco import average_precision, check_installed
from tamis.training.tasks.detection import Detection
from tamis.training.tasks.truth import Truth, truth_of

Rows = Sequence[NDArray[Any]]
OfLabel = tuple[str | None, int, dict[str, float]]  # name, samples that have it, measures


@dataclass(frozen=True)
class Judged:
    """How good a detector is.

    Attributes:
        samples: that it was judged on.
        metrics: of `tamis.training.tasks.coco`, and of models `loss`.
        classes: by class number, of those that have true boxes.
    """

    samples: int
    metrics: dict[str, float]
    classes: dict[int, OfLabel]


def by_boxes(store: Store, run: Run, dataset: Dataset, truth: str | None, least_score: float = 0.0) -> Truth:
    """The boxes that a detector is judged by.

    Args:
        store: the store.
        run: the detector's.
        dataset: that it is judged on.
        truth: key of the run with the boxes, or the beginning of it.
        least_score: boxes with a lower score are left out.

    Raises:
        LabelError: no run is given, or it has no box.
        RunNotFound, SelectionError: it has no boxes of this dataset.
    """
    check_installed()
    if truth is None:
        raise LabelError(
            f"Run {run.key[:12]} is a detector, which is judged by boxes: give the run with those of {dataset.ref} as "
            "truth (tamis run ls lists runs of kind annotations and detect)."
        )
    return truth_of(store, dataset, store.runs.get(truth).key, least_score)


def judge_boxes(store: Store, run: Run, dataset: Dataset, truth: Truth) -> Judged:
    """Judge the boxes that a detector's pass has found.

    Args:
        store: the store.
        run: of the pass.
        dataset: that both looked at.
        truth: the true boxes.

    Raises:
        LabelError: no sample was looked at by both, or the runs share no class.
    """
    boxes = store.runs.boxes(run.key, dataset)
    both = np.flatnonzero(truth.looked_N & (boxes.status_N == LOOKED)).tolist()
    if not both:
        raise LabelError(
            f"Run {run.key[:12]} and run {truth.run[:12]}, which is to judge it, have no sample of {dataset.ref} in "
            "common: have the detector look at what the truth has boxes of."
        )
    number = _numbers(run, boxes.classes, truth)
    rows_B6 = np.concatenate(
        [number[boxes.labels_B][:, None], boxes.corners_B4, boxes.scores_B[:, None]], axis=1, dtype=np.float32
    )
    found = [_known(rows_B6[boxes.frame(sample)]) for sample in both]
    true = [truth.rows_A5[truth.offsets_N1[sample] : truth.offsets_N1[sample + 1]] for sample in both]
    return _judged(true, found, truth.classes, {})


def judge_model(
    store: Store,
    run: Run,
    dataset: Dataset,
    truth: Truth,
    opened: tuple[ImageClassifier, ModelMeta],
    *,
    device: torch.device,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Judge the model of a training run, on images as it was trained on.

    Args:
        store: the store.
        run: the training run.
        dataset: that it looks at.
        truth: its true boxes.
        opened: the model and its description.
        device: where it runs.
        batch_size: images of a forward pass; as many as training runs evaluate at once, at most.
        progress: called with (samples done, samples in all).

    Raises:
        LabelError: the truth is of other classes, or has not looked at some samples.
    """
    model, meta = opened
    _check_fits(run, dataset, truth, meta)
    task = Detection({dataset.key: truth}, meta.image_size, float(run.config.get("box_weight", 1)))
    stream = SelectionStream(
        store, dataset, batch_size=min(batch_size, task.judged), rank=0, world=1, members=(), shuffle=False,
        channels=meta.in_channels, image_size=meta.image_size, targets=task.targets(dataset),
    )  # fmt: skip
    with closing(stream.epoch(0)) as batches:
        true, found, losses = task.looked(model.to(device), _counted(batches, dataset.samples, progress), device)
    return _judged(true, found, truth.classes, {"loss": float(torch.cat(losses).double().mean())})


def _check_fits(run: Run, dataset: Dataset, truth: Truth, meta: ModelMeta) -> None:
    if meta.classes and truth.classes != meta.classes:
        raise LabelError(
            f"The model of run {run.key[:12]} knows the classes {', '.join(meta.classes[:5])}, the boxes of run "
            f"{truth.run[:12]} are of {', '.join(truth.classes[:5]) or 'no names'}: judge by boxes of the same "
            "classes, in the same order."
        )
    most = int(truth.rows_A5[:, 0].max())
    if most >= meta.num_classes - 1:
        raise LabelError(
            f"Run {truth.run[:12]} has boxes of class {most}; the model of run {run.key[:12]} has "
            f"{meta.num_classes - 1} classes: judge by boxes of the same classes."
        )
    left = int((~truth.looked_N).sum())
    if left:
        raise LabelError(
            f"Run {truth.run[:12]} has not looked at {left} of {dataset.samples} samples of {dataset.ref}, or failed "
            "on them, so their boxes are not known: give a run that has looked at all of them."
        )


def _numbers(run: Run, classes: tuple[str, ...], truth: Truth) -> NDArray[np.int64]:
    """The truth's number of each class of a pass; -1 where it has none of that name."""
    if not classes or not truth.classes:
        return np.arange(1 + max(len(classes), len(truth.classes), 1_000))
    numbers = np.asarray([truth.classes.index(name) if name in truth.classes else -1 for name in classes], np.int64)
    if (numbers < 0).all():
        raise LabelError(
            f"The boxes of run {run.key[:12]} are of {', '.join(classes[:5])}, those of run {truth.run[:12]} of "
            f"{', '.join(truth.classes[:5])}: they share no class."
        )
    return numbers


def _known(rows_n6: NDArray[Any]) -> NDArray[Any]:
    return rows_n6[rows_n6[:, 0] >= 0]


def _judged(truth: Rows, found: Rows, names: tuple[str, ...], more: dict[str, float]) -> Judged:
    labels = np.concatenate([rows[:, 0] for rows in truth]).astype(np.int64)
    count = 1 + max(int(rows[:, 0].max(initial=0)) for rows in (*truth, *found))
    classes = {
        label: (names[label] if label < len(names) else None, *_of_class(truth, found, label))
        for label in np.unique(labels).tolist()
    }
    return Judged(len(truth), average_precision(truth, found, count) | more, classes)


def _of_class(truth: Rows, found: Rows, label: int) -> tuple[int, dict[str, float]]:
    """Samples that have a box of a class, and how well it is found."""
    true, guessed = ([_as_first(rows, label) for rows in given] for given in (truth, found))
    measures = average_precision(true, guessed, 1)
    boxes = {"boxes": float(sum(map(len, true)))}
    return sum(len(rows) > 0 for rows in true), boxes | {name: measures[name] for name in ("map", "map50")}


def _as_first(rows: NDArray[Any], label: int) -> NDArray[Any]:
    """The boxes of one class, as class 0."""
    mine = rows[rows[:, 0] == label].copy()
    mine[:, 0] = 0
    return mine


def _counted(batches: Iterable[Batch], samples: int, progress: Callable[[int, int], None] | None) -> Generator[Batch]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.samples)
        if progress is not None:
            progress(done, samples)
