"""What the steps of a training run change, and its books: what a checkpoint holds."""

from dataclasses import dataclass, field
from typing import Any

import torch

from tamis.training.models.registry import ImageClassifier
from tamis.training.steps.recipe import Recipe, make_optimizer, make_scaler
from tamis.training.strategies.contract import Statistics


@dataclass
class Books:
    """Where a training run is and what it has cost, earlier tries included."""

    epoch: int = 0
    position: int = 0  # samples of the epoch consumed
    steps: int = 0
    backprops: int = 0  # samples stepped on
    kept: int = 0  # bytes of activations that selection passes kept at a time
    samples_read: int = 0
    bytes_read: int = 0
    train_loss: float = 0.0  # mean of the last whole epoch
    seconds: float = 0.0
    selecting: float = 0.0
    evaluating: float = 0.0
    streaming: float = 0.0  # waiting for batches
    parts: dict[str, float] = field(default_factory=dict)  # of the steps, s: forward passes, backward
    stopped: dict[str, float] = field(default_factory=dict)  # where the clock stopped it: seconds, epoch, step
    history: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)  # what was loaded of a file at the beginning


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
