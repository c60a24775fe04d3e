"""A task that is learnt from a teacher as well: what the trainer is given where `TrainConfig.distill` asks for it.

What: `Student` forwards each batch through the student and through the teacher, on the same augmented images, and gives
both outputs side by side; its losses are Equation 1 (`tamis.training.distill.losses`). Everything else is the task's.
Evaluations tell the scale of both terms before they are weighed: `distill_truth` and `distill_teacher`.
Cost: a forward pass of the teacher for every one of the student, selection passes too; with `Distill.cached` one for
each sample, ever, and nothing where an earlier run asked (`tamis.training.distill.told`). Answers are rounded to
float16 then.
How: the teacher is a finished run's model, in evaluation mode, without gradients. Teacher and student have the same
classes, and of detectors the same priors: widen the student's own name (`ssdlite-mobilenet@2`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tamis.training.distill.losses import Distilled, Equation, distil_classes, distil_priors
from tamis.training.distill.told import Teacher, Told, parted
from tamis.training.errors import TaskError
from tamis.training.models.detectors.names import parse
from tamis.training.models.detectors.ssd import CORNERS
from tamis.training.models.registry import ImageClassifier
from tamis.training.models.saved import open_model, trained_run
from tamis.training.streaming.batches import Beside, Images
from tamis.training.tasks.contract import Task

if TYPE_CHECKING:
    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.config import Plan, TrainConfig
    from tamis.training.streaming.batches import Batch, Targets


class Student(Task):
    """A task under a teacher.

    Args:
        task: classification, or detection by SSD.
        teacher: in evaluation mode.
        how: the equation.
        told: the teacher's answers, which batches then carry; None asks the teacher for each batch.
    """

    name = "student"

    def __init__(self, task: Task, teacher: ImageClassifier, how: Equation, told: Told | None = None) -> None:
        self._task, self._teacher, self._how, self._told = task, teacher, how, told
        self._beside = dict[str, Beside]()

    @classmethod
    def of(
        cls, store: "Store", task: Task, plan: "Plan", device: torch.device, notify: Callable[[str], None]
    ) -> "Student":
        """The student that a configuration asks for.

        Args:
            store: the store.
            task: that is learnt.
            plan: of the training run; it distils.
            device: where to compute the teacher's answers, where they are kept.
            notify: called with a sentence when something is worth knowing.

        Raises:
            RunNotFound: the teacher is no finished training run.
            TaskError: the task cannot be distilled, or the teacher learnt another one.
        """
        config, asked = plan.config, plan.config.distill
        assert asked is not None
        run = trained_run(store, asked.run)
        assert run.blob is not None
        teacher, meta = open_model(store.blobs.get(run.blob), f"run {run.key[:12]}")
        if meta.task != task.name or task.name == "regression":
            raise TaskError(
                f"Run {run.key[:12]} learnt {meta.task}, and the student is to learn {task.name}: a teacher has the "
                "task of its student, classification or detection."
            )
        how = Equation(**asked.model_dump(exclude={"run", "cached"}), box_weight=config.box_weight)
        teacher = teacher.requires_grad_(False)
        if not asked.cached:
            return cls(task, teacher, how)
        _check_cached(config, meta.model)
        images = Images(config.channels, config.image_size)
        return cls(task, teacher, how, Told(store, Teacher(teacher, run.blob, task, images, device), notify))

    @property
    def facts(self) -> dict[str, Any]:
        """For a run's metrics: what keeping the teacher's answers came to."""
        told = self._told
        return {} if told is None else {"teacher": {"asked": told.asked, "bytes": told.bytes}}

    @property
    def in_image(self) -> bool:  # type: ignore[override]  # a property of the task that it is made of
        return self._told is None and self._task.in_image

    @property
    def judged(self) -> int:  # type: ignore[override]  # as above
        return self._task.judged

    def outputs(self, store: "Store", dataset: "Dataset", judged: "Dataset | None" = None) -> int:
        return self._task.outputs(store, dataset, judged)

    def classes(self, dataset: "Dataset") -> tuple[str, ...]:
        return self._task.classes(dataset)

    def targets(self, dataset: "Dataset") -> "Targets | Beside | None":
        own = self._task.targets(dataset)
        if self._told is None:
            return own
        if dataset.key not in self._beside:
            self._beside[dataset.key] = self._told.beside(dataset, own)
        return self._beside[dataset.key]

    def normalises(self, model: str) -> bool:
        return self._task.normalises(model)

    def forward(self, model: nn.Module, images_BCHW: Tensor, targets_B: Tensor) -> Tensor:
        """Outputs of the student and of the teacher, one after the other along the last axis."""
        said = self._task.forward(model, images_BCHW, self._own(targets_B)).float()
        told = self._answers(said, images_BCHW, targets_B)
        if self._task.in_image and (said.ndim != 3 or told.ndim != 3):
            raise TaskError("Distillation compares priors, which SSD alone has: give ssd or ssdlite as both models.")
        if said.shape != told.shape or (said.ndim == 3 and not torch.equal(said[0, :, :4], told[0, :, :4])):
            raise _differing(said, told)
        return torch.cat([said, told], dim=-1)

    def _answers(self, said: Tensor, images_BCHW: Tensor, targets_B: Tensor) -> Tensor:
        """The teacher's outputs."""
        if self._told is None:
            with torch.no_grad():
                return self._task.forward(self._teacher.to(images_BCHW.device).eval(), images_BCHW, targets_B).float()
        told_BE = parted(targets_B, self._told.width, self._task.in_image)[1]
        if said.ndim == 2:
            return told_BE
        if said.ndim != 3 or told_BE.shape[1] != said[0, :, CORNERS:].numel():
            raise _differing(said, told_BE)
        return torch.cat([said[:, :, :CORNERS].detach(), told_BE.view_as(said[:, :, CORNERS:])], dim=2)

    def _own(self, targets_B: Tensor) -> Tensor:
        """The task's targets."""
        told = self._told
        return targets_B if told is None else parted(targets_B, told.width, self._task.in_image)[0]

    def losses(self, outputs_BK: Tensor, targets_B: Tensor) -> Tensor:
        return self._terms(outputs_BK, targets_B).losses_B

    def known(self, outputs_BK: Tensor, targets_B: Tensor) -> Tensor:
        return self._task.known(outputs_BK.chunk(2, dim=-1)[0], self._own(targets_B))

    def right(self, outputs_BK: Tensor, targets_B: Tensor) -> Tensor | None:
        return self._task.right(outputs_BK.chunk(2, dim=-1)[0], self._own(targets_B))

    def measures(self, outputs_BK: Tensor, targets_B: Tensor) -> dict[str, Tensor]:
        terms = self._terms(outputs_BK, targets_B)
        own = self._task.measures(outputs_BK.chunk(2, dim=-1)[0], self._own(targets_B))
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
                yield batch._replace(labels=self._own(batch.labels))

        found: dict[str, Any] = self._task.evaluate(model, seen(), device)
        if not truth:
            return found
        means = {"distill_truth": float(torch.cat(truth).mean()), "distill_teacher": float(torch.cat(teacher).mean())}
        return found | means

    def _terms(self, outputs_BK: Tensor, targets_B: Tensor) -> Distilled:
        said, told = outputs_BK.chunk(2, dim=-1)
        distil = distil_priors if self._task.in_image else distil_classes
        return distil(said, told, self._own(targets_B), self._how)


def _differing(said: Tensor, told: Tensor) -> TaskError:
    return TaskError(
        f"The student gives {list(said.shape[1:])} outputs and the teacher {list(told.shape[1:])}, or their priors "
        "differ: both need the same classes and, of detectors, the same family and side; only the width may differ."
    )


def _check_cached(config: "TrainConfig", teacher: str) -> None:
    """That answers which are kept are those to the images that the student sees, and of its own priors."""
    if getattr(config.strategy, "pass_size", None) is not None:
        raise TaskError(
            "A teacher whose answers are cached has seen images at the size that is trained on, and pass_size makes "
            "them smaller: leave it out, or distil without caching."
        )
    theirs, ours = parse(teacher), parse(config.model)
    if ours is not None and (theirs is None or (theirs.family, theirs.side) != (ours.family, ours.side)):
        raise TaskError(
            f"The teacher is {teacher} and the student {config.model}, which have other priors: give the same family "
            "and side; only the width may differ."
        )
