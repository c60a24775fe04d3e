"""Dataset Culling for classification: a student chooses what a teacher looks at, and both what is kept.

What: `cull_classes` runs the student over everything and keeps the `look` images of the highest confidence loss; the
teacher looks at these alone, and the `keep` of the highest cross-entropy between both become a selection
(`tamis.curation.culling.probabilities`, as of detections in `tamis.flows.detections`).
How: ties go to the lower sample number. Images on which a model's outputs are not finite are left out and counted.
Cost: a forward pass of the student over the dataset, of both over `look` images; the teacher sees no other. Memory:
probabilities of `look` images.
Source: K. Yoshioka et al., "Dataset Culling", 2019, for boxes; this is its natural reading for classes.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from tamis.curation.budget import resolve_budget
from tamis.curation.culling.confidence import Q
from tamis.curation.culling.probabilities import teacher_cross_entropies, top_confidence_losses
from tamis.curation.ranking import top_k
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.store.keys import check_name
from tamis.store.selections import Published, Request, RoundData
from tamis.training.decoding.pixels import decoder_key
from tamis.training.models.saved import trained_run
from tamis.training.models.weights import ModelMeta
from tamis.training.selecting.answers import Computed, answer
from tamis.training.signals.outputs import load_model, predict
from tamis.training.streaming.batches import Batch, Chosen, Images, load_batches
from tamis.training.streaming.lookup import Index

NAME, VERSION = "stages", 1
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class StagesConfig(BaseModel):
    """What to cull, and by whom.

    Attributes:
        dataset: name or name@version.
        student, teacher: keys of finished training runs that tell the same classes.
        look: what the teacher looks at: a share or a number of images.
        keep: what is kept of it: a share of the dataset or a number of images.
        q: of the confidence loss.
        name: of the selection; None: DATASET-stages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    student: str
    teacher: str
    look: str | int | float
    keep: str | int | float
    q: float = Field(default=Q, ge=0, allow_inf_nan=False)
    name: str | None = None

    @model_validator(mode="after")
    def _two(self) -> "StagesConfig":
        if self.student == self.teacher:
            raise ValueError("student and teacher are one model: nothing could be learnt from it")
        return self


def cull_classes(
    store: Store, config: StagesConfig, *, device: str = "auto", batch_size: int = 256, force: bool = False
) -> Published:
    """Choose in two stages, and publish the selection.

    Args:
        store: the store.
        config: what to cull.
        device: "auto", "cpu", "cuda", ...
        batch_size: images of a forward pass.
        force: choose again where the selection is there already, and say whether it comes out the same.

    Raises:
        BudgetError: no such part of the dataset.
        SelectionError: more is to be kept than looked at; a model that is no classifier, or of other classes.
        RunNotFound: no such training run.
    """
    dataset = store.datasets.get(config.dataset)
    look, keep = (resolve_budget(asked, dataset.samples) for asked in (config.look, config.keep))
    if keep > look:
        raise SelectionError(f"{keep} images cannot be kept of {look} that the teacher looks at: let it look at more.")
    runs = [trained_run(store, key) for key in (config.student, config.teacher)]
    (student, of_student), (teacher, of_teacher) = (load_model(store, str(run.blob)) for run in runs)
    _check(of_student, of_teacher)
    sizes = {(dataset.image, of_student.image_size), (dataset.image, of_teacher.image_size)}
    params = {"look": look, "keep": keep, "q": config.q, **decoder_key(*sorted(sizes, key=str))}
    request = Request(dataset, NAME, VERSION, params, [run.key for run in runs])

    def compute() -> Computed:
        everything, began = np.arange(dataset.samples), perf_counter()
        with closing(_probabilities(store, dataset, everything, student, of_student, device, batch_size)) as parts:
            losses = np.concatenate([top_confidence_losses(part, config.q) for part in parts])
        seen, first = _highest(losses, everything, look), perf_counter()
        order = np.sort(seen)
        both = [
            np.concatenate([*_probabilities(store, dataset, order, model, meta, device, batch_size)])
            for model, meta in ((teacher, of_teacher), (student, of_student))
        ]
        entropies = teacher_cross_entropies(*both)
        kept, known = _highest(entropies, order, keep), int(np.isfinite(losses).sum())
        seconds = {"student": first - began, "teacher": perf_counter() - first}
        stats = {
            "looked_at_by_student": dataset.samples, "looked_at_by_teacher": len(order),
            "excluded": dataset.samples - known + int((~np.isfinite(entropies)).sum()),
        }  # fmt: skip
        return Computed([RoundData(kept)], seconds, stats)

    name = check_name(config.name or f"{dataset.name}-{NAME}", "selection")
    return answer(store, request, name, compute, force=force)


def _highest(scores: Floats, samples: Ints, count: int) -> Ints:
    """Samples of the highest scores, best first, of those that have one."""
    known = np.flatnonzero(np.isfinite(scores))
    if len(known) < count:
        raise SelectionError(
            f"Only {len(known)} of {len(samples)} images have finite outputs, and {count} are to be chosen: ask for "
            "fewer."
        )
    return samples[known[top_k(scores[known], count)]]


def _probabilities(
    store: Store, dataset: Dataset, samples: Ints, model: nn.Module, meta: ModelMeta, device: str, size: int
) -> Generator[Floats]:
    """Of batches of samples [B, C]; NaN where logits are not finite."""
    index = Index.open(store, dataset, [dataset.image])
    parts = (samples[a : a + size] for a in range(0, len(samples), size))
    chosen = (Chosen(part, np.ones(len(part), np.float32)) for part in parts)
    with closing(load_batches(index, chosen, Images(meta.in_channels, meta.image_size))) as loaded:

        def batches() -> Iterator[Batch]:
            for one in loaded:
                yield one.batch

        for _, logits_BK in predict(model, batches(), device):
            known = torch.isfinite(logits_BK).all(dim=1, keepdim=True)
            chances = torch.where(known, logits_BK.double().softmax(dim=1), torch.nan)
            yield chances.cpu().numpy()


def _check(student: ModelMeta, teacher: ModelMeta) -> None:
    for who, meta in (("student", student), ("teacher", teacher)):
        if meta.task != "classification":
            raise SelectionError(
                f"The {who} learnt {meta.task}: expected a classifier (`tamis cull` is for detectors)."
            )
    if student.num_classes != teacher.num_classes:
        raise SelectionError(
            f"The student tells {student.num_classes} classes and the teacher {teacher.num_classes}: expected the same."
        )
