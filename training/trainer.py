"""One training from its first step, or from its last checkpoint, to a finished model.

What: `Fitting` drives the steps of `tamis.training.loop`, gathers losses, writes checkpoints, evaluates and packs.
When: through `tamis.training.job.train`, which owns the run's entry in the store.
Cost: the steps'. A checkpoint is the weights, the momentum and 12 bytes for every sample of an epoch under way.
Resume: a checkpoint holds the stream's state and everything that the steps changed; all randomness is a function of
(seed, epoch, position). So a killed training ends with the same weights, on a CPU to the last bit.
"""

import logging
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.shards.members import LARGEST_LABEL
from tamis.training.config import Plan
from tamis.training.devices import describe, pick_device
from tamis.training.errors import CheckpointError, LabelError
from tamis.training.loop import (
    At,
    Evaluation,
    Recipe,
    Step,
    check_finite,
    evaluate,
    make_optimizer,
    make_scaler,
    train_epoch,
)
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.models.weights import ModelMeta, pack_checkpoint, pack_model, unpack_checkpoint
from tamis.training.streaming.batches import Batch
from tamis.training.streaming.lookup import Index
from tamis.training.streaming.stream import SelectionStream

if TYPE_CHECKING:
    from tamis.training.strategies.reselect import Reselector

STATISTICS = 1_024  # mean and standard deviation are those of the first samples of the first epoch, at least so many
_EVALUATED = 256  # samples a forward pass
_log = logging.getLogger("tamis.training")


@dataclass(frozen=True)
class Fitted:
    """A trained model and what it cost."""

    model: bytes  # safetensors
    metrics: dict[str, Any]
    seconds: dict[str, float]


@dataclass
class _Books:
    """Where a training is and what it has cost, earlier tries included."""

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


