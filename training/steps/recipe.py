"""How to train: the recipe, its optimizer, its learning rate, its precision."""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are those of `tamis.training.job.TrainConfig`."""

    epochs: float  # that the schedule goes over
    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool
    schedule: Literal["cosine", "step", "milestones"]
    step_size: int
    gamma: float
    seed: int
    augment: Literal["none", "crop-flip", "zoom-flip"]
    precision: Literal["fp32", "bf16", "fp16"]
    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"
    rate_by: Literal["epochs", "backprops"] = "epochs"
    milestones: tuple[int, ...] | None = None
    cutout: int | None = None
    begins: float = 0.0  # what the schedule has behind it at the beginning


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, with its rate and weight decay; momentum and Nesterov's correction are of "sgd" alone."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def make_scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss where gradients are in fp16; does nothing elsewhere."""
    return torch.amp.GradScaler("cuda", enabled=recipe.precision == "fp16" and device.type == "cuda")


def learning_rate(recipe: Recipe, t: float) -> float:
    """The rate after t epochs.

    Cosine: lr (1 + cos(pi t / epochs)) / 2; step: lr gamma^floor(floor(t) / step_size); milestones: lr gamma^(how many
    of them are at most t).
    """
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * min(t / recipe.epochs, 1))) / 2
    if recipe.schedule == "milestones":
        return recipe.lr * recipe.gamma ** sum(t >= milestone for milestone in recipe.milestones or ())
    return recipe.lr * recipe.gamma ** (int(t) // recipe.step_size)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every parameter group's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision where there is a GPU; float32 elsewhere."""
    mixed = precision in _DTYPES and device.type == "cuda"
    return torch.autocast("cuda", dtype=_DTYPES.get(precision), enabled=mixed)
