"""What the steps of a training run change, and its books: what a checkpoint holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tamis.training.loop import Recipe, Step, make_optimizer, make_scaler
from tamis.training.models.registry import ImageClassifier
from tamis.training.strategies.contract import Statistics


@dataclass
class Books:
    """Where a training run is and what it has cost, earlier tries included."""

    epoch: int = 0
    position: int = 0  # samples of the epoch consumed
    steps: int = 0
    samples_read: int = 0
    bytes_read: int = 0
    train_loss: float = 0.0  # mean of the last whole epoch
    seconds: float = 0.0
    selecting: float = 0.0
    evaluating: float = 0.0
    streaming: float = 0.0  # waiting for batches
    history: list[dict[str, float]] = field(default_factory=list)


class Learner:
    """Model, optimizer and loss scale.

    Args:
        network: untrained; its weights are changed.
        statistics: of the pixels.
        recipe: how to train.
        device: where to.
    """

    def __init__(self, network: torch.nn.Module, statistics: Statistics, recipe: Recipe, device: torch.device) -> None:
        self.statistics = statistics
        self.model = ImageClassifier(network, statistics.mean, statistics.std).to(device)
        self.optimizer = make_optimizer(self.model, recipe)
        self.scaler = make_scaler(recipe, device)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "mean": list(self.statistics.mean),
            "std": list(self.statistics.std),
            "network": self.model.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> "Learner":
        """Go on from a checkpoint.

        Raises:
            KeyError, ValueError, RuntimeError: it is another model's.
        """
        self.model.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        return self


def together(steps: Sequence[Step]) -> Step:
    """The steps of an epoch as one."""
    if not steps:
        return Step(torch.zeros(0, dtype=torch.int64), torch.zeros(0), 0)
    samples, losses = torch.cat([step.samples_B for step in steps]), torch.cat([step.losses_B for step in steps])
    return Step(samples, losses, sum(step.read for step in steps))
