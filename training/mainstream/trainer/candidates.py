"""One candidate: the layers behind a branchpoint, fine-tuned from the base's weights on stem features.

What: `fine_tune` trains specialised layers on `Features` until the loss on the validation part has not fallen for
`patience` epochs, and puts the weights of the best epoch back into them.
How: the steps are those of every training run (`tamis.training.loop.train_step`) with features in place of images, in
an order that (seed, epoch) decides. The stem is not part of what is trained: it ran in evaluation mode when its
features were computed, so neither its weights nor its BatchNorm statistics can change. The rate of step t is
lr / (1 + decay t), t in epochs or steps (`tamis.training.mainstream.trainer.config`). A selection's weights weigh the
losses as in other training runs; validation counts every sample alike.
Nothing moves pixels: features are those of the images as they are.
Determinism: everything random is a function of (seed, epoch, position), so on a CPU the same candidate comes out to the
last bit. PyTorch's random state is one a process: train candidates at once in processes of their own.
Resume: see `tamis.training.mainstream.trainer.checkpoints`.
Cost: of each epoch one forward and backward pass of the specialised layers.
Source: A. Jiang, thesis, 2021, sections 5.3.1 and 5.3.2.

Legend: N rows of the training part, B of a batch.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tamis.training.errors import NonFiniteLoss
from tamis.training.loop import At, Step, check_finite, train_step
from tamis.training.mainstream.trainer.checkpoints import Going, Saved
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.depthwise import quickened
from tamis.training.mainstream.trainer.features import Features
from tamis.training.mainstream.trainer.sources import Ints, in_order
from tamis.training.seeds import derive_seed
from tamis.training.steps.recipe import Recipe, make_optimizer, make_scaler, set_rate
from tamis.training.streaming.batches import Batch
from tamis.training.tasks import CLASSIFICATION

_JUDGED = 128  # samples of a forward pass that measures


@dataclass(frozen=True)
class Tuned:
    """How fine-tuning went.

    Attributes:
        epoch: whose weights were kept, from 1.
        epochs: that were trained.
        loss: on the validation part, of the weights that were kept.
        history: of each epoch, the mean training loss and the validation loss and accuracy.
        seconds: that it took.
    """

    epoch: int
    epochs: int
    loss: float
    history: tuple[dict[str, float], ...]
    seconds: float


def fine_tune(
    rest: nn.Module,
    branch: int,
    features: Features,
    fit: Ints,
    validation: Ints,
    config: PackageConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    saved: Saved | None = None,
) -> Tuned:
    """Train specialised layers; they end with the weights of their best epoch, in evaluation mode.

    Args:
        rest: the layers behind the branchpoint, with the base's weights and a new head, on the features' device.
        branch: index of the branchpoint.
        features: of the source that the rows are of.
        fit, validation: rows to train on, and to stop by.
        config: recipe and seed.
        progress: called with (epochs done, epochs at most).
        saved: the candidate's checkpoint, to go on from and to write; None for neither.

    Raises:
        NonFiniteLoss: it diverged.
    """
    began, device = perf_counter(), features.stem.device
    optimizer = make_optimizer(rest, _recipe(config))
    going = Going() if saved is None else saved.resume(rest, optimizer)
    earlier = going.seconds
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), quickened(rest):
        while going.epoch < config.epochs and going.epoch - going.best < config.patience:
            trained = _trained(rest, branch, features, fit, optimizer, going, config)
            judged = CLASSIFICATION.evaluate(rest, batches(features, branch, _parts(validation)), device)
            if not np.isfinite(judged["loss"]):
                raise NonFiniteLoss(
                    f"The validation loss is {judged['loss']} after epoch {going.epoch} of the candidate at "
                    f"branchpoint {branch}: training has diverged. Lower the learning rate (it is {config.lr})."
                )
            going.history.append({"train_loss": trained, "loss": judged["loss"], "accuracy": judged["accuracy"]})
            if judged["loss"] < going.loss:
                going.loss, going.best, going.kept = judged["loss"], going.epoch, _copied(rest)
            going.seconds = earlier + perf_counter() - began
            if saved is not None:
                saved.save(rest, optimizer, going)
            if progress is not None:
                progress(going.epoch, config.epochs)
    rest.load_state_dict(going.kept)
    rest.eval()
    seconds = earlier + perf_counter() - began
    return Tuned(going.best, going.epoch, going.loss, tuple(going.history), seconds)


def _trained(
    rest: nn.Module, branch: int, features: Features, fit: Ints, optimizer: Optimizer, going: Going,
    config: PackageConfig,
) -> float:  # fmt: skip
    """Train for one epoch; the mean loss."""
    recipe, device, losses = _recipe(config), features.stem.device, list[Tensor]()
    scaler = make_scaler(recipe, device)
    rest.train()
    with closing(batches(features, branch, _shuffled(fit, config, going.epoch))) as given:
        for number, batch in enumerate(given):
            at = At(going.epoch, number * config.batch_size, going.steps)
            set_rate(optimizer, rate(config, going.epoch, going.steps))
            torch.manual_seed(derive_seed(config.seed, "step", at.epoch, at.position))
            seen = train_step(rest, batch, optimizer, scaler, recipe, torch.Generator(), device)
            check_finite(Step(batch.samples, seen.losses_B, len(batch.samples)), at, recipe)
            losses.append(seen.losses_B)
            going.steps += 1
    going.epoch += 1
    return float(torch.cat(losses).double().mean())


def rate(config: PackageConfig, epoch: int, steps: int) -> float:
    """The learning rate of a step.

    Args:
        config: lr, decay and what it counts.
        epoch, steps: how many are behind it.
    """
    return config.lr / (1 + config.decay * (epoch if config.decay_by == "epochs" else steps))


def predict(rest: nn.Module, branch: int, features: Features) -> Tensor:
    """The class that a candidate gives each row of a source, [N] int64, on the CPU.

    Args:
        rest: the layers behind the branchpoint, in evaluation mode.
        branch: index of the branchpoint.
        features: of the source.
    """
    found = list[Tensor]()
    with closing(features.batches(branch, in_order(len(features.source.samples_N), _JUDGED))) as given, torch.no_grad():
        for x in given:
            found.append(rest(x).argmax(dim=1).cpu())
    return torch.cat(found)


def batches(features: Features, branch: int, rows: Iterable[Ints]) -> Generator[Batch]:
    """Features of some rows with their labels and weights, as a training step takes them."""
    listed, source = list(rows), features.source
    with closing(features.batches(branch, listed)) as given:
        for some, x in zip(listed, given, strict=True):
            labels, weights = torch.from_numpy(source.labels_N[some]), torch.from_numpy(source.weights_N[some])
            yield Batch(x, labels, weights, torch.from_numpy(source.samples_N[some]))


def _shuffled(fit: Ints, config: PackageConfig, epoch: int) -> list[Ints]:
    """The batches of an epoch."""
    generator = np.random.Generator(np.random.Philox(key=derive_seed(config.seed, "order", epoch)))
    order = fit[generator.permutation(len(fit))]
    return [order[a : a + config.batch_size] for a in range(0, len(order), config.batch_size)]


def _parts(rows: Ints) -> list[Ints]:
    return [rows[a : a + _JUDGED] for a in range(0, len(rows), _JUDGED)]


def _copied(rest: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in rest.state_dict().items()}


def _recipe(config: PackageConfig) -> Recipe:
    given: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "optimizer": config.optimizer}
    return Recipe(
        epochs=config.epochs, momentum=0.9, nesterov=True, schedule="step", step_size=config.epochs, gamma=1.0,
        seed=config.seed, augment="none", precision="fp32", **given,
    )  # fmt: skip
