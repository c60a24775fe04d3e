"""Scores of Dataset Culling from stored boxes: what a student is unsure of, and gets wrong beside a teacher.

What: `culling_columns` gives the numbers of each sample, `publish_culling` a run of them that selections, SQL and the
command line read like any other scores.
Keys: the dataset, the runs whose boxes they are and every setting; the same question finds the run that is there.
Cost: `tamis.curation.culling`'s: a second for 86,400 frames of 20 boxes; no model is loaded.
Legend: N samples.
"""

from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tamis.curation.culling.confidence import Q, confidence_losses
from tamis.curation.culling.detections import BoxesLike, Detections
from tamis.curation.culling.entropy import box_entropies
from tamis.curation.culling.floors import PRESETS, Preset
from tamis.curation.culling.precision import agreement
from tamis.curation.errors import CurationError
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.keys import key_of
from tamis.store.runs import Run

VERSION = 1  # of what is computed: raise it when the same boxes come to have other numbers
STUDENT: Mapping[str, Literal["higher", "lower"]] = {"confidence_loss": "higher", "entropy": "higher"}
TEACHER: Mapping[str, Literal["higher", "lower"]] = {
    "precision_loss": "higher", "precision": "lower", "recall": "lower",
}  # fmt: skip
_BATCH = 1 << 16

Columns = dict[str, NDArray[np.float64]]


class CullingConfig(BaseModel):
    """How frames are scored.

    Attributes:
        preset: which boxes count: those of the authors' code (score .5, side 20 pixels) or of the paper (score .2).
        q: of the confidence loss.
        iou: the least intersection over union of a match.
        classes: those of interest; empty: all of the student's.
        mapping: from the teacher's classes to the student's, where they differ; None leaves a class out.
        standardize: z-scores by class over the frames, in both losses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = "authors"
    q: float = Field(default=Q, ge=0, allow_inf_nan=False)
    iou: float = Field(default=0.5, gt=0, le=1)
    classes: tuple[str, ...] = ()
    mapping: dict[str, str | None] | None = None
    standardize: bool = True


def culling_columns(student: BoxesLike, teacher: BoxesLike | None, config: CullingConfig) -> Columns:
    """The scores of each sample.

    Args:
        student: the student's boxes.
        teacher: the teacher's boxes of the same samples; None: only the student's own scores.
        config: how.

    Returns:
        float64 [N] by metric: `STUDENT`, and with a teacher `TEACHER`; NaN where not looked at.

    Raises:
        CurationError: boxes, classes or settings that do not go together.
    """
    seen, floors, classes = Detections.of(student), PRESETS[config.preset], config.classes or None
    columns = {
        "confidence_loss": confidence_losses(
            seen, classes=classes, q=config.q, floors=floors, standardize=config.standardize
        ),
        "entropy": box_entropies(seen, classes=classes, floors=floors),
    }
    if teacher is not None:
        truth = Detections.of(teacher)
        found = agreement(seen, truth, classes=classes, mapping=config.mapping, iou=config.iou, floors=floors)
        losses_N = found.losses(standardize=config.standardize)
        columns |= {"precision_loss": losses_N, "precision": found.precision(), "recall": found.recall()}
    return columns


def culling_key(dataset: Dataset, student: str, teacher: str | None, config: CullingConfig) -> str:
    """The key of a run of these scores.

    Args:
        dataset: the version that is scored.
        student, teacher: keys of the runs whose boxes they are.
        config: how.
    """
    return key_of("score", {"dataset": dataset.key, **_identity(student, teacher, config)})


def score_culling(
    store: Store, dataset: Dataset, student: str, teacher: str | None, config: CullingConfig
) -> tuple[Run, bool]:
    """Score a dataset from stored boxes.

    Args:
        store: the store.
        dataset: the version that is scored.
        student, teacher: keys of runs with boxes; the teacher's may be annotations.
        config: how.

    Returns:
        The run with the scores, and whether it was there already; nothing is read then.

    Raises:
        RunNotFound: a run without boxes.
        CurationError: what `culling_columns` refuses.
    """
    there = store.runs.find(culling_key(dataset, student, teacher, config))
    if there is not None:
        return there, True
    seen = store.runs.boxes(student, dataset)
    truth = None if teacher is None else (teacher, store.runs.boxes(teacher, dataset))
    name = store.runs.get(student).model
    return publish_culling(store, dataset, (student, seen), truth, config, name=name), False


def publish_culling(
    store: Store,
    dataset: Dataset,
    student: tuple[str, BoxesLike],
    teacher: tuple[str, BoxesLike] | None,
    config: CullingConfig,
    *,
    name: str | None = None,
) -> Run:
    """Score a dataset from boxes; what is there already is the answer.

    Args:
        store: the store.
        dataset: the version that is scored.
        student, teacher: key of the run, and its boxes of every sample.
        config: how.
        name: the student's, for people.

    Raises:
        CurationError: boxes of another number of samples, or what `culling_columns` refuses.
    """
    other = None if teacher is None else teacher[0]
    key = culling_key(dataset, student[0], other, config)
    there = store.runs.find(key)
    if there is not None:
        return there
    started = perf_counter()
    columns = culling_columns(student[1], None if teacher is None else teacher[1], config)
    count = len(columns["confidence_loss"])
    if count != dataset.samples:
        raise CurationError(f"the boxes are of {count} samples; expected the {dataset.samples} of {dataset.ref}")
    hard = {metric: way for metric, way in {**STUDENT, **TEACHER}.items() if metric in columns}
    about = _identity(student[0], other, config) | {"hard": hard, "metrics": list(columns)}
    store.runs.begin(kind="score", key=key, dataset=dataset.ref, model=name, config=about)
    store.runs.put_score_batches(key, _batches(columns, count))
    left = {f"unlooked_{who}": int(np.isnan(columns[metric]).sum()) for who, metric in _FIRST if metric in columns}
    metrics = {"samples": count, **{who: number for who, number in left.items() if number}}
    return store.runs.finish(key, metrics=metrics, seconds={"total": perf_counter() - started})


_FIRST = (("student", "confidence_loss"), ("teacher", "precision_loss"))


def _identity(student: str, teacher: str | None, config: CullingConfig) -> dict[str, Any]:
    scorer = {"name": "culling", "version": VERSION}
    return {"scorer": scorer, "student": student, "teacher": teacher, "culling": config.model_dump(mode="json")}


def _batches(columns: Columns, count: int) -> Iterator[tuple[Columns, NDArray[np.int64]]]:
    for first in range(0, count, _BATCH):
        samples = np.arange(first, min(first + _BATCH, count))
        yield {metric: values_N[samples] for metric, values_N in columns.items()}, samples
