"""What a task is: what is learnt from a sample, and how good a model is at it.

What: training, evaluating, gathering gradients and scoring ask a `Task`: what of a sample is its target (`targets`),
how many outputs a model has (`outputs`), the loss of each sample (`losses`), and the numbers whose means say how good a
model is (`measures`). None of them knows a task by name.
How: tasks have no state. Importing one loads no torch.

Adding one: a file with a class, its entry in `tamis.training.tasks.TASKS`, its test. Raise `version` when the same
question comes to have another answer: it enters the keys of what is trained for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.streaming.batches import Batch, Beside, Targets


class Task(ABC):
    """What is learnt. Legend: B samples of a batch, K outputs of the model.

    Attributes:
        name: in `TASKS`.
        version: of what it computes.
        in_image: targets lie in the image, and follow what augmentation does to it (`tamis.training.steps.boxed`).
        judged: samples of a forward pass where a training run evaluates.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    in_image: ClassVar[bool] = False
    judged: ClassVar[int] = 256

    def bound(self, store: "Store", asked: "Mapping[str, Any]") -> "Task":
        """The task as a training run learns it; the same one where it needs nothing but the dataset.

        Args:
            store: the store.
            asked: the fields of the run's `TrainConfig`.
        """
        return self

    def classes(self, dataset: "Dataset") -> tuple[str, ...]:
        """What a model that learns a dataset calls its classes; may be empty."""
        return dataset.classes

    def normalises(self, model: str) -> bool:
        """Whether a model, by name, normalises pixels itself: it is given them scaled to 0..1."""
        return False

    def forward(self, model: "nn.Module", images_BCHW: "Tensor", targets_B: "Tensor") -> "Tensor":
        """What `losses` are computed from, of one pass over a batch.

        Args:
            model: takes uint8 images.
            images_BCHW: uint8, on the model's device.
            targets_B: for models whose losses come out of the pass itself.
        """
        return model(images_BCHW)

    @abstractmethod
    def outputs(self, store: "Store", dataset: "Dataset", judged: "Dataset | None" = None) -> int:
        """K: how many outputs a model has that learns a dataset, and is judged on another.

        Raises:
            LabelError: the labels are not those of this task, or the two datasets do not agree.
        """

    def targets(self, dataset: "Dataset") -> "Targets | Beside | None":
        """How a sample's target is read; None where it is its class number."""
        return None

    @abstractmethod
    def losses(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        """The loss of each sample, [B]; differentiable."""

    def residuals(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        """The gradient of each sample's loss with respect to its outputs, [B, K]."""
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            leaf = outputs_BK.clone().requires_grad_()
            return torch.autograd.grad(self.losses(leaf, targets_B.clone()).sum(), leaf)[0]

    @abstractmethod
    def known(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        """Which samples have a target that the model can be held against, bool [B]."""

    def right(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor | None":
        """Whether each prediction is right, bool [B]; None for tasks that know no right and wrong."""
        return None

    @abstractmethod
    def measures(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "dict[str, Tensor]":
        """Numbers of each sample, [B] each, whose means say how good the model is; among them `loss`."""

    def evaluate(
        self, model: "nn.Module", batches: "Iterable[Batch]", device: "torch.device | None" = None
    ) -> dict[str, float]:
        """How good a model is: means of its `measures`, every sample counting alike.

        Args:
            model: takes uint8 images; it is put in evaluation mode.
            batches: what to judge it on, with this task's targets.
            device: where the model is; by default where its first parameter is.

        Returns:
            Empty where there are no batches.
        """
        import torch

        count = 0
        totals: dict[str, torch.Tensor] = {}
        model.eval()
        device = device or next(model.parameters()).device
        with torch.inference_mode():
            for batch in batches:
                outputs_BK = model(batch.images.to(device, non_blocking=True)).float()
                for name, values_B in self.measures(outputs_BK, batch.labels.to(device, non_blocking=True)).items():
                    total = values_B.sum(dtype=torch.float64)
                    totals[name] = total if name not in totals else totals[name] + total
                count += len(batch.samples)
        return {name: float(total) / count for name, total in totals.items()}
