"""One training run from its first step, or from its last checkpoint, to a finished model.

What: `Fitting` drives the steps of `tamis.training.loop`, gathers losses, writes checkpoints, evaluates and packs. What
is trained on in each epoch is the strategy's (`tamis.training.strategies`).
Stop: with `stop_after`, the clock is looked at after each step. What is queued is still trained on, the epoch that is
cut ends as others do, and the run is evaluated and finished; its metrics say where it stopped. A round that was drawn
for that epoch before it was read holds samples that were not reached.
When: through `tamis.training.job.train`, which owns the run's entry in the store.
Cost: the steps'. A checkpoint is the weights, the momentum and 12 bytes for every sample of an epoch under way.
Resume: a checkpoint holds the states of stream and strategy and everything that the steps changed; all randomness is a
function of (seed, epoch, position). So a killed run ends with the same weights, on a CPU to the last bit.
"""

import logging
import pickle
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.best import Best
from tamis.training.config import Plan, TrainConfig
from tamis.training.devices import describe, pick_device
from tamis.training.distill.student import Student
from tamis.training.errors import CheckpointError
from tamis.training.feed import Feed, Source
from tamis.training.learner import Books, Learner
from tamis.training.loop import At, Step, check_finite, together, train_epoch
from tamis.training.models.pretrained import begin_with
from tamis.training.models.registry import build_model
from tamis.training.models.weights import ModelMeta, pack_checkpoint, pack_model, unpack_checkpoint, unpack_model
from tamis.training.steps.recipe import Recipe
from tamis.training.steps.stopwatch import Stopwatch
from tamis.training.strategies import strategy_of
from tamis.training.strategies.contract import Signals, Statistics
from tamis.training.streaming.batches import Batch
from tamis.training.streaming.stream import SelectionStream
from tamis.training.tasks import get_task

_log = logging.getLogger("tamis.training")


@dataclass(frozen=True)
class Fitted:
    """A trained model and what it cost."""

    model: bytes  # safetensors
    metrics: dict[str, Any]
    seconds: dict[str, float]


