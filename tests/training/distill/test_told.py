"""A teacher's answers that are kept: as good as asking it, and it is asked once for each sample."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boxed import boxed
from numbered import Write
from pydantic import ValidationError

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.runs import Run
from tamis.training.distill import told
from tamis.training.distill.losses import Equation, distil_priors
from tamis.training.distill.student import Student
from tamis.training.errors import TaskError
from tamis.training.job import TrainConfig, train
from tamis.training.models.saved import open_model
from tamis.training.planning import plan
from tamis.training.tasks.contract import Task
from tamis.training.tasks.detection import Detection

SIXTY: dict[str, Any] = {
    "dataset": "sixty", "model": "preact8", "epochs": 2, "batch_size": 20, "lr": 0.05, "channels": 1,
    "augment": "none", "evaluate_on": "sixty",
}  # fmt: skip
BOXED: dict[str, Any] = {
    "dataset": "boxed", "task": "detection", "epochs": 1, "batch_size": 2, "lr": 0.01, "truth": ("boxed-boxes",),
    "augment": "none",
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The samples of every forward pass of a teacher, which alone is without gradients and in evaluation mode."""
    made: list[int] = []
    real: dict[Any, Any] = {kind: kind.forward for kind in (Task, Detection)}

    def counted(kind: type[Task]) -> Any:
        def forward(task: Task, model: Any, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            if not any(one.requires_grad for one in model.parameters()):
                made.append(len(images))
            return real[kind](task, model, images, targets)

        return forward

    for kind in real:
        monkeypatch.setattr(kind, "forward", counted(kind))
    return made


def trained(store: Store, recipe: dict[str, Any], **more: Any) -> Run:
    return train(store, TrainConfig(**recipe | more), device="cpu").run


def taught(recipe: dict[str, Any], run: str, **more: Any) -> TrainConfig:
    changed: dict[str, Any] = {"distill": {"run": run, **more}}
    return TrainConfig(**recipe | changed)


def test_a_classifier_learns_the_same_and_the_teacher_is_asked_once(
    store: Store, sixty: Dataset, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "BLOCK", 16)
    teacher = trained(store, SIXTY)
    live = train(store, taught(SIXTY, teacher.key, alpha=0.3), device="cpu").run
    assert sum(asked) == 2 * 60 + 60  # two epochs and an evaluation
    asked.clear()
    kept = train(store, taught(SIXTY, teacher.key, alpha=0.3, cached=True), device="cpu").run
    assert sum(asked) == 60
    assert kept.metrics["teacher"]["asked"] == 60
    assert kept.key != live.key
    for name in ("train_loss", "loss", "distill_truth", "distill_teacher"):  # but for the rounding to float16
        assert kept.metrics[name] == pytest.approx(live.metrics[name], rel=0.02)
    asked.clear()
    other = train(store, taught(SIXTY | {"seed": 1}, teacher.key, temperature=4, cached=True), device="cpu").run
    assert (asked, other.metrics["teacher"]["asked"]) == ([], 0)
    # Three shards of 25, 25 and 10 in blocks of 16: one that is lost costs itself.
    lost = max(name for name, _ in store.root.list("parts"))
    store.root.delete(lost)
    for path in (Path(store.root.url) / "cache").glob("array-*"):
        path.unlink()
    train(store, taught(SIXTY | {"seed": 2}, teacher.key, cached=True), device="cpu")
    assert sum(asked) in (16, 9, 10)


def test_answers_are_the_teachers_rounded_to_float16(store: Store, tmp_path: Path, write: Write) -> None:
    """Targets and answers of a batch come apart as they were, and the equation is that of live answers."""
    boxed(store, tmp_path, write, "boxed", range(6))
    teacher = trained(store, BOXED, batch_size=6, model="ssd32-resnet18@0.25")
    asked = taught(BOXED | {"model": "ssd32-resnet18@0.125"}, teacher.key, cached=True)
    task = Detection().bound(store, asked.model_dump())
    student = Student.of(store, task, plan(store, asked), torch.device("cpu"), print)
    dataset = store.datasets.get("boxed")
    packed, plain = (next(_batches(store, one, dataset)) for one in (student, task))
    assert teacher.blob is not None
    model, _ = open_model(store.blobs.get(teacher.blob), "it")
    with torch.no_grad():
        outputs = task.forward(model, plain.images, plain.labels)
        answers = outputs.clone()
        answers[:, :, 4:] = outputs[:, :, 4:].half().float()
        both = student.forward(model, packed.images, packed.labels)
    torch.testing.assert_close(both, torch.cat([outputs, answers], dim=-1), rtol=1e-3, atol=1e-3)
    found = student.losses(both, packed.labels)
    expected = distil_priors(outputs, answers, plain.labels, Equation()).losses_B
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert student.facts["teacher"]["bytes"] == 2 * 6 * answers[0, :, 4:].numel()


def _batches(store: Store, task: Task, dataset: Dataset) -> Iterator[Any]:
    from tamis.training.streaming.stream import SelectionStream

    stream = SelectionStream(
        store, dataset, batch_size=6, rank=0, world=1, shuffle=False, targets=task.targets(dataset)
    )
    yield from stream.epoch(0)


def test_a_detector_learns_by_losses_from_kept_answers(
    store: Store, tmp_path: Path, write: Write, asked: list[int]
) -> None:
    boxed(store, tmp_path, write, "boxed", range(4))
    teacher = trained(store, BOXED, model="ssd32-resnet18@0.25")
    recipe = BOXED | {
        "model": "ssd32-resnet18@0.125",
        "strategy": {"name": "in-batch", "begin": 0, "end": 1, "share": 0.5},
    }
    run = train(store, taught(recipe | {"evaluate_on": "boxed"}, teacher.key, cached=True), device="cpu").run
    assert run.metrics["backprops"] == 2 + 1
    assert sum(asked) == 4
    assert {"map", "distill_truth", "distill_teacher"} <= run.metrics.keys()
    for model, said in (("ssd64-resnet18@0.125", "have other priors"), ("ssdlite32-mobilenet", "have other priors")):
        with pytest.raises(TaskError, match=said):
            train(store, taught(BOXED | {"model": model}, teacher.key, cached=True), device="cpu")


def test_size_is_said_before_it_is_computed(
    store: Store, sixty: Dataset, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "_SAID_FROM", 0)
    monkeypatch.setattr(told, "BLOCK", 16)
    teacher = trained(store, SIXTY)
    spoken: list[tuple[str, int]] = []
    config = taught(SIXTY, teacher.key, cached=True)
    train(store, config, device="cpu", notify=lambda line: spoken.append((line, sum(asked))))
    assert spoken[0][0].startswith("The teacher's answers on sixty@1 are 3 numbers a sample, 0.0 GiB in the store")
    assert spoken[0][1] == 16  # of the first block, whose answers have the width
    assert "4 of 5 blocks are to be computed" in spoken[0][0]


def test_keys_of_runs_that_do_not_keep_answers_stay(store: Store, sixty: Dataset) -> None:
    """A key from before answers could be kept."""
    teacher = trained(store, SIXTY, epochs=1)
    plain, off, on = (
        plan(store, taught(SIXTY, teacher.key, **more)).key for more in ({}, {"cached": False}, {"cached": True})
    )
    assert plain == off != on


@pytest.mark.parametrize(
    ("fields", "what"), [({"augment": "crop-flip"}, "augment crop-flip"), ({"cutout": 4}, "cutou")]
)
def test_what_changes_pixels_is_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=f"has seen images as they are stored, and {what}"):
        taught(SIXTY | fields, "abc", cached=True)


def test_looking_at_smaller_images_is_refused(store: Store, sixty: Dataset) -> None:
    teacher = trained(store, SIXTY, epochs=1)
    smaller = SIXTY | {"strategy": {"name": "in-batch", "pass_size": 4}}
    with pytest.raises(TaskError, match="pass_size makes them smaller"):
        train(store, taught(smaller, teacher.key, cached=True), device="cpu")


def test_what_is_not_finite_is_refused(store: Store, sixty: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = trained(store, SIXTY, epochs=1)
    monkeypatch.setattr(Task, "forward", lambda _task, model, images, _: torch.full((len(images), 3), np.inf))
    with pytest.raises(TaskError, match="not finite as float16"):
        train(store, taught(SIXTY, teacher.key, cached=True), device="cpu")
