"""Classification: one class a sample, learnt by cross-entropy.

Labels are class numbers (0, 1, 2, ...), whether the shards hold them or names that the dataset has numbered. A model
has one output, a logit, for each class.
"""

from typing import TYPE_CHECKING

from tamis.store.shards.labels import LARGEST_LABEL
from tamis.training.errors import LabelError
from tamis.training.tasks.contract import Task

if TYPE_CHECKING:
    from torch import Tensor

    from tamis.store import Store
    from tamis.store.datasets import Dataset


class Classification(Task):
    """Measures: `accuracy`, the share of samples whose class has the largest logit, and `loss`."""

    name = "classification"

    def outputs(self, store: "Store", dataset: "Dataset", judged: "Dataset | None" = None) -> int:
        top = _top(store, dataset)
        classes = max(len(dataset.classes), top + 1)
        other = top if judged is None else _top(store, judged)
        if other >= classes:
            assert judged is not None
            raise LabelError(
                f"{judged.ref} has a label {other}, and a model of {dataset.ref} knows classes 0 to {classes - 1}: "
                "evaluate on data of the same classes."
            )
        return classes

    def losses(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.cross_entropy(outputs_BK, targets_B, reduction="none")

    def residuals(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        """softmax(logits), less 1 at the sample's class."""
        import torch
        from torch.nn import functional

        residuals_BK = functional.softmax(outputs_BK, dim=1)
        residuals_BK[torch.arange(len(outputs_BK), device=outputs_BK.device), targets_B] -= 1
        return residuals_BK

    def known(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        return (targets_B >= 0) & (targets_B < outputs_BK.shape[1])

    def right(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        """The class of the largest logit is the sample's."""
        return outputs_BK.argmax(dim=1) == targets_B

    def measures(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "dict[str, Tensor]":
        return {"accuracy": self.right(outputs_BK, targets_B), "loss": self.losses(outputs_BK, targets_B)}


def _top(store: "Store", dataset: "Dataset") -> int:
    """The largest class number.

    Raises:
        LabelError: there are no labels, or they are out of range.
    """
    from tamis.training.streaming.lookup import Index

    labels = Index.open(store, dataset).labels
    if dataset.label is None or labels.min() < 0:
        raise LabelError(
            f"{dataset.ref} has samples without a class number (0 or more; its label is {dataset.label or 'none'}): "
            "add it with labels, or train another task on it."
        )
    if labels.max() > LARGEST_LABEL:  # stores from before labels had a range may hold any
        raise LabelError(
            f"{dataset.ref} has a label {labels.max()}: class numbers go up to {LARGEST_LABEL:,}, and a model has an "
            "output for each. Number the classes from 0, and add the shards under another name."
        )
    return int(labels.max())
