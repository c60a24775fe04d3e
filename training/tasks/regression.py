"""Regression: one number a sample, learnt by the square of the error.

Labels are numbers that the dataset was added with (`--label number:txt`, `number:json:price`). A model has one output.
Nothing is scaled: numbers that are far from 0, or from each other, are better divided before they are packed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tamis.store.shards.labels import Label, parse_label, read_number
from tamis.training.errors import DecodeError, LabelError
from tamis.training.tasks.contract import Task

if TYPE_CHECKING:
    from torch import Tensor

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.streaming.batches import Targets


class Regression(Task):
    """Measures: `loss`, the squared error, and `error`, the absolute one."""

    name = "regression"

    def outputs(self, store: "Store", dataset: "Dataset", judged: "Dataset | None" = None) -> int:
        for one in (dataset, judged):
            if one is not None and (one.label is None or one.has_classes):
                raise LabelError(
                    f"{one.ref} has no regression targets (its label is {one.label or 'none'}): add it with --label "
                    "number:MEMBER, or number:json:PATH."
                )
        return 1

    def targets(self, dataset: "Dataset") -> "Targets":
        from tamis.training.streaming.batches import Targets

        assert dataset.label is not None
        label = parse_label(dataset.label)
        return Targets(label.member, partial(_numbers, label))

    def losses(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        return (outputs_BK[:, 0] - targets_B) ** 2

    def known(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        return targets_B.isfinite()

    def measures(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "dict[str, Tensor]":
        return {"loss": self.losses(outputs_BK, targets_B), "error": (outputs_BK[:, 0] - targets_B).abs()}


def _numbers(label: Label, members: Sequence[bytes], name: Callable[[int], str]) -> NDArray[np.float32]:
    found = np.empty(len(members), np.float32)
    for i, content in enumerate(members):
        try:
            found[i] = read_number(bytes(content), label)
        except ValueError as error:
            raise DecodeError(f"{name(i)}: its member {label.member} is not a number: {error}.") from error
    return found
