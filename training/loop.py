"""The training step: stochastic gradient descent on a weighted loss.

For a batch of B images x with labels y and weights w, and parameters theta:

    x'     = augment(x; seed, epoch, position)    crop, flip and cutout
    l_i    = l(f(x'_i; theta), y_i)               the task's loss: cross-entropy for classification
    L      = sum_i l_i w_i / n                     n = sum_j w_j, or what the strategy says (`weighted_mean`)
    g      = dL/dtheta + weight_decay theta
    v      = momentum v + g
    theta  = theta - lr(t) (g + momentum v)        (Nesterov; without it: theta - lr(t) v)

with t = epoch + position / n, the epochs trained so far, or where the recipe counts backprops the samples stepped on
over those of the dataset; or the steps of Adam or RMSProp in place of the last three lines. Everything random is a
function of (seed, epoch, position), so a run that stops at a position and goes on there takes the same steps as one
that never stopped. A strategy that takes (`Guide`) sees each batch before the step, as it was augmented, with its
losses where it looks at them, and says what is trained on now: nothing, one batch, or several.

When: through `tamis.training.job.train`; alone, to see or to change what training does.
Cost: one forward and one backward pass a batch, and a forward pass more where the strategy looks. On a GPU, autocast to
bf16 or fp16 (with loss scaling) halves it.
Source: the weighted loss is Grad-Match's, K. Killamsetty et al., ICML 2021; the schedules are K. He et al., ECCV 2016
(step, milestones) and I. Loshchilov, F. Hutter, "SGDR", ICLR 2017 (cosine); random crop and flip, C.-Y. Lee et al.,
AISTATS 2015; cutout, T. DeVries, G. W. Taylor, 2017 (`tamis.training.steps.cutout`).

Legend: B batch, C channels, H height, W width.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tamis.training.errors import NonFiniteLoss
from tamis.training.seeds import derive_seed
from tamis.training.steps.augment import augmented, resized
from tamis.training.steps.kept import Kept
from tamis.training.steps.recipe import Recipe, autocast, learning_rate, set_rate
from tamis.training.steps.stopwatch import Stopwatch
from tamis.training.streaming.batches import Batch
from tamis.training.tasks import CLASSIFICATION
from tamis.training.tasks.contract import Task

Normaliser = Literal["weights", "samples"] | int


class Step(NamedTuple):
    """What the steps on a batch that was read saw."""

    samples_B: Tensor  # int64, on the CPU: what was trained on, perhaps nothing
    losses_B: Tensor  # float32, on the device, before the step
    read: int  # samples of the epoch that were consumed for it
    steps: int = 1  # that were taken
    right_B: Tensor | None = None  # bool, on the device: whether the prediction was right, where a task can tell
    settled: bool = True  # whether nothing waits that a checkpoint could not hold
    kept: int = 0  # bytes of activations that selection passes kept for training, at most so far


class At(NamedTuple):
    """Where a training run is."""

    epoch: int
    position: int  # samples of the epoch consumed
    step: int  # steps done, over all epochs
    backprops: int = 0  # samples stepped on, over all epochs


class Looked(NamedTuple):
    """What a model says of a batch before it is trained on."""

    losses_B: Tensor  # float32, on the device
    right_B: Tensor | None  # bool, on the device


class Looking(NamedTuple):
    """How a strategy looks: cheaper than training, if it likes."""

    precision: str = "as trained"  # or "bf16", "fp16" on a GPU
    image_size: int | None = None  # pixels that images are made smaller to; None looks at them as they are
    keep: int = (
        0  # keep the activations, and update when so many samples are chosen (`tamis.training.steps.kept`); 0: do not
    )


class Guide(Protocol):
    """What the loop asks a strategy (`tamis.training.strategies.contract`)."""

    @property
    def normaliser(self) -> Normaliser:
        """What a step's weighted sum of losses is divided by."""
        ...

    @property
    def takes(self) -> bool:
        """Whether `take` is called."""
        ...

    def looking(self, at: At) -> Looking | None:
        """How losses are got for `take`, by a forward pass over the batch read there; None: without."""
        ...

    def take(self, at: At, batch: Batch, looked: Looked | None, generator: torch.Generator) -> Iterable[Batch]:
        """What of a batch, and of those before it, is trained on now."""
        ...

    def rest(self, at: At) -> Iterable[Batch]:
        """What is left to be trained on when an epoch has been read."""
        ...

    def after_step(self, at: At, step: Step) -> None:
        """Hear of a step that was done."""
        ...


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
    whole: int | None = None,
    watch: Stopwatch | None = None,
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
        whole: samples of the dataset, which backprops are counted against; None: `size`.
        watch: is told what took how long.

    Yields:
        For each batch that was read, when its steps are done or nothing was taken, and for what was left at the end.
        Whether losses were finite shows after the next one, or in `check_finite`.

    Raises:
        NonFiniteLoss: naming epoch, step and how many losses are not finite.
    """
    model.train()
    turn = _Turn(model, optimizer, scaler, recipe, device, guide, task, watch or Stopwatch(device))
    step: Step | None = None
    for batch in chain(batches, (None,)):
        t = at.epoch + at.position / size if recipe.rate_by == "epochs" else at.backprops / (whole or size)
        set_rate(optimizer, learning_rate(recipe, recipe.begins + t))
        torch.manual_seed(derive_seed(recipe.seed, "step", at.epoch, at.position, *([] if batch else ["rest"])))
        made = turn.take(at, batch) if batch is not None else turn.rest(at)
        # Looking at a loss waits for the GPU. The step before is done by now, and the GPU stays busy with this one.
        if step is not None:
            check_finite(step, at, recipe)
        step = made
        at = At(at.epoch, at.position + made.read, at.step + made.steps, at.backprops + len(made.samples_B))
        if batch is not None or made.steps:
            yield step
    if step is not None:
        check_finite(step, at, recipe)


@dataclass(frozen=True)
class _Turn:
    """What is done with each batch that was read."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    recipe: Recipe
    device: torch.device
    guide: Guide | None
    task: Task
    watch: Stopwatch
    kept: Kept = field(default_factory=Kept)

    def take(self, at: At, batch: Batch) -> Step:
        generator = torch.Generator().manual_seed(derive_seed(self.recipe.seed, "augment", at.epoch, at.position))
        read = len(batch.samples)
        if self.guide is None or not self.guide.takes:
            return self._steps(at, [batch], read, self.recipe, generator)
        images_BCHW = batch.images.to(self.device, non_blocking=True)
        batch = batch._replace(images=images_BCHW)
        batch = augmented(self.model, batch, self.recipe, generator, self.task.in_image)
        how = self.guide.looking(at)
        looked = None if how is None else self._look(batch, how)
        drawing = torch.Generator().manual_seed(derive_seed(self.recipe.seed, "take", at.epoch, at.position))
        known = None if looked is None else looked._replace(losses_B=looked.losses_B.detach())
        with self.watch.of("selection_step"):
            taken = self.guide.take(at, batch, known, drawing)
        if how is not None and how.keep:
            assert looked is not None
            for part in taken:
                self.kept.add(batch, part, *looked)
            return self._update(at, read) if self.kept.samples >= how.keep else self._nothing(read)
        return self._steps(at, taken, read, self._plain(), generator)

    def rest(self, at: At) -> Step:
        if self.kept.samples:
            return self._update(at, 0)
        left = () if self.guide is None or not self.guide.takes else self.guide.rest(at)
        return self._steps(at, left, 0, self._plain(), torch.Generator())

    def _nothing(self, read: int) -> Step:
        return together([], self.device)._replace(read=read, settled=not self.kept.samples, kept=self.kept.peak)

    def _update(self, at: At, read: int) -> Step:
        """A step on all that is kept."""
        assert self.guide is not None
        losses_K, weights_K, samples_K, right_K = self.kept.take()
        with self.watch.of("backward"):
            step_on(losses_K, weights_K.to(self.device), self.optimizer, self.scaler, self.guide.normaliser)
        made = Step(samples_K, losses_K.detach(), read, 1, right_K, kept=self.kept.peak)
        self.guide.after_step(at, made)
        return made

    def _plain(self) -> Recipe:
        """For images that are augmented already."""
        return replace(self.recipe, augment="none", cutout=None)

    def _steps(self, at: At, batches: Iterable[Batch], read: int, recipe: Recipe, generator: torch.Generator) -> Step:
        """A step on each of some batches; what they saw, as one."""
        normaliser = "weights" if self.guide is None else self.guide.normaliser
        made: list[Step] = []
        for batch in batches:
            seen = train_step(
                self.model, batch, self.optimizer, self.scaler, recipe, generator, self.device, normaliser, self.task,
                self.watch,
            )  # fmt: skip
            here = at._replace(step=at.step + len(made), backprops=at.backprops + _samples(made))
            made.append(Step(batch.samples.cpu(), seen.losses_B, 0, 1, seen.right_B))
            if self.guide is not None:
                self.guide.after_step(here, made[-1])
        return together(made, self.device)._replace(read=read)

    def _look(self, batch: Batch, how: Looking) -> Looked:
        """What the model as it is says of a batch, augmented as it is going to be trained on.

        In evaluation mode, so that looking leaves the statistics of BatchNorm as they are; where activations are kept
        it is the pass of training, too.
        """
        if how.image_size is not None:
            batch = resized(batch, how.image_size, self.task.in_image)
        self.model.train(bool(how.keep))
        precision = self.recipe.precision if how.precision == "as trained" else how.precision
        counting = self.kept.counting() if how.keep else nullcontext()
        with self.watch.of("selection_forward"), torch.set_grad_enabled(bool(how.keep)), counting:
            labels_B = batch.labels.to(self.device, non_blocking=True)
            with autocast(precision, self.device):
                outputs_BK = self.task.forward(self.model, batch.images, labels_B).float()
            losses_B = self.task.losses(outputs_BK, labels_B)
        self.model.train()
        return Looked(losses_B, self.task.right(outputs_BK.detach(), labels_B))


