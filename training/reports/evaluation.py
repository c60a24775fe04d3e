"""How good a finished run's model is on a dataset, as a whole and class by class.

What: `evaluate_run` opens the model and takes the means of its task's measures (accuracy and loss; of a regression the
squared and the absolute error). A detector is judged by boxes of another run (`tamis.training.reports.detectors`).
When: on data that the run was not evaluated on, or to see which classes it fails at.
Cost: one forward pass. Nothing is kept.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tamis.store import Store
from tamis.store.boxes import DETECT
from tamis.store.datasets import Dataset
from tamis.store.runs import Run
from tamis.training.devices import pick_device
from tamis.training.errors import LabelError
from tamis.training.models.own import failing
from tamis.training.models.registry import ImageClassifier
from tamis.training.models.saved import open_model, trained_run
from tamis.training.models.weights import ModelMeta
from tamis.training.reports.detectors import Judged, by_boxes, judge_boxes, judge_model
from tamis.training.streaming.stream import SelectionStream
from tamis.training.tasks import get_task
from tamis.training.tasks.contract import Task
from tamis.training.tasks.detection import Detection


@dataclass(frozen=True)
class OfClass:
    """The samples of one class.

    Attributes:
        label: the class number.
        name: what the dataset calls it; None where it has no names.
        samples: how many it has; for detectors, how many have a box of it.
        metrics: means of the task's measures; for detectors the number of true boxes, and its mean average precision.
    """

    label: int
    name: str | None
    samples: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Evaluated:
    """A model on a dataset.

    Attributes:
        run: its key.
        dataset: name@version.
        model, task: its name, and what it learnt.
        samples: how many there are; for the boxes of a detector's pass, how many it was judged on.
        metrics: means of the task's measures, every sample counting alike; for detectors those of COCO.
        classes: by class number; empty where the labels are no classes.
    """

    run: str
    dataset: str
    model: str
    task: str
    samples: int
    metrics: dict[str, float]
    classes: tuple[OfClass, ...]


def evaluate_run(
    store: Store,
    run: str,
    dataset: str,
    *,
    truth: str | None = None,
    truth_score: float = 0.0,
    device: str = "auto",
    batch_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Evaluate a finished training run's model, or the boxes that a detector has found already.

    Args:
        store: the store.
        run: the run's key, or the beginning of it; of a training run, or of a detector's pass (`tamis score boxes`).
        dataset: "name" or "name@version".
        truth: for detectors, the run with the true boxes of the dataset: its key, or the beginning of it.
        truth_score: boxes of `truth` with a lower score are left out.
        device: "auto", "cpu", "cuda", ...
        batch_size: samples a forward pass.
        progress: called with (samples done, samples in all).

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        LabelError: the dataset's labels are not those of the task, or of classes that the model lacks; a detector
            without `truth`, or another model with it.
        ShardChanged, DecodeError: naming the shard or the sample.
    """
    judged = store.datasets.get(dataset)
    named = store.runs.get(run)
    if named.kind == DETECT:
        score = judge_boxes(store, named, judged, by_boxes(store, named, judged, truth, truth_score))
        return _of_detector(named, judged, named.model or "", score)
    found = trained_run(store, named.key)
    assert found.blob is not None
    with failing(found.model or ""):
        model, meta = open_model(store.blobs.get(found.blob), f"run {found.key[:12]}")
        task = get_task(meta.task)
        if isinstance(task, Detection):
            true = by_boxes(store, found, judged, truth, truth_score)
            options: dict[str, Any] = {"device": pick_device(device), "batch_size": batch_size, "progress": progress}
            return _of_detector(
                found, judged, meta.model, judge_model(store, found, judged, true, (model, meta), **options)
            )
        if truth is not None:
            raise LabelError(
                f"The model of run {found.key[:12]} was trained for {meta.task}, which knows no true boxes: leave "
                "truth out."
            )
        task.outputs(store, judged)
        labels, columns = _measured(store, judged, model, meta, task, pick_device(device), batch_size, progress)
    metrics = {name: float(values.mean()) for name, values in columns.items()}
    classes = _by_class(labels, columns, judged) if judged.has_classes else ()
    return Evaluated(found.key, judged.ref, meta.model, meta.task, judged.samples, metrics, classes)


def _of_detector(run: Run, judged: Dataset, model: str, score: Judged) -> Evaluated:
    classes = tuple(OfClass(label, *of) for label, of in score.classes.items())
    return Evaluated(run.key, judged.ref, model, Detection.name, score.samples, score.metrics, classes)


def _measured(
    store: Store,
    dataset: Dataset,
    model: ImageClassifier,
    meta: ModelMeta,
    task: Task,
    device: torch.device,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Targets [N] and measures float64 [N] of all samples."""
    stream = SelectionStream(
        store, dataset, batch_size=batch_size, rank=0, world=1, members=(), shuffle=False, channels=meta.in_channels,
        image_size=meta.image_size, targets=task.targets(dataset),
    )  # fmt: skip
    model, labels, parts, done = model.to(device), list[torch.Tensor](), list[dict[str, torch.Tensor]](), 0
    with closing(stream.epoch(0)) as batches:
        for batch in batches:
            with torch.inference_mode():
                outputs_BK = model(batch.images.to(device, non_blocking=True)).float().cpu()
                unknown = int((~task.known(outputs_BK, batch.labels)).sum())
                if unknown:
                    raise LabelError(
                        f"{unknown} samples of a batch of {dataset.ref} have labels that the model does not know "
                        f"(the largest is {batch.labels.max()}, it has {meta.num_classes} outputs): evaluate on data "
                        "of the same classes."
                    )
                parts.append({name: v.double() for name, v in task.measures(outputs_BK, batch.labels).items()})
            labels.append(batch.labels)
            done += len(batch.samples)
            if progress is not None:
                progress(done, dataset.samples)
    return torch.cat(labels), {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _by_class(labels: torch.Tensor, columns: dict[str, torch.Tensor], dataset: Dataset) -> tuple[OfClass, ...]:
    numbers, names = labels.numpy(), dataset.classes
    counts, found = np.bincount(numbers), list[OfClass]()
    sums = {name: np.bincount(numbers, weights=values.numpy()) for name, values in columns.items()}
    for label in np.flatnonzero(counts).tolist():
        metrics = {name: float(total[label] / counts[label]) for name, total in sums.items()}
        found.append(OfClass(label, names[label] if label < len(names) else None, int(counts[label]), metrics))
    return tuple(found)