class _Learner:
    """What the steps change."""

    def __init__(
        self,
        network: torch.nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.mean, self.std = tuple(mean), tuple(std)
        self.model = ImageClassifier(network, mean, std).to(device)
        self.optimizer = make_optimizer(self.model, recipe)
        self.scaler = make_scaler(recipe, device)

    def state(self) -> dict[str, Any]:
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "network": self.model.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> "_Learner":
        self.model.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        return self


class Fitting:
    """A training that is about to begin or to go on. Nothing is written before `fit`.

    Args:
        store: the store.
        plan: what to train.
        device: "auto", "cpu", "cuda", ...
        notify: called with a sentence when something is worth knowing.
        resumable: read and write checkpoints and loss history; False leaves the store alone.
        every: steps between checkpoints; None writes them after each epoch only.

    Raises:
        UnknownModelError, LabelError, DecoderRefused: before any work.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        *,
        device: str = "auto",
        notify: Callable[[str], None] | None = None,
        resumable: bool = True,
        every: int | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise ValueError(f"checkpoint_every is {every}: expected at least 1 step, or None.")
        config = plan.config
        self._store, self._plan, self._resumable, self._every = store, plan, resumable, every
        self._notify = notify or _log.warning
        self._device = pick_device(device)
        self._recipe = Recipe(**{name: getattr(config, name) for name in Recipe.__dataclass_fields__})
        self._classes = count_classes(store, plan.dataset, plan.evaluate_on)
        self._network = self._untrained()
        self._reselector = self._open_reselector()
        chosen = self._reselector.draft if self._reselector else plan.selection or plan.dataset
        self._stream = self._open_stream(chosen, config.batch_size)
        self._name = f"checkpoints/{plan.key}/latest.pt"
        self._books, self._gathered, self._head = _Books(), list[Step](), list[Batch]()
        self._rest: Generator[Batch] | None = None
        self._judged: Evaluation | None = None
        self._started = 0.0
        self._before = (0, 0)  # samples and bytes that earlier tries read
        if config.precision != "fp32" and self._device.type != "cuda":
            self._notify(f"{config.precision} needs a GPU: this training computes in fp32 on the {self._device.type}.")

    def fit(self, progress: Callable[[int, int], None] | None = None) -> Fitted:
        """Train to the end and evaluate.

        Args:
            progress: called with (steps done, steps in all).

        Raises:
            NonFiniteLoss, ShardChanged, DecodeError: the last checkpoint is kept.
        """
        books = self._books
        total = self._total()
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            began = perf_counter()  # the batches that `_begin` draws are part of what a training costs
            learner = (self._restore() if self._resumable else None) or self._begin()
            self._started = began - books.seconds
            while books.epoch < self._recipe.epochs:
                if self._reselector is not None:
                    books.selecting += self._reselector.before(books.epoch, learner.model)
                for _ in self._epoch(learner):
                    if progress is not None:
                        progress(books.steps, total)
        judged = self._judged or self._evaluate(learner)
        ended = perf_counter() - self._started
        seconds = {"train": ended - books.selecting - books.evaluating, "evaluate": books.evaluating, "total": ended}
        seconds["stream"] = books.streaming  # part of "train"
        if self._reselector is not None:
            seconds["select"] = books.selecting
            self._reselector.publish(learner.mean, learner.std)
        return Fitted(self._pack(learner), self._metrics(judged), seconds)

    def forget(self) -> None:
        """Remove the checkpoint of a finished training, and the draft of what it chose."""
        self._store.root.delete(self._name)
        if self._reselector is not None:
            self._reselector.draft.forget()

    def _open_reselector(self) -> "Reselector | None":
        if self._plan.draft is None:
            return None
        from tamis.training.strategies.reselect import Reselector  # torch.func is loaded only where it is needed

        return Reselector(self._store, self._plan, self._device)

    def _total(self) -> int:
        """Steps in all; of rounds that are still to be made the size is known."""
        epochs, size = range(self._recipe.epochs), self._plan.config.batch_size
        if self._reselector is not None:
            return sum(-(-samples // size) for samples in self._reselector.sizes())
        return sum(self._stream.batches(epoch) for epoch in epochs)

    def _look(self, learner: _Learner) -> None:
        """Measure after an epoch, where that was asked for, and note what it had cost by then."""
        config, books = self._plan.config, self._books
        last = books.epoch == self._recipe.epochs
        if config.evaluate_every is None or not (last or books.epoch % config.evaluate_every == 0):
            return
        judged = self._evaluate(learner)
        assert judged is not None
        self._judged = judged if last else None
        spent = perf_counter() - self._started - books.evaluating
        books.history.append(
            {
                "epoch": books.epoch, "seconds": spent, "selecting": books.selecting, "accuracy": judged.accuracy,
                "loss": judged.loss, "train_loss": books.train_loss,
            }
        )  # fmt: skip

    def _begin(self) -> _Learner:
        """From the first sample. The batches that give mean and standard deviation are kept for the first steps.

        A training that reselects needs them before there is anything to train on, and looks at samples of the whole
        data set; its replay takes the same.
        """
        known = self._plan.selection.stats if self._plan.selection is not None else {}
        if "mean" in known:
            return self._learner(known["mean"], known["std"])
        if self._reselector is not None:
            every = self._open_stream(self._plan.dataset, self._plan.config.batch_size)
            with closing(every.epoch(0)) as batches:
                head = list(islice(self._timed(batches), -(-STATISTICS // self._plan.config.batch_size)))
            return self._learner(*pixel_statistics([batch.images for batch in head]))
        self._rest = self._stream.epoch(0)
        self._head = list(islice(self._timed(self._rest), -(-STATISTICS // self._plan.config.batch_size)))
        return self._learner(*pixel_statistics([batch.images for batch in self._head]))

    def _restore(self) -> _Learner | None:
        """From the last checkpoint; None, and a notice, where it cannot be used."""
        data = self._store.root.get(self._name)
        if data is None:
            return None
        try:
            content = unpack_checkpoint(data)
            if content["run"] != self._plan.key:
                raise CheckpointError(f"it belongs to run {content['run']}")
            self._stream.load_state_dict(content["stream"])
            learner = self._learner(content["mean"], content["std"]).load(content)
            vars(self._books).update(asdict(_Books(**content["books"])))
            self._before = (self._books.samples_read, self._books.bytes_read)
            self._gathered = [Step(content["samples"], content["losses"].to(self._device))]
        except (CheckpointError, KeyError, ValueError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
            self._notify(f"Checkpoint {self._name} is ignored, training begins anew: {error}")
            self._network = self._untrained()  # loading may have changed some of it
            return None
        return learner

    def _epoch(self, learner: _Learner) -> Generator[None]:
        """What is left of the epoch; pauses after each step."""
        books, size = self._books, self._stream.size(self._books.epoch)
        with closing(self._batches()) as batches:
            steps = train_epoch(
                learner.model,
                batches,
                learner.optimizer,
                learner.scaler,
                self._recipe,
                at=At(books.epoch, books.position, books.steps),
                size=size,
                device=self._device,
            )
            for step in steps:
                self._gathered.append(step)
                books.position += len(step.samples_B)
                books.steps += 1
                books.samples_read = self._before[0] + self._stream.samples_read
                books.bytes_read = self._before[1] + self._stream.bytes_read
                # Until the first batches are used up, more is read than was consumed: the books would not balance.
                if self._every and books.steps % self._every == 0 and books.steps > len(self._head):
                    check_finite(step, At(books.epoch, books.position, books.steps), self._recipe)
                    self._save(learner)
                yield
        self._end_epoch()
        self._look(learner)
        self._save(learner)

    def _batches(self) -> Generator[Batch]:
        if self._rest is None:
            self._rest = self._stream.epoch(self._books.epoch, self._books.position)
        with closing(self._rest) as rest:
            yield from self._head
            yield from self._timed(rest)
        self._rest, self._head = None, []

    def _timed(self, batches: Iterator[Batch]) -> Generator[Batch]:
        """The batches as they are; the books get what waiting for each took."""
        while True:
            started = perf_counter()
            batch = next(batches, None)
            self._books.streaming += perf_counter() - started
            if batch is None:
                return
            yield batch

    def _end_epoch(self) -> None:
        books, whole = self._books, _together(self._gathered)
        books.train_loss = float(whole.losses_B.double().mean())
        if self._plan.config.record_losses and self._resumable:
            order = np.argsort(whole.samples_B.numpy())
            losses = whole.losses_B.cpu().numpy()[order]
            self._store.runs.put_losses(
                self._plan.key, books.epoch, whole.samples_B.numpy()[order], losses, loss_epoch=books.epoch
            )
        books.epoch, books.position, self._gathered = books.epoch + 1, 0, []

    def _save(self, learner: _Learner) -> None:
        if not self._resumable:
            return
        books, done = self._books, _together(self._gathered)
        books.seconds = perf_counter() - self._started
        stream = self._stream.state_dict() | {"epoch": books.epoch, "samples_consumed": books.position}
        content = {"run": self._plan.key, "stream": stream, "books": asdict(books), **learner.state()}
        content |= {"samples": done.samples_B, "losses": done.losses_B.cpu()}
        self._store.root.put(self._name, pack_checkpoint(content))

    def _evaluate(self, learner: _Learner) -> Evaluation | None:
        if self._plan.evaluate_on is None:
            return None
        started = perf_counter()
        stream = self._open_stream(self._plan.evaluate_on, _EVALUATED, shuffle=False)
        with closing(stream.epoch(0)) as batches:
            judged = evaluate(learner.model, batches, device=self._device)
        self._books.evaluating += perf_counter() - started
        return judged

    def _metrics(self, judged: Evaluation | None) -> dict[str, Any]:
        books = self._books
        metrics: dict[str, Any] = {
            "train_loss": books.train_loss,
            "steps": books.steps,
            "samples_read": books.samples_read,
            "bytes_read": books.bytes_read,
            "device": describe(self._device),
        }
        if judged is not None:
            metrics |= {"accuracy": judged.accuracy, "loss": judged.loss}
        if books.history:
            metrics["history"] = books.history
        return metrics

    def _pack(self, learner: _Learner) -> bytes:
        config = self._plan.config
        meta = ModelMeta(
            config.model,
            self._classes,
            config.channels,
            learner.mean,
            learner.std,
            self._plan.dataset.classes,
            config.image_size,
        )
        return pack_model(learner.model.network.state_dict(), meta)

    def _learner(self, mean: Sequence[float], std: Sequence[float]) -> _Learner:
        return _Learner(self._network, mean, std, self._recipe, self._device)

    def _untrained(self) -> torch.nn.Module:
        config = self._plan.config
        return build_model(config.model, num_classes=self._classes, in_channels=config.channels, seed=config.seed)

    def _open_stream(self, chosen: Any, batch_size: int, shuffle: bool = True) -> SelectionStream:
        config = self._plan.config
        return SelectionStream(
            self._store,
            chosen,
            seed=config.seed,
            batch_size=batch_size,
            rank=0,
            world=1,
            members=(),
            shuffle=shuffle,
            channels=config.channels,
            image_size=config.image_size,
        )


def count_classes(store: Store, dataset: Dataset, judged: Dataset | None) -> int:
    """How many logits a model of this data set needs.

    Raises:
        LabelError: a data set has no labels, negative ones, or `judged` has classes that `dataset` lacks.
    """
    tops: list[int] = []
    for one in (dataset, judged):
        if one is None:
            continue
        labels = Index.open(store, one).labels
        if one.label is None or labels.min() < 0:
            raise LabelError(f"{one.ref} has samples without a class number (0 or more): add it with labels.")
        if labels.max() > LARGEST_LABEL:  # stores from before labels had a range may hold any
            raise LabelError(
                f"{one.ref} has a label {labels.max()}: class numbers go up to {LARGEST_LABEL:,}, and a model has an "
                "output for each. Number the classes from 0, and add the shards under another name."
            )
        tops.append(int(labels.max()) + 1)
    classes = max(len(dataset.classes), tops[0])
    if judged is not None and tops[1] > classes:
        raise LabelError(
            f"{judged.ref} has a label {tops[1] - 1}, and a model of {dataset.ref} knows classes 0 to {classes - 1}: "
            "evaluate on data of the same classes."
        )
    return classes


def pixel_statistics(batches: Sequence[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels scaled to 0..1.

    Args:
        batches: uint8 tensors [B, C, H, W].

    Returns:
        Two tuples of C numbers. A channel that is the same everywhere has the standard deviation 1.
    """
    means, deviations = list[float](), list[float]()
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(batches[0].shape[1]):
        # Counting the 256 values is exact and takes no memory, whatever the size of the images.
        counts = sum(torch.bincount(images[:, channel].flatten(), minlength=256) for images in batches)
        share = torch.as_tensor(counts).double() / torch.as_tensor(counts).sum()
        mean = float(share @ values)
        means.append(mean)
        deviations.append(float(share @ (values - mean) ** 2) ** 0.5 or 1.0)
    return tuple(means), tuple(deviations)


def _together(steps: Sequence[Step]) -> Step:
    if not steps:
        return Step(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    return Step(torch.cat([s.samples_B for s in steps]), torch.cat([s.losses_B for s in steps]))
