"""Scores of Dataset Culling as runs of the store: what stands in them, that they are found again, and both stages."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tamis.curation import CurationError
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.selecting.by_scores import SelectConfig, select
from tamis.training.signals.culling import CullingConfig, publish_culling

N = 1498


@dataclass(frozen=True)
class Stored:
    offsets_N1: NDArray[np.int64]
    labels_B: NDArray[np.int32]
    scores_B: NDArray[np.float32]
    corners_B4: NDArray[np.float32]
    status_N: NDArray[np.int8]
    classes: tuple[str, ...] = ("car",)


def boxes(scores: dict[int, float], x: float = 0.0, looked: range = range(N)) -> Stored:
    """A box of a score in some samples."""
    counts, status = np.zeros(N, np.int64), np.zeros(N, np.int8)
    counts[list(scores)], status[list(looked)] = 1, 1
    corners = np.tile(np.array([x, 0, x + 40, 40], np.float32), (len(scores), 1))
    ordered = np.array([scores[sample] for sample in sorted(scores)], np.float32)
    return Stored(np.concatenate([[0], np.cumsum(counts)]), np.zeros(len(scores), np.int32), ordered, corners, status)


def test_both_stages(store: Store, dataset: Dataset) -> None:
    """Samples 3, 4, 5 are unsure, in that order; of what the teacher sees of them, 5 is right and 4 is missed."""
    student = boxes({3: 0.5, 4: 0.6, 5: 0.7, 9: 1.0})
    config = CullingConfig()
    first = publish_culling(store, dataset, ("students", student), None, config, name="small")
    chosen = select(store, SelectConfig(dataset="digits", method="culling", budget=3)).selection
    assert chosen.round_at(0)[0].tolist() == [3, 4, 5]
    assert (chosen.params["measure"], chosen.inputs, chosen.name) == ("confidence_loss", (first.key,), "digits-culling")
    teacher = boxes({4: 1.0, 5: 1.0}, looked=range(3, 6))
    far = replace(student, corners_B4=student.corners_B4 + np.array([[0], [90], [0], [0]], np.float32))
    second = publish_culling(store, dataset, ("moved", far), ("teachers", teacher), config)
    asked = SelectConfig(dataset="digits", method="culling", measure="precision_loss", budget=2)
    # Losses: 3: 1/.5 = 2, which is one box where nothing is; 4: 1/.5 + 1/.5 = 4; 5: 2.
    assert select(store, asked).selection.round_at(0)[0].tolist() == [4, 3]
    np.testing.assert_array_equal(store.runs.scores(second.key, "recall", N)[2:7], [np.nan, 1, 0, 1, np.nan])
    np.testing.assert_array_equal(store.runs.scores(second.key, "precision", N)[2:7], [np.nan, 0, 0, 1, np.nan])
    assert second.metrics == {"samples": N, "unlooked_teacher": N - 3}
    with pytest.raises(CurationError, match="only 3 candidates have losses"):
        select(store, asked.model_copy(update={"budget": 4}))


def test_the_same_question_finds_its_run_and_another_does_not(store: Store, dataset: Dataset) -> None:
    student = boxes({3: 0.5})
    one = publish_culling(store, dataset, ("s", student), None, CullingConfig())
    assert publish_culling(store, dataset, ("s", student), None, CullingConfig()).key == one.key
    others = [CullingConfig(preset="paper"), CullingConfig(q=2), CullingConfig(classes=("car",))]
    keys = {publish_culling(store, dataset, ("s", student), None, other).key for other in others}
    assert len(keys | {one.key}) == 4


def test_boxes_of_another_dataset_are_refused(store: Store, dataset: Dataset) -> None:
    short = Stored(
        np.zeros(3, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, 4), np.float32),
        np.ones(2, np.int8),
    )  # fmt: skip
    with pytest.raises(CurationError, match="the boxes are of 2 samples; expected the 1498 of digits@1"):
        publish_culling(store, dataset, ("s", short), None, CullingConfig())
