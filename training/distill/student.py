"""A task that is learnt from a teacher as well: what the trainer is given where `TrainConfig.distill` asks for it.

What: `Student` forwards each batch through the student and through the teacher, on the same augmented images, and gives
both outputs side by side; its losses are Equation 1 (`tamis.training.distill.losses`). Everything else is the task's.
Evaluations tell the scale of both terms before they are weighed: `distill_truth` and `distill_teacher`.
Cost: a forward pass of the teacher for every one of the student, selection passes too.
How: the teacher is a finished run's model, in evaluation mode, without gradients. Teacher and student have the same
classes, and of detectors the same priors: widen the student's own name (`ssdlite-mobilenet@2`).
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tamis.training.distill.losses import Distilled, Equation, distil_classes, distil_priors
from tamis.training.errors import TaskError
from tamis.training.models.registry import ImageClassifier
from tamis.training.models.saved import open_model, trained_run
from tamis.training.tasks.contract import Task

if TYPE_CHECKING:
    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.config import Distill
    from tamis.training.streaming.batches import Batch, Beside, Targets


class Student(Task):
    """A task under a teacher.

    Args:
        task: classification, or detection by SSD.
        teacher: in evaluation mode.
        how: the equation.
    """

    name = "student"

    def __init__(self, task: Task, teacher: ImageClassifier, how: Equation) -> None:
        self._task, self._teacher, self._how = task, teacher, how

    @classmethod
    def of(cls, store: "Store", task: Task, asked: "Distill", box_weight: float) -> "Student":
        """The student that a configuration asks for.

        Raises:
            RunNotFound: the teacher is no finished training run.
            TaskError: the task cannot be distilled, or the teacher learnt another one.
        """
        run = trained_run(store, asked.run)
        assert run.blob is not None
        teacher, meta = open_model(store.blobs.get(run.blob), f"run {run.key[:12]}")
        if meta.task != task.name or task.name == "regression":
            raise TaskError(
                f"Run {run.key[:12]} learnt {meta.task}, and the student is to learn {task.name}: a teacher has the "
                "task of its student, classification or detection."
            )
        fields = asked.model_dump(exclude={"run"})
        return cls(task, teacher.requires_grad_(False), Equation(**fields, box_weight=box_weight))

    @property
    def in_image(self) -> bool:  # type: ignore[override]  # a property of the task that it is made of
        return self._task.in_image

    @property
    def judged(self) -> int:  # type: ignore[override]  # as above
        return self._task.judged

    def outputs(self, store: "Store", dataset: "Dataset", judged: "Dataset | None" = None) -> int:
        return self._task.outputs(store, dataset, judged)

    def classes(self, dataset: "Dataset") -> tuple[str, ...]:
        return self._task.classes(dataset)

    def targets(self, dataset: "Dataset") -> "Targets | Beside | None":
        return self._task.targets(dataset)

    def normalises(self, model: str) -> bool:
        return self._task.normalises(model)

    def forward(self, model: nn.Module, images_BCHW: Tensor, targets_B: Tensor) -> Tensor:
        """Outputs of the student and of the teacher, one after the other along the last axis."""
        said = self._task.forward(model, images_BCHW, targets_B).float()
        with torch.no_grad():
            teacher = self._teacher.to(images_BCHW.device).eval()
            told = self._task.forward(teacher, images_BCHW, targets_B).float()
        if self._task.in_image and (said.ndim != 3 or told.ndim != 3):
            raise TaskError("Distillation compares priors, which SSD alone has: give ssd or ssdlite as both models.")
        if said.shape != told.shape or (said.ndim == 3 and not torch.equal(said[0, :, :4], told[0, :, :4])):
            raise TaskError(
                f"The student gives {list(said.shape[1:])} outputs and the teacher {list(told.shape[1:])}, or their "
                "priors differ: both need the same classes and, of detectors, the same family and side; only the width "
                "may differ."
            )
        return torch.cat([said, told], dim=-1)

    def losses(self, outputs_BK: Tensor, targets_B: Tensor) -> Tensor:
        return self._terms(outputs_BK, targets_B).losses_B

    def known(self, outputs_BK: Tensor, targets_B: Tensor) -> Tensor:
        return self._task.known(outputs_BK.chunk(2, dim=-1)[0], targets_B)

    def right(self, outputs_BK: Tensor, targets_B: Tensor) -> Tensor | None:
        return self._task.right(outputs_BK.chunk(2, dim=-1)[0], targets_B)

    def measures(self, outputs_BK: Tensor, targets_B: Tensor) -> dict[str, Tensor]:
        terms = self._terms(outputs_BK, targets_B)
        own = self._task.measures(outputs_BK.chunk(2, dim=-1)[0], targets_B)
        return own | {"distill_truth": terms.truth_B, "distill_teacher": terms.teacher_B}

    def evaluate(
        self, model: nn.Module, batches: "Iterable[Batch]", device: torch.device | None = None
    ) -> dict[str, float]:
        """The task's measures of the student, and the means of both terms."""
        device = device or next(model.parameters()).device
        truth, teacher = list[Tensor](), list[Tensor]()

        def seen() -> "Iterator[Batch]":
            for batch in batches:
                targets_B = batch.labels.to(device)
                terms = self._terms(self.forward(model, batch.images.to(device), targets_B), targets_B)
                truth.append(terms.truth_B.double().cpu())
                teacher.append(terms.teacher_B.double().cpu())
                yield batch

        found: dict[str, Any] = self._task.evaluate(model, seen(), device)
        if not truth:
            return found
        means = {"distill_truth": float(torch.cat(truth).mean()), "distill_teacher": float(torch.cat(teacher).mean())}
        return found | means

    def _terms(self, outputs_BK: Tensor, targets_B: Tensor) -> Distilled:
        said, told = outputs_BK.chunk(2, dim=-1)
        distil = distil_priors if self._task.in_image else distil_classes
        return distil(said, told, targets_B, self._how)