class Fitting:
    """A training run that is about to begin or to go on. Nothing is written before `fit`.

    Args:
        store: the store.
        plan: what to train.
        device: "auto", "cpu", "cuda", ...
        notify: called with a sentence when something is worth knowing.
        resumable: read and write checkpoints and loss history; False leaves the store alone.
        every: steps between checkpoints; None writes them after each epoch only.
        evaluated: called with all evaluations so far after each one; what it raises ends the run.

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
        evaluated: Callable[[Sequence[dict[str, float]]], None] | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise ValueError(f"checkpoint_every is {every}: expected at least 1 step, or None.")
        config = plan.config
        self._store, self._plan, self._resumable, self._every = store, plan, resumable, every
        self._notify, self._evaluated = notify or _log.warning, evaluated
        self._device = pick_device(device)
        self._recipe = _recipe(config)
        self._task = get_task(config.task).bound(store, dict(config))
        if config.distill is not None:
            self._task = Student.of(store, self._task, plan, self._device, self._notify)
        self._outputs = self._task.outputs(store, plan.dataset, plan.evaluate_on)
        self._task.outputs(store, plan.dataset, plan.select_on)
        self._prepare()
        self._name = f"checkpoints/{plan.key}/latest.pt"
        self._books, self._gathered = Books(), list[Step]()
        self._judged: dict[str, float] = {}
        self._started = 0.0
        self._earlier = dict[str, float]()
        self._before, self._waited = (0, 0), 0.0  # samples and bytes that earlier tries read, and their waiting
        if config.precision != "fp32" and self._device.type != "cuda":
            self._notify(f"{config.precision} needs a GPU: this run computes in fp32 on the {self._device.type}.")

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
            began = perf_counter()  # the batches that `_begin` draws are part of what a run costs
            learner = (self._restore() if self._resumable else None) or self._begin()
            self._started = began - books.seconds
            while not self._is_done():
                books.selecting += self._strategy.before_epoch(books.epoch, learner.model)
                for _ in self._epoch(learner):
                    if progress is not None:
                        progress(books.steps, total)
        judged = self._final(learner)
        ended = perf_counter() - self._started
        selecting = self._selecting()
        seconds = {"train": ended - selecting - books.evaluating, "evaluate": books.evaluating, "total": ended}
        seconds |= {"stream": books.streaming, **self._parts()}  # parts of "train", but for those of selecting
        if self._strategy.chooses:
            seconds["select"] = selecting
        self._strategy.finish(learner.statistics, selecting)
        return Fitted(self._best.model or self._pack(learner), self._metrics(judged), seconds)

    def forget(self) -> None:
        """Remove the checkpoint of a finished run, and the draft of what it chose."""
        self._store.root.delete(self._name)
        self._best.forget()
        self._strategy.forget()

    def _prepare(self) -> None:
        """What a checkpoint is loaded into, as it is at the beginning."""
        config = self._plan.config
        make = partial(build_model, config.model, in_channels=config.channels, seed=config.seed)
        self._network = make(num_classes=self._outputs)
        other = partial(make, num_classes=self._outputs + 1)
        self._given = begin_with(self._network, self._plan.weights, config.weights, config.model, other)
        self._strategy = strategy_of(dict(config), config.task)(self._store, self._plan, self._device)
        self._strategy.notify = self._notify
        self._watch = Stopwatch(self._device)
        self._feed = Feed(self._open_feed, self._strategy.source)
        self._best = Best(self._store.root if self._resumable else None, f"checkpoints/{self._plan.key}")

    def _total(self) -> int:
        """Steps in all; fewer are taken where the strategy leaves some of what is read out."""
        size = self._strategy.reads or self._plan.config.batch_size
        return sum(-(-self._strategy.size(epoch) // size) for epoch in range(self._plan.config.epochs))

    def _look(self, learner: Learner) -> None:
        """Measure after an epoch, where that was asked for, and note what it had cost by then."""
        config, plan, books = self._plan.config, self._plan, self._books
        last, keeps_best = self._is_done(), config.keep_model == "best"
        every = config.evaluate_every or (1 if keeps_best else None)
        if every is None or not (last or books.epoch % every == 0):
            return
        judged = self._evaluate(learner, plan.evaluate_on) if config.evaluate_every or not plan.select_on else {}
        self._judged = judged if last else {}
        chosen_by = self._evaluate(learner, plan.select_on) if plan.select_on else judged
        epoch = books.stopped.get("epoch", books.epoch)
        if keeps_best:
            self._best.offer(chosen_by, {"epoch": epoch, "step": books.steps}, lambda: self._pack(learner))
        books.history.append(
            {
                "epoch": epoch, "seconds": self._spent(), "selecting": self._selecting(),
                "train_loss": books.train_loss, "backprops": books.backprops,
            }
            | judged
            | ({f"select_{name}": value for name, value in chosen_by.items()} if plan.select_on else {})
        )  # fmt: skip
        if self._evaluated is not None:
            self._evaluated(books.history)

    def _final(self, learner: Learner) -> dict[str, float]:
        """How good the model is that is kept."""
        if self._best.model is None:
            return self._judged or self._evaluate(learner, self._plan.evaluate_on)
        if self._plan.select_on is None:
            return self._best.judged
        learner.model.network.load_state_dict(unpack_model(self._best.model)[0])
        return self._evaluate(learner, self._plan.evaluate_on)

    def _spent(self) -> float:
        """Seconds so far, earlier tries included, evaluations not."""
        return perf_counter() - self._started - self._books.evaluating

    def _is_late(self) -> bool:
        stop_after = self._plan.config.stop_after
        return stop_after is not None and self._spent() >= stop_after

    def _is_spent(self) -> bool:
        """Whether an epoch is over, and with it the budget of backprops."""
        span, books = self._plan.config.span, self._books
        if span is None or span.backprops is None or books.position:
            return False
        return books.backprops >= span.backprops

    def _is_done(self) -> bool:
        return self._books.epoch == self._plan.config.epochs or bool(self._books.stopped) or self._is_spent()

    def _in_time(self, batches: Iterable[Batch]) -> Generator[Batch]:
        """Batches until the run's time is up, at least one: each is asked for when the steps before are done."""
        for batch in batches:
            yield batch
            if self._is_late():
                return

    def _begin(self) -> Learner:
        """From the first sample, with the weights that were asked for."""
        if self._plan.init is not None:
            return self._learner_of(self._plan.init)
        if self._plan.config.weights is not None:
            if self._given is None:
                raise CheckpointError(f"The file {self._plan.config.weights} is needed to begin: give it as weights.")
            self._books.weights = self._given.facts()
            self._notify(self._given.line)
        if self._task.normalises(self._plan.config.model):
            channels = self._plan.config.channels
            return self._learner(Statistics((0.0,) * channels, (1.0,) * channels))
        known = self._strategy.statistics
        return self._learner(known if isinstance(known, Statistics) else self._feed.measure(known))

    def _restore(self) -> Learner | None:
        """From the last checkpoint; None, and a notice, where it cannot be used."""
        data = self._store.root.get(self._name)
        if data is None:
            return None
        try:
            content = unpack_checkpoint(data)
            if content["run"] != self._plan.key:
                raise CheckpointError(f"it belongs to run {content['run']}")
            self._feed.stream.load_state_dict(content["stream"])
            self._strategy.load_state_dict(content.get("strategy", {}))
            self._best.load_state_dict(content.get("best", {}))
            learner = self._learner(Statistics(tuple(content["mean"]), tuple(content["std"]))).load(content)
            books = Books(**content["books"])
            right = content.get("right")
            right_B = None if right is None else right.to(self._device)
            losses_B = content["losses"].to(self._device)
            gathered = Step(content["samples"], losses_B, books.position, books.steps, right_B)
        except (CheckpointError, KeyError, ValueError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
            self._notify(f"Checkpoint {self._name} is ignored; restarting from scratch: {error}")
            self._prepare()
            return None
        vars(self._books).update(asdict(books))
        self._before, self._waited = (books.samples_read, books.bytes_read), books.streaming
        self._earlier = books.parts
        self._gathered = [gathered] if len(gathered.samples_B) else []  # of no samples it is not known what is right
        self._notify(f"Resuming run {self._plan.key[:12]} at epoch {books.epoch}, step {books.steps}.")
        return learner

    def _epoch(self, learner: Learner) -> Generator[None]:
        """What is left of the epoch; pauses after each step."""
        books, stream = self._books, self._feed.stream
        with closing(self._feed.epoch(books.epoch, books.position)) as batches:
            steps = train_epoch(
                learner.model,
                self._in_time(batches),
                learner.optimizer,
                learner.scaler,
                self._recipe,
                at=At(books.epoch, books.position, books.steps, books.backprops),
                size=stream.size(books.epoch),
                device=self._device,
                guide=self._strategy,
                task=self._task,
                whole=self._plan.dataset.samples,
                watch=self._watch,
            )
            for step in steps:
                self._gathered.append(step)
                books.position += step.read
                books.steps += step.steps
                books.backprops += len(step.samples_B)
                books.kept = max(books.kept, step.kept)
                books.samples_read = self._before[0] + stream.samples_read
                books.bytes_read = self._before[1] + stream.bytes_read
                books.streaming = self._waited + self._feed.waited
                if (
                    self._every
                    and step.steps
                    and step.settled
                    and books.steps % self._every < step.steps
                    and not self._feed.is_ahead(books.steps)
                ):
                    check_finite(step, At(books.epoch, books.position, books.steps), self._recipe)
                    self._save(learner)
                yield
        self._end_epoch()
        self._look(learner)
        self._save(learner)

    def _end_epoch(self) -> None:
        books, whole = self._books, together(self._gathered)
        size = self._feed.stream.size(books.epoch)
        done = books.epoch + (books.position / size if size else 1)
        if self._is_late() and done < self._plan.config.epochs:
            books.stopped = {"seconds": self._spent(), "epoch": done, "step": books.steps}
        if len(whole.losses_B):
            books.train_loss = float(whole.losses_B.double().mean())
        shown = self._strategy.after_epoch(books.epoch)
        if self._plan.config.record_losses and self._resumable:
            self._record(shown or _signals(whole, books.epoch))
        books.epoch, books.position, self._gathered = books.epoch + 1, 0, []

    def _record(self, shown: Signals) -> None:
        self._store.runs.put_losses(
            self._plan.key, self._books.epoch, shown.samples, shown.losses, shown.loss_epoch,
            probability=shown.probability, selected=shown.selected, correct=shown.right,
        )  # fmt: skip

    def _parts(self) -> dict[str, float]:
        """Seconds of the steps by part, earlier tries included."""
        now = self._watch.seconds()
        return {name: self._earlier.get(name, 0.0) + now.get(name, 0.0) for name in self._earlier | now}

    def _selecting(self) -> float:
        """Seconds that selecting has taken, between epochs and in the steps."""
        parts = self._parts()
        return self._books.selecting + parts.get("selection_forward", 0.0) + parts.get("selection_step", 0.0)

    def _save(self, learner: Learner) -> None:
        if not self._resumable:
            return
        books, done = self._books, together(self._gathered)
        books.seconds, books.parts = perf_counter() - self._started, self._parts()
        stream = self._feed.stream.state_dict() | {"epoch": books.epoch, "samples_consumed": books.position}
        content = {"run": self._plan.key, "stream": stream, "books": asdict(books), **learner.state()}
        content |= {"strategy": self._strategy.state_dict(), "best": self._best.state_dict()}
        content |= {"samples": done.samples_B, "losses": done.losses_B.cpu()}
        content["right"] = None if done.right_B is None else done.right_B.cpu()
        self._store.root.put(self._name, pack_checkpoint(content))
        self._best.tidy()

    def _evaluate(self, learner: Learner, on: Dataset | None) -> dict[str, float]:
        if on is None:
            return {}
        started = perf_counter()
        stream = self._open_stream(on, self._task.judged, shuffle=False)
        with closing(stream.epoch(0)) as batches:
            judged = self._task.evaluate(learner.model, batches, self._device)
        self._books.evaluating += perf_counter() - started
        return judged

    def _metrics(self, judged: dict[str, float]) -> dict[str, Any]:
        books = self._books
        metrics: dict[str, Any] = {
            "train_loss": books.train_loss,
            "steps": books.steps,
            "backprops": books.backprops,
            "samples_read": books.samples_read,
            "bytes_read": books.bytes_read,
            "device": describe(self._device),
        }
        metrics |= judged
        if books.kept:
            metrics["activation_bytes"] = books.kept
        if self._best.model is not None:
            chooser = self._plan.select_on or self._plan.evaluate_on
            assert chooser is not None
            metrics["kept"] = {**self._best.at, "on": chooser.ref, **self._best.judged}
        if isinstance(self._task, Student):
            metrics |= self._task.facts
        if books.weights:
            metrics["weights"] = books.weights
        if books.stopped:
            metrics["stopped"] = books.stopped
        if books.history:
            metrics["history"] = books.history
        return metrics

    def _pack(self, learner: Learner) -> bytes:
        config = self._plan.config
        meta = ModelMeta(
            config.model,
            self._outputs,
            config.channels,
            *learner.statistics,
            self._task.classes(self._plan.dataset),
            config.image_size,
            config.task,
        )
        return pack_model(learner.model.network.state_dict(), meta)

    def _learner(self, statistics: Statistics) -> Learner:
        return Learner(self._network, statistics, self._recipe, self._device)

    def _learner_of(self, digest: str) -> Learner:
        """With the weights, and the pixels' statistics, of a model that is kept."""
        weights, meta = unpack_model(self._store.blobs.get(digest))
        try:
            self._network.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"The weights of run {self._plan.config.init_from} are of {meta.model} with {meta.num_classes} "
                f"outputs, and do not fit {self._plan.config.model} with {self._outputs}: begin with those of a run of "
                "the same model and classes."
            ) from error
        return self._learner(Statistics(meta.mean, meta.std))

    def _open_feed(self, chosen: Source) -> SelectionStream:
        return self._open_stream(chosen, self._strategy.reads)

    def _open_stream(self, chosen: Source, batch_size: int | None = None, shuffle: bool = True) -> SelectionStream:
        config = self._plan.config
        return SelectionStream(
            self._store,
            chosen,
            seed=config.seed,
            batch_size=batch_size or config.batch_size,
            rank=0,
            world=1,
            members=(),
            shuffle=shuffle,
            channels=config.channels,
            image_size=config.image_size,
            targets=self._task.targets(chosen if isinstance(chosen, Dataset) else self._plan.dataset),
        )


def _recipe(config: TrainConfig) -> Recipe:
    """A recipe, its schedule being the whole that the run is a part of."""
    recipe = Recipe(**{name: getattr(config, name) for name in Recipe.__dataclass_fields__ if name != "begins"})
    if config.span is None:
        return recipe
    return replace(recipe, epochs=config.span.whole or config.epochs, begins=config.span.begins)


def _signals(whole: Step, epoch: int) -> Signals:
    """What the steps of an epoch saw, each sample once."""
    samples, first = np.unique(whole.samples_B.numpy(), return_index=True)
    right = None if whole.right_B is None else whole.right_B.cpu().numpy()[first]
    return Signals(samples, whole.losses_B.cpu().numpy()[first], epoch, right=right)
