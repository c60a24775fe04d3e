"""What a strategy is: it says when, in the loop, what is trained on.

What: the trainer asks a `Strategy` what the stream reads (`source`), tells it when an epoch begins (`before_epoch`)
and ends (`after_epoch`), shows it each batch where it takes (`take`), and lets it leave its rounds when the run is done
(`finish`). It knows no strategy by name.
How: everything but `source` and `size` has a default, which is that of training on all that is read. Where the draw
precedes the reading, the strategy has a draft of its own as source and adds the round that an epoch is to read in
`before_epoch`. Where the draw follows the losses of a batch, it `takes` and is `looking`, and returns in `take` what is
trained on now: a part of the batch, reweighted (`weighed`), nothing until it has gathered a whole batch, or several.
`tamis.training.strategies.loss_based` does all that is common to strategies that choose by losses.
Resume: what `state_dict` gives is in every checkpoint. All randomness is a function of (seed, epoch, position): `take`
gets a generator of that kind.

Adding one: a file with a class, its entry in `tamis.training.strategies.STRATEGIES`, its test. Parameters of its own
are `Parameters`, a subclass of `tamis.training.config.InLoop`: options of `tamis train` are made from it.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.store.selections import Published, Selection
    from tamis.store.selections.drafts import Draft
    from tamis.training.config import Drafted, InLoop, Plan, TrainConfig
    from tamis.training.loop import At, Looked, Looking, Normaliser, Step
    from tamis.training.models.registry import ImageClassifier
    from tamis.training.streaming.batches import Batch


class Statistics(NamedTuple):
    """Mean and standard deviation of pixels scaled to 0..1, one number a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Signals(NamedTuple):
    """What an epoch showed of n samples, for the loss history (`tamis.store.runs.Runs.put_losses`)."""

    samples: NDArray[np.int64]  # [n]
    losses: NDArray[np.float32]  # [n]
    loss_epoch: NDArray[np.int32] | int  # the epoch whose weights computed them
    probability: NDArray[np.float32] | None = None  # [n] of being trained on
    selected: NDArray[np.bool_] | None = None  # [n] whether it was
    right: NDArray[np.bool_] | None = None  # [n] whether the prediction was right


class Strategy(ABC):
    """A strategy of one training run.

    Args:
        store: the store.
        plan: what is trained.
        device: where the model is.

    Attributes:
        name: in `STRATEGIES`.
        asked_by: the field of `TrainConfig` that asks for it; None for what is done when none is asked for.
            "strategy" is that of all that have `Parameters`.
        Parameters: of its own, for those that `TrainConfig.strategy` asks for by name.
        version: raised whenever the same question comes to have another answer.
        baseline: it trains on everything alike: what others are measured against.
        chooses: it selects as it trains, so what that costs is part of the run.
        tasks: the tasks that it can choose for; None for all.
        takes: `take` is called.
        reads: samples that are read at a time; None: a batch.
        notify: called with a sentence when something is worth knowing.
        normaliser: what a step's weighted sum of losses is divided by (`tamis.training.loop.weighted_mean`).
    """

    name: ClassVar[str]
    asked_by: ClassVar[str | None] = None
    baseline: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    version: ClassVar[int] = 1
    Parameters: "ClassVar[type[InLoop] | None]" = None
    takes: bool = False
    reads: int | None = None
    normaliser: "Normaliser" = "weights"
    notify: Callable[[str], None] = staticmethod(logging.getLogger("tamis.training").warning)

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        self.store, self.plan, self.device = store, plan, device

    @classmethod
    def drafted(
        cls, store: "Store", config: "TrainConfig", dataset: "Dataset", training: Mapping[str, Any]
    ) -> "Drafted | None":
        """What a run that follows it leaves; None for strategies that leave nothing.

        Args:
            store: the store.
            config: what is trained.
            dataset: that it is trained on.
            training: what of the training decides what is chosen, for the selection's key.
        """
        return None

    @classmethod
    def resolved(cls, store: "Store", dataset: "Dataset", asked: "InLoop") -> "InLoop":
        """Its parameters with what they name as contents, so that the key covers these."""
        return asked

    @property
    @abstractmethod
    def source(self) -> "Dataset | Selection | Draft":
        """What the stream reads: the same object throughout. Rounds of a draft may still be made."""

    @abstractmethod
    def size(self, epoch: int) -> int:
        """How many samples of an epoch are read, also where its round is still to be made."""

    @property
    def statistics(self) -> "Statistics | Dataset | Selection":
        """Those of the pixels, where they are known, or what to measure them on before there is a model."""
        return self.plan.dataset

    def before_epoch(self, epoch: int, model: "ImageClassifier") -> float:
        """Make what the epoch reads, if that is not there yet; the seconds that it took. Called again on resuming."""
        return 0.0

    def looking(self, at: "At") -> "Looking | None":
        """How `take` gets the losses of the batch read there, by a forward pass; None: it needs none."""
        return None

    def take(
        self, at: "At", batch: "Batch", looked: "Looked | None", generator: "torch.Generator"
    ) -> "Iterable[Batch]":
        """What is trained on now; called where the strategy `takes`.

        Args:
            at: where the training run is.
            batch: what was read; its images are augmented, and on the device.
            looked: losses by the model as it is, where the strategy is `looking`.
            generator: of the CPU, for this position.

        Returns:
            The batches to take a step on each, with their weights: this one, a part of it, or some gathered from
            several. Each is used up before the next one is asked for.
        """
        return [batch]

    def rest(self, at: "At") -> "Iterable[Batch]":
        """What of an epoch that has been read is still to be trained on; called where the strategy `takes`."""
        return ()

    def after_step(self, at: "At", step: "Step") -> None:
        """Hear of a step: `step.losses_B` are on the device, and reading them waits for it."""
        return

    def after_epoch(self, epoch: int) -> Signals | None:
        """An epoch is over: what it showed of its samples; None: what the steps saw is all."""
        return None

    def finish(self, statistics: Statistics, selecting: float) -> "Published | None":
        """Publish the rounds that it leaves, so that other runs replay them.

        Args:
            statistics: of the pixels, as this run used them: a replay that is to give the same losses needs them.
            selecting: seconds that selecting took.
        """
        return None

    def forget(self) -> None:
        """Remove what is of no use once the run is finished."""
        return

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs: tensors, numbers, texts, lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; {} is that of a checkpoint from before strategies had one."""
        return


def weighed(batch: "Batch", weights_B: "Tensor") -> "Batch | None":
    """A batch with other weights, without the samples of weight 0: they get no backward pass. None where none is left.

    Args:
        batch: B samples.
        weights_B: 0 or more, on any device.
    """
    keep_B = weights_B > 0
    if not keep_B.any():
        return None
    weights_B = weights_B.to(batch.weights.dtype)
    parts = batch._replace(weights=weights_B)
    return type(batch)(*(part[keep_B.to(part.device)] for part in parts))
