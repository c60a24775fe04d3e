"""The training step: stochastic gradient descent on a weighted loss.

For a batch of B images x with labels y and weights w, and parameters theta:

    x'     = augment(x; seed, epoch, position)
    l_i    = l(f(x'_i; theta), y_i)               the task's loss: cross-entropy for classification
    L      = sum_i l_i w_i / n                     n = sum_j w_j, or what the strategy says (`weighted_mean`)
    g      = dL/dtheta + weight_decay theta
    v      = momentum v + g
    theta  = theta - lr(t) (g + momentum v)        (Nesterov; without it: theta - lr(t) v)

with t = epoch + position / n, the epochs trained so far; or the steps of Adam or RMSProp in place of the last three
lines. Everything random is a function of (seed, epoch, position), so a run that stops at a position and goes on there
takes the same steps as one that never stopped. A strategy that looks at losses (`Guide`) sees each batch before the
step, as it was augmented, and says what of it is trained on.

When: through `tamis.training.job.train`; alone, to see or to change what training does.
Cost: one forward and one backward pass a batch, and a forward pass more where the strategy looks. On a GPU, autocast to
bf16 or fp16 (with loss scaling) halves it.
Source: the weighted loss is Grad-Match's, K. Killamsetty et al., ICML 2021; the schedules are K. He et al., ECCV 2016
(step) and I. Loshchilov, F. Hutter, "SGDR", ICLR 2017 (cosine); random crop and flip, C.-Y. Lee et al., AISTATS 2015.

Legend: B batch, C channels, H height, W width.
"""

import math
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tamis.training.errors import NonFiniteLoss
from tamis.training.seeds import derive_seed
from tamis.training.streaming.batches import Batch
from tamis.training.tasks import CLASSIFICATION
from tamis.training.tasks.contract import Task

PADDING = 4
Normaliser = Literal["weights", "samples"] | int
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are those of `tamis.training.job.TrainConfig`."""

    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool
    schedule: Literal["cosine", "step"]
    step_size: int
    gamma: float
    seed: int
    augment: Literal["none", "crop-flip"]
    precision: Literal["fp32", "bf16", "fp16"]
    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"


class Step(NamedTuple):
    """What one step saw."""

    samples_B: Tensor  # int64, on the CPU: what was trained on, perhaps nothing
    losses_B: Tensor  # float32, on the device, before the step
    read: int  # samples of the epoch that were consumed for it


class At(NamedTuple):
    """Where a training run is."""

    epoch: int
    position: int  # samples of the epoch consumed
    step: int  # steps done, over all epochs


class Guide(Protocol):
    """What the loop asks a strategy (`tamis.training.strategies.contract`)."""

    @property
    def normaliser(self) -> Normaliser:
        """What a step's weighted sum of losses is divided by."""
        ...

    @property
    def looks(self) -> bool:
        """Whether `take` is called: that costs a forward pass for each batch."""
        ...

    def take(self, at: At, batch: Batch, losses_B: Tensor, generator: torch.Generator) -> Batch | None:
        """What of a batch, or of those before it, is trained on now; None: nothing."""
        ...

    def after_step(self, at: At, step: Step) -> None:
        """Hear of a step that was done."""
        ...


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


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    recipe: Recipe,
    *,
    at: At,
    size: int,
    device: torch.device,
    guide: Guide | None = None,
    task: Task = CLASSIFICATION,
) -> Generator[Step]:
    """Train on what is left of an epoch, step by step: the caller draws the steps.

    Seeds the global random state before each step (dropout draws from it): call it inside `torch.random.fork_rng`.

    Args:
        model: takes uint8 images and gives logits; it is put in training mode.
        batches: of the epoch, from the position on.
        optimizer: from `make_optimizer`.
        scaler: from `make_scaler`.
        recipe: how to train.
        at: where the epoch stands.
        size: how many samples the epoch has.
        device: where the model is.
        guide: the strategy; None trains on every batch as it is, under the sum of its weights.
        task: what is learnt; its targets are the batches' labels.

    Yields:
        Each step when it is done, or a batch was read and nothing of it taken. Whether a step's losses were finite
        shows after the next one, or in `check_finite`.

    Raises:
        NonFiniteLoss: naming epoch, step and how many losses are not finite.
    """
    model.train()
    step: Step | None = None
    epoch, position, number = at
    for batch in batches:
        set_rate(optimizer, learning_rate(recipe, epoch + position / size))
        torch.manual_seed(derive_seed(recipe.seed, "step", epoch, position))
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "augment", epoch, position))
        here, read, how, taken = At(epoch, position, number), len(batch.samples), recipe, batch
        if guide is not None and guide.looks:
            taken = _look(model, batch, recipe, guide, task, here, generator, device)
            how = replace(recipe, augment="none")
        if taken is None:
            made = Step(batch.samples[:0], torch.zeros(0, device=device), read)
        else:
            normaliser = "weights" if guide is None else guide.normaliser
            losses_B = train_step(model, taken, optimizer, scaler, how, generator, device, normaliser, task)
            made = Step(taken.samples.cpu(), losses_B, read)
            if guide is not None:
                guide.after_step(here, made)
        # Looking at a loss waits for the GPU. The step before is done by now, and the GPU stays busy with this one.
        if step is not None:
            check_finite(step, At(epoch, position, number), recipe)
        step, position, number = made, position + read, number + bool(len(made.samples_B))
        yield step
    if step is not None:
        check_finite(step, At(epoch, position, number), recipe)


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    recipe: Recipe,
    generator: torch.Generator,
    device: torch.device,
    normaliser: Normaliser = "weights",
    task: Task = CLASSIFICATION,
) -> Tensor:
    """One step; the losses [B] before it, float32."""
    count = len(batch.samples)
    if count == 1:
        normaliser = 2 * normaliser if isinstance(normaliser, int) else normaliser
        # BatchNorm needs two values a channel, and late layers may leave one pixel of an image. Twins have the mean and
        # the loss of the one.
        batch = Batch(*(torch.cat([part, part]) for part in batch))
    images_BCHW = augment(batch.images.to(device, non_blocking=True), recipe.augment, generator)
    labels_B, weights_B = batch.labels.to(device, non_blocking=True), batch.weights.to(device, non_blocking=True)
    with autocast(recipe.precision, device):
        logits_BK = model(images_BCHW)
    losses_B = task.losses(logits_BK.float(), labels_B)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(weighted_mean(losses_B, weights_B, normaliser)).backward()
    scaler.step(optimizer)
    scaler.update()
    return losses_B.detach()[:count]


