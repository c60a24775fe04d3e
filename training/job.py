"""A training run as a question with a key: the same question is answered once.

What: `train` trains a model on a dataset or a selection of it, keeps the model and what it cost in the store, and
answers at once when it did so before. Killed at any point and asked again, it goes on where it was.
When: for every model that is to be kept: proxies, targets, baselines.
Cost: see `tamis.training.loop`; a cached answer reads a few small tables and loads neither torch nor a model.
What decides the key stands in `tamis.training.planning`.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamis.store import Store
from tamis.store.runs import Run
from tamis.training.config import TrainConfig
from tamis.training.models.own import failing
from tamis.training.planning import plan

if TYPE_CHECKING:
    from tamis.training.trainer import Fitted

_CLOCKED = "was stopped by the clock, which no repetition can confirm"
_log = logging.getLogger("tamis.training")

__all__ = ["TrainConfig", "TrainResult", "find", "train"]


@dataclass(frozen=True)
class TrainResult:
    """The answer to a training run.

    Attributes:
        run: the finished run; `run.blob` is the model's digest.
        cached: nothing was computed.
        confirmed: with `force` and an answer already there, whether the weights came out bit for bit the same; else
            None. (A GPU adds in no fixed order and will often say False.)
    """

    run: Run
    cached: bool
    confirmed: bool | None = None


def find(store: Store, config: TrainConfig) -> Run | None:
    """The finished run of this configuration, or None."""
    return store.runs.find(plan(store, config).key)


def train(
    store: Store,
    config: TrainConfig,
    *,
    device: str = "auto",
    checkpoint_every: int | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    evaluated: Callable[[Sequence[dict[str, float]]], None] | None = None,
) -> TrainResult:
    """Train a model, or answer with the one that this configuration gave before.

    Args:
        store: where datasets and selections are found and the run is kept.
        config: what to train.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...
        checkpoint_every: steps between checkpoints, beside the one after each epoch; a killed run resumes the last.
        force: train although the answer is there, leave it as it is, and say whether it is confirmed. What a clock
            stopped (`stop_after`) cannot be confirmed: it is not trained again, and notified.
        progress: called with (steps done, steps in all).
        notify: called with a sentence when something is worth knowing (a checkpoint that had to be ignored, a precision
            that the device lacks); by default it is logged as a warning.
        evaluated: called after each evaluation during training with all of them so far; what it raises ends the run,
            which is marked failed and keeps its checkpoint.

    Raises:
        NonFiniteLoss: the training diverged; the run is marked failed.
        DeviceError: the device is none of this machine's.
        ModelFailed: a user's own model raised, with its own frames.
        UnknownModelError, LabelError, ShardChanged, DecodeError: naming what is wrong.
    """
    made = plan(store, config)
    config = made.config
    there = store.runs.find(made.key)
    if there is not None and not force:
        return TrainResult(there, cached=True)
    if there is not None and "stopped" in there.metrics:
        (notify or _log.warning)(f"Run {there.key[:12]} {_CLOCKED}: it is not trained again.")
        return TrainResult(there, cached=True)
    from tamis.training.trainer import Fitting  # torch is loaded here and no earlier

    with failing(config.model):
        fitting = Fitting(
            store, made, device=device, notify=notify, resumable=there is None, every=checkpoint_every,
            evaluated=evaluated,
        )  # fmt: skip
    if there is not None:
        with failing(config.model):
            again = fitting.fit(progress)
        fitting.forget()
        return _compared(there, again, notify or _log.warning)
    trained_on = made.draft or made.selection  # the first will be there when the run is done
    selection = None if trained_on is None else trained_on.key
    store.runs.begin(
        kind="train",
        key=made.key,
        dataset=made.dataset.ref,
        model=config.model,
        config=config.model_dump(mode="json"),
        selection=selection,
    )
    try:
        with failing(config.model):
            fitted = fitting.fit(progress)
        digest = store.blobs.put(fitted.model)
        run = store.runs.finish(made.key, metrics=fitted.metrics, seconds=fitted.seconds, model=digest)
    except Exception as error:
        store.runs.fail(made.key, f"{type(error).__name__}: {error}")
        raise
    fitting.forget()
    return TrainResult(run, cached=False)


def _compared(there: Run, again: "Fitted", notify: Callable[[str], None]) -> TrainResult:
    """What a repetition says of a finished run."""
    if "stopped" in again.metrics:
        notify(f"This try of run {there.key[:12]} {_CLOCKED}.")
        return TrainResult(there, cached=False)
    return TrainResult(there, cached=False, confirmed=hashlib.sha256(again.model).hexdigest() == there.blob)
