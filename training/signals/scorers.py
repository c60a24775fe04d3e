"""Scorers: from what a model says of a sample to numbers that samples are ranked by.

What: a `Scorer` says which of its numbers mean a hard sample, high or low ones, and for which tasks it is made.
`SCORERS` has them by name; scoring (`tamis.training.signals.scoring`), selecting and the command line read it.
Keys: name and version enter the keys of scores. Raise the version when the same outputs come to have other numbers.
Cost: the forward pass is `tamis.training.signals.outputs`'; importing this loads no torch.

Adding one: a function from outputs and targets to columns, an entry in `SCORERS`, its test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tamis.training.errors import LabelError, TaskError

if TYPE_CHECKING:
    from torch import Tensor

    from tamis.training.tasks.contract import Task

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Scorer:
    """What a model's outputs say of each sample.

    Attributes:
        name, version: part of the keys of scores.
        metrics: the numbers that samples may be ranked by, and which of them mean a hard sample.
        unlabelled: those of them that need no labels.
        tasks: those that it is made for.
        score: from outputs float32 [B, K], targets [B] (None: there are none) and the task to columns [B] on the CPU:
            every metric, float64 or bool, NaN where there is none for a sample; perhaps others beside.
        code: digest of the source, for one that does not come with tamis.
    """

    name: str
    version: int
    metrics: Mapping[str, Direction]
    unlabelled: tuple[str, ...]
    tasks: frozenset[str]
    score: "Callable[[Tensor, Tensor | None, Task], dict[str, Tensor]]"
    code: str | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What enters keys."""
        return {"name": self.name, "version": self.version} | ({} if self.code is None else {"code": self.code})

    def check_task(self, task: str) -> None:
        """Refuse a task that it is not made for.

        Raises:
            TaskError: naming the tasks that it takes.
        """
        from tamis.training.tasks import get_task  # not above: commands are made from SCORERS at start-up

        if get_task(task).name not in self.tasks:
            raise TaskError(
                f"Scorer {self.name} takes models of {', '.join(sorted(self.tasks))}, but this one was trained for "
                f"{task}: score with another model."
            )


def uncertainty(outputs_BK: "Tensor", targets_B: "Tensor | None", task: "Task") -> "dict[str, Tensor]":
    """The measures of Selection via Proxy (`tamis.curation.uncertainty`), the prediction, and what labels say of it."""
    import torch

    from tamis.curation.uncertainty import MEASURES

    outputs_BK = outputs_BK.cpu()
    columns = {name: measure(outputs_BK).double() for name, measure in MEASURES.items()}
    columns["predicted"] = outputs_BK.argmax(dim=1)
    if targets_B is not None:
        known = task.known(outputs_BK, targets_B)
        losses = task.losses(outputs_BK.double(), torch.where(known, targets_B, 0))
        columns["loss"] = torch.where(known, losses, torch.nan)
        columns["correct"] = columns["predicted"] == targets_B
    return columns


UNCERTAINTY = Scorer(
    name="uncertainty",
    version=1,
    metrics={"confidence": "higher", "margin": "higher", "entropy": "higher", "loss": "higher", "correct": "lower"},
    unlabelled=("confidence", "margin", "entropy"),
    tasks=frozenset({"classification"}),
    score=uncertainty,
)


def el2n(outputs_BK: "Tensor", targets_B: "Tensor | None", task: "Task") -> "dict[str, Tensor]":
    """The norm of p - y (`tamis.curation.el2n`).

    Raises:
        LabelError: there are no labels.
    """
    import torch

    if targets_B is None:
        raise LabelError("EL2N is how far predictions are from labels, and there are none: score by uncertainty.")
    outputs_BK, targets_B = outputs_BK.cpu().double(), targets_B.cpu()
    known = task.known(outputs_BK, targets_B)
    norms = task.residuals(outputs_BK, torch.where(known, targets_B, 0)).norm(dim=1)
    return {"el2n": torch.where(known, norms, torch.nan)}


EL2N = Scorer(
    name="el2n",
    version=1,
    metrics={"el2n": "higher"},
    unlabelled=(),
    tasks=frozenset({"classification"}),
    score=el2n,
)
SCORERS: dict[str, Scorer] = {one.name: one for one in (UNCERTAINTY, EL2N)}