def weighted_mean(losses_B: Tensor, weights_B: Tensor, normaliser: Normaliser = "weights") -> Tensor:
    """dot(losses, w / n) for weights of 0 or more; 0 where all weights are 0 (a rank's padding).

    Args:
        losses_B, weights_B: float32.
        normaliser: n: "weights" is their sum, so only their proportions count (Grad-Match); "samples" is B, so weights
            that make up for samples left out keep the gradient unbiased; a number is that, whatever the batch has.
    """
    if normaliser == "weights":
        return torch.dot(losses_B, weights_B / weights_B.sum().clamp(min=torch.finfo(weights_B.dtype).tiny))
    return torch.dot(losses_B, weights_B / (len(weights_B) if normaliser == "samples" else normaliser))


@torch.no_grad()
def _look(
    model: nn.Module,
    batch: Batch,
    recipe: Recipe,
    guide: Guide,
    task: Task,
    at: At,
    generator: torch.Generator,
    device: torch.device,
) -> Batch | None:
    """What a strategy takes of a batch, augmented as it is going to be trained on, by the losses that it has now."""
    images_BCHW = augment(batch.images.to(device, non_blocking=True), recipe.augment, generator)
    model.eval()  # so that looking leaves the statistics of BatchNorm as they are
    with autocast(recipe.precision, device):
        logits_BK = model(images_BCHW)
    model.train()
    losses_B = task.losses(logits_BK.float(), batch.labels.to(device, non_blocking=True))
    chosen = torch.Generator().manual_seed(derive_seed(recipe.seed, "take", at.epoch, at.position))
    return guide.take(at, batch._replace(images=images_BCHW), losses_B, chosen)


def learning_rate(recipe: Recipe, t: float) -> float:
    """The rate after t epochs: lr (1 + cos(pi t / epochs)) / 2, or lr gamma^floor(floor(t) / step_size)."""
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * min(t / recipe.epochs, 1))) / 2
    return recipe.lr * recipe.gamma ** (int(t) // recipe.step_size)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every parameter group's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def augment(images_BCHW: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Images shifted by up to 4 pixels over a black border and mirrored at random; "none" gives them back.

    Args:
        images_BCHW: uint8, on any device.
        how: "none" or "crop-flip".
        generator: of the CPU, so that every device gets the same shifts.
    """
    if how == "none":
        return images_BCHW
    count, _, height, width = images_BCHW.shape
    shift_B2 = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    flip_B = torch.randint(0, 2, (count, 1), generator=generator, dtype=torch.bool)
    rows_BH = shift_B2[:, :1] + torch.arange(height)
    columns_W = torch.arange(width)
    columns_BW = shift_B2[:, 1:] + torch.where(flip_B, columns_W.flip(0), columns_W)
    rows_BH, columns_BW = rows_BH.to(images_BCHW.device), columns_BW.to(images_BCHW.device)
    padded = functional.pad(images_BCHW, (PADDING,) * 4)
    which = torch.arange(count, device=images_BCHW.device)[:, None, None]
    # Indices around a slice put the slice last: [B, H, W, C], which is the layout that convolutions want.
    return padded[which, :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision where there is a GPU; float32 elsewhere."""
    mixed = precision in _DTYPES and device.type == "cuda"
    return torch.autocast("cuda", dtype=_DTYPES.get(precision), enabled=mixed)


def check_finite(step: Step, at: At, recipe: Recipe) -> None:
    """Refuse a step that had losses which are not finite.

    Args:
        step: the step.
        at: where the training run is after it.
        recipe: for the advice.

    Raises:
        NonFiniteLoss: naming epoch, step and how many losses are not finite.
    """
    bad = int((~step.losses_B.isfinite()).sum())
    if bad:
        raise NonFiniteLoss(
            f"{bad} of {len(step.losses_B)} losses are NaN or infinite in epoch {at.epoch}, step {at.step} of the run: "
            f"the training has diverged. Lower the learning rate (it is {recipe.lr}), or train in fp32."
        )
