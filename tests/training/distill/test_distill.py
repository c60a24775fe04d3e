"""Equation 1 by hand, and students that learn from a teacher."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from boxed import boxed
from numbered import Write
from torch.nn import functional

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.config import Distill
from tamis.training.distill.losses import Equation, distil_classes, distil_priors, divergence
from tamis.training.errors import TaskError
from tamis.training.job import TrainConfig, train
from tamis.training.models.detectors.ssd import LOGITS, ssd_terms
from tamis.training.planning import plan


def outputs(seed: int) -> torch.Tensor:
    """Two images, 6 priors, 2 classes and the background."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[0.0, 0, 20, 20], [10, 10, 30, 30], [40, 40, 60, 60]]).repeat(2, 1)
    return torch.cat([corners.expand(2, -1, -1), torch.randn(2, 6, 7, generator=generator)], dim=2)


TARGETS = torch.tensor([[[1.0, 1, 1, 19, 19]], [[-1.0] * 5]])


def test_divergence_by_hand() -> None:
    """The teacher says 3/4 and 1/4, the student 1/2 each; at temperature 1."""
    teacher, student = torch.tensor([math.log(3.0), 0.0]), torch.zeros(2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(divergence(teacher, student, 1.0)) == pytest.approx(expected)
    assert float(divergence(2 * teacher, student, 2.0)) == pytest.approx(expected)  # softened to the same
    assert float(divergence(2 * teacher, student, 2.0, squared=True)) == pytest.approx(4 * expected)
    assert float(divergence(student, teacher, 1.0)) == pytest.approx(0.5 * (math.log(2 / 3) + math.log(2)))


def test_alpha_and_beta_weigh_the_terms_of_classes() -> None:
    student, teacher, labels = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    found = distil_classes(student, teacher, labels, Equation(alpha=0.3, temperature=4))
    torch.testing.assert_close(found.losses_B, 0.3 * found.truth_B + 0.7 * found.teacher_B)
    torch.testing.assert_close(found.truth_B, functional.cross_entropy(student, labels, reduction="none"))
    assert distil_classes(student, student, labels, Equation()).teacher_B.tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_of_priors_the_truth_is_mined_and_the_teacher_is_heard_everywhere() -> None:
    student, teacher = outputs(0), outputs(1)
    terms = ssd_terms(student, TARGETS)
    conf_B, loc_B = terms.means()
    apart_BP = divergence(teacher[:, :, LOGITS:], student[:, :, LOGITS:], 2.0)
    found = distil_priors(student, teacher, TARGETS, Equation(alpha=0.25))
    torch.testing.assert_close(found.losses_B, 0.25 * conf_B + 0.75 * apart_BP.mean(1) + loc_B)
    mined = distil_priors(student, teacher, TARGETS, Equation(alpha=0.25, over="mined"))
    torch.testing.assert_close(mined.teacher_B[0], apart_BP[0][terms.mined_BP[0]].mean())
    assert (found.truth_B[1], mined.teacher_B[1]) == (0, 0)  # without boxes nothing is mined,
    assert found.teacher_B[1] > 0  # but all priors hear the teacher


def test_with_alpha_1_it_is_ssds_loss_and_regression_can_be_distilled() -> None:
    student, teacher = outputs(0), outputs(1)
    conf_B, loc_B = ssd_terms(student, TARGETS).means()
    torch.testing.assert_close(distil_priors(student, teacher, TARGETS, Equation(alpha=1)).losses_B, conf_B + loc_B)
    same = distil_priors(student, student, TARGETS, Equation(alpha=0.25, boxes=True))
    torch.testing.assert_close(same.losses_B, 0.25 * (conf_B + loc_B))  # a teacher that says the same adds nothing


def test_a_classifier_learns_from_a_teacher(store: Store, dataset: Dataset, digits: dict[str, list[Path]]) -> None:
    store.datasets.add("digits-test", digits["test"])
    recipe: dict[str, Any] = {
        "dataset": "digits", "model": "preact8", "epochs": 2, "batch_size": 64, "lr": 0.1, "channels": 1,
        "augment": "none", "evaluate_on": "digits-test",
    }  # fmt: skip
    teacher = train(store, TrainConfig(**recipe), device="cpu").run
    config = TrainConfig(**recipe, distill=Distill(run=teacher.key[:10], alpha=0.0, temperature=1))
    student = train(store, config, device="cpu").run
    # The same weights, order and steps, so what differs is what the teacher says.
    assert student.key != teacher.key
    assert student.blob != teacher.blob
    assert {"accuracy", "distill_truth", "distill_teacher"} <= student.metrics.keys()
    assert student.metrics["distill_truth"] == pytest.approx(student.metrics["loss"])
    assert teacher.metrics["accuracy"] > 0.8
    assert student.metrics["accuracy"] > 0.8  # without any label
    assert plan(store, TrainConfig(**recipe, distill=None)).key == teacher.key
    assert plan(store, config.model_copy(update={"distill": config.distill})).key == student.key


def test_a_detector_learns_from_a_wider_one(store: Store, tmp_path: Path, write: Write) -> None:
    boxed(store, tmp_path, write, "boxed", range(6))
    recipe: dict[str, Any] = {
        "dataset": "boxed", "task": "detection", "epochs": 1, "batch_size": 6, "lr": 0.01, "truth": ("boxed-boxes",),
        "evaluate_on": "boxed",
    }  # fmt: skip
    teacher = train(store, TrainConfig(**recipe, model="ssdlite32-mobilenet@0.5"), device="cpu").run
    taught = TrainConfig(**recipe, model="ssdlite32-mobilenet@0.25", distill=Distill(run=teacher.key))
    student = train(store, taught, device="cpu").run
    assert {"map", "distill_truth", "distill_teacher"} <= student.metrics.keys()
    assert student.metrics["distill_teacher"] > 0
    with pytest.raises(TaskError, match="only the width may differ"):
        train(store, TrainConfig(**recipe, model="ssd32-resnet18@0.25", distill=Distill(run=teacher.key)), device="cpu")