def together(steps: Sequence[Step], device: torch.device | None = None) -> Step:
    """Several steps as one; none at all, on a device."""
    if len(steps) == 1:
        return steps[0]
    if not steps:
        return Step(torch.zeros(0, dtype=torch.int64), torch.zeros(0, device=device), 0, 0)
    right = [step.right_B for step in steps if step.right_B is not None]
    return Step(
        torch.cat([step.samples_B for step in steps]),
        torch.cat([step.losses_B for step in steps]),
        sum(step.read for step in steps),
        sum(step.steps for step in steps),
        torch.cat(right) if len(right) == len(steps) else None,
    )


def _samples(steps: Sequence[Step]) -> int:
    return sum(len(step.samples_B) for step in steps)


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
    watch: Stopwatch | None = None,
) -> Looked:
    """One step; the losses [B] before it, float32, and what was predicted right."""
    watch, count = watch or Stopwatch(device), len(batch.samples)
    if count == 1:
        normaliser = 2 * normaliser if isinstance(normaliser, int) else normaliser
        # BatchNorm needs two values a channel, and late layers may leave one pixel of an image. Twins have the mean and
        # the loss of the one.
        batch = Batch(*(torch.cat([part, part]) for part in batch))
    batch = batch._replace(images=batch.images.to(device, non_blocking=True))
    batch = augmented(model, batch, recipe, generator, task.in_image)
    labels_B, weights_B = batch.labels.to(device, non_blocking=True), batch.weights.to(device, non_blocking=True)
    with watch.of("training_forward"):
        with autocast(recipe.precision, device):
            outputs_BK = task.forward(model, batch.images, labels_B)
        losses_B = task.losses(outputs_BK.float(), labels_B)
    with watch.of("backward"):
        step_on(losses_B, weights_B, optimizer, scaler, normaliser)
    right_B = task.right(outputs_BK.detach(), labels_B)
    return Looked(losses_B.detach()[:count], None if right_B is None else right_B[:count])


def step_on(
    losses_B: Tensor,
    weights_B: Tensor,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    normaliser: Normaliser,
) -> None:
    """The backward pass of losses [B], and the optimizer's step."""
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(weighted_mean(losses_B, weights_B, normaliser)).backward()
    scaler.step(optimizer)
    scaler.update()


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
