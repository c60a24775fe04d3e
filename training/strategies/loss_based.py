"""What strategies that choose by losses have in common: what they saw of an epoch, a queue, and the rounds they leave.

What: a subclass says in `weigh` how much each sample of a batch counts, by its loss; 0 means no backward pass for it.
Chosen samples wait until they fill a batch, at an epoch's end in one that is not full. What was trained on in an epoch
is a round, so the selection that the run leaves replays it; what was seen of each sample enters the loss history.
How: at first (`start` epochs) everything is trained on, and the losses of the steps are all that is seen.
Trust: a loss that is NaN or infinite is never chosen; its sample is named once an epoch, or ends the run (`nonfinite`).
Memory: 14 bytes for every sample of the dataset, in checkpoints too, and two training batches.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from tamis.store.keys import check_name
from tamis.store.selections import Published, Request, RoundData
from tamis.store.selections.drafts import Draft
from tamis.training import border
from tamis.training.config import Drafted, InLoop
from tamis.training.errors import CheckpointError, NonFiniteLoss
from tamis.training.selecting.answers import Computed, publish
from tamis.training.strategies.contract import Signals, Statistics, Strategy

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.config import Plan, TrainConfig
    from tamis.training.loop import At, Looked, Looking, Step
    from tamis.training.models.registry import ImageClassifier
    from tamis.training.streaming.batches import Batch

Floats = NDArray[np.float32]
_NAMED = 5  # samples without a finite loss that a message names


class LossParameters(InLoop):
    """What all strategies that choose by losses can be told.

    Attributes:
        start: epochs on everything before it begins to choose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    start: int = Field(default=1, ge=0, le=border.EPOCHS)


class PassParameters(LossParameters):
    """What strategies with selection passes can be told.

    Attributes:
        reuse: train on what a selection pass chose without a second forward pass, by keeping its activations; the
            selection pass is one in training mode then.
        pass_precision: precision of selection passes on a GPU; default: as in training.
        pass_size: pixels that images are made smaller to for selection passes; default: as they are.
        nonfinite: what a NaN or infinite loss does: its sample is skipped, or the run stops.
    """

    reuse: bool = False
    pass_precision: Literal["bf16", "fp16"] | None = None
    pass_size: Annotated[int, Field(ge=1, le=border.IMAGE)] | None = None
    nonfinite: Literal["skip", "stop"] = "skip"

    @model_validator(mode="after")
    def _whole_pass(self) -> "PassParameters":
        if self.reuse and (self.pass_precision is not None or self.pass_size is not None):
            raise ValueError(
                "reuse trains on the selection pass itself: it goes with no pass_precision and no pass_size"
            )
        return self


@dataclass
class Seen:
    """What an epoch has shown so far, by sample: arrays [N]."""

    epoch: int
    losses_N: Floats  # NaN: none yet
    loss_epoch_N: NDArray[np.int32]
    probability_N: Floats
    right_N: NDArray[np.int8]  # -1: not known
    noted_N: NDArray[np.bool_]  # whether the epoch showed the sample
    chosen: list[NDArray[np.int64]]  # in the order in which they were chosen
    weights: list[Floats]

    @classmethod
    def nothing(cls, epoch: int, n: int) -> "Seen":
        """At the beginning of an epoch."""
        return cls(
            epoch, np.full(n, np.nan, np.float32), np.full(n, epoch, np.int32), np.full(n, np.nan, np.float32),
            np.full(n, -1, np.int8), np.zeros(n, np.bool_), [], [],
        )  # fmt: skip

    def note(self, samples_B: NDArray[np.int64], losses_B: Floats, right_B: "torch.Tensor | None") -> None:
        """Losses, and whether predictions were right."""
        self.losses_N[samples_B], self.noted_N[samples_B] = losses_B, True
        if right_B is not None:
            self.right_N[samples_B] = right_B.cpu().numpy()

    def choose(self, samples_K: NDArray[np.int64], weights_K: Floats) -> None:
        """Samples that are trained on."""
        self.chosen.append(samples_K)
        self.weights.append(weights_K)

    def round(self) -> RoundData | None:
        """What was trained on; None where nothing was."""
        samples = np.concatenate([*self.chosen, np.zeros(0, np.int64)])
        return RoundData(samples, np.concatenate(self.weights), self.epoch) if len(samples) else None

    def signals(self) -> Signals:
        """For the loss history: all samples that were seen, or stood to be drawn."""
        selected = np.zeros(len(self.losses_N), np.bool_)
        for samples in self.chosen:
            selected[samples] = True
        shown = np.flatnonzero(self.noted_N | np.isfinite(self.probability_N))
        right = self.right_N[shown]
        return Signals(
            shown, self.losses_N[shown], self.loss_epoch_N[shown], self.probability_N[shown], selected[shown],
            right == 1 if (right >= 0).all() else None,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        import torch

        arrays = {name: torch.from_numpy(value) for name, value in vars(self).items() if name.endswith("_N")}
        lists = {
            "chosen": list(map(torch.from_numpy, self.chosen)),
            "weights": list(map(torch.from_numpy, self.weights)),
        }
        return {"epoch": self.epoch, **arrays, **lists}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Seen":
        """From a checkpoint."""
        arrays: dict[str, Any] = {name: value.numpy() for name, value in state.items() if name.endswith("_N")}
        lists = {name: [one.numpy() for one in state[name]] for name in ("chosen", "weights")}
        return cls(epoch=state["epoch"], **arrays, **lists)


class LossBased(Strategy):
    """A strategy that chooses by losses.

    Attributes:
        asked: its parameters, an instance of its `Parameters`.
        n: samples of the dataset.
        seen: of the epoch under way.
        fills: chosen samples wait for a full batch; else those of each batch that was read are trained on at once.
    """

    asked_by = "strategy"
    chooses = True
    takes = True
    fills = True
    Parameters = LossParameters
    asked: Any

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        from tamis.training.strategies.queue import Queue  # torch is loaded here and no earlier

        super().__init__(store, plan, device)
        assert plan.draft is not None
        assert isinstance(plan.config.strategy, self.Parameters)
        self.asked, self.n, self._drafted = plan.config.strategy, plan.dataset.samples, plan.draft
        self.seen = Seen.nothing(-1, self.n)
        self._queue = Queue(plan.config.batch_size)
        self._left = Draft(store.root, plan.draft.key, plan.dataset.ref)
        self._bad, self._looked = list[int](), False

    @classmethod
    def drafted(cls, store: "Store", config: "TrainConfig", dataset: "Dataset", training: Mapping[str, Any]) -> Drafted:
        asked = config.strategy
        assert asked is not None
        params = asked.model_dump(mode="json", exclude={"name", "leaves"}) | {"training": dict(training)}
        request = Request(dataset, cls.name, cls.version, params, seed=config.seed)
        return Drafted(check_name(asked.leaves or f"{dataset.name}-{cls.name}", "selection"), request)

    def weigh(
        self, at: "At", samples_B: NDArray[np.int64], losses_B: Floats, generator: np.random.Generator
    ) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
        """How much each sample counts in training, 0 for not at all, and the probability that it does.

        Called for each batch of a selection pass.

        Args:
            at: where the training run is.
            samples_B: int64.
            losses_B: float32; those that are not finite are left out whatever this says.
            generator: for this position.
        """
        return np.ones(len(samples_B), np.float32), None

    @property
    def source(self) -> "Dataset | Draft":
        return self.plan.dataset

    def size(self, epoch: int) -> int:
        return self.n

    def looking(self, at: "At") -> "Looking | None":
        from tamis.training.loop import Looking

        if not isinstance(self.asked, PassParameters) or not self.passes(at.epoch):
            return None
        keep = self.plan.config.batch_size if self.asked.reuse else 0
        return Looking(self.asked.pass_precision or "as trained", self.asked.pass_size, keep)

    def passes(self, epoch: int) -> bool:
        """Whether the epoch has a selection pass."""
        return epoch >= self.asked.start

    def before_epoch(self, epoch: int, model: "ImageClassifier") -> float:
        self._left.back_to(epoch)
        if self.seen.epoch != epoch:
            self.begin(epoch)
        return 0.0

    def begin(self, epoch: int) -> None:
        """Forget what the epoch before has shown."""
        self.seen, self._bad = Seen.nothing(epoch, self.n), []

    def take(
        self, at: "At", batch: "Batch", looked: "Looked | None", generator: "torch.Generator"
    ) -> "Iterator[Batch]":
        import torch

        samples_B, self._looked = batch.samples.numpy(), looked is not None
        weights_B = batch.weights.numpy() if looked is None else self._weights(at, samples_B, looked, generator)
        rows_K = np.flatnonzero(weights_B)
        weights_K = np.ascontiguousarray(weights_B[rows_K], np.float32)
        self.seen.choose(samples_B[rows_K], weights_K)
        chosen = torch.from_numpy(rows_K), torch.from_numpy(weights_K)
        waits = looked is None or (self.fills and not self.asked.reuse)
        return self._queue.add(batch, *chosen) if waits else _part(batch, *chosen)

    def rest(self, at: "At") -> "Iterator[Batch]":
        return self._queue.rest()

    def after_step(self, at: "At", step: "Step") -> None:
        if not self._looked:
            self.trained(step.samples_B.numpy(), step.losses_B.float().cpu().numpy(), step.right_B)

    def trained(self, samples_B: NDArray[np.int64], losses_B: Floats, right_B: "torch.Tensor | None") -> None:
        """Hear of the losses of a step, where no selection pass has given any."""
        self.seen.note(samples_B, losses_B, right_B)

    def after_epoch(self, epoch: int) -> Signals:
        trained_on = self.seen.round()
        if trained_on is not None:
            self._left.record(trained_on)
        if self._bad:
            names = ", ".join(map(str, self._bad[:_NAMED]))
            self.notify(
                f"Epoch {epoch}: {len(self._bad)} samples had a loss that is NaN or infinite, and were skipped: {names}"
                f"{', ...' if len(self._bad) > _NAMED else ''}."
            )
        return self.seen.signals()

    def finish(self, statistics: Statistics, selecting: float) -> Published:
        facts = {
            "mean": list(statistics.mean), "std": list(statistics.std), "normaliser": self.normaliser,
        }  # fmt: skip
        rounds = [one.data for one in self._left.made]
        return publish(
            self.store, self._drafted.request, self._drafted.name, Computed(rounds, {"select": selecting}, facts)
        )

    def forget(self) -> None:
        self._left.forget()

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen.state(), "queue": self._queue.state(), "bad": list(self._bad)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = Seen.of(state["seen"])
        begun = self.seen.epoch  # the rounds of the epochs before it must be there
        if len(self._left.rounds) < begun:
            raise CheckpointError(
                f"it is of epoch {begun}, and only {len(self._left.rounds)} of the rounds before are left"
            )
        self._queue.load(state["queue"])
        self._bad = list(state["bad"])

    def _weights(
        self, at: "At", samples_B: NDArray[np.int64], looked: "Looked", generator: "torch.Generator"
    ) -> NDArray[np.floating]:
        losses_B = looked.losses_B.float().cpu().numpy()
        self.seen.note(samples_B, losses_B, looked.right_B)
        drawing = np.random.default_rng(generator.initial_seed() & (2**64 - 1))
        weights_B, probability_B = self.weigh(at, samples_B, losses_B, drawing)
        if probability_B is not None:
            self.seen.probability_N[samples_B] = probability_B
        finite_B = np.isfinite(losses_B)
        if not finite_B.all():
            self._refuse(at, samples_B, finite_B)
            weights_B = np.where(finite_B, weights_B, 0)
        return weights_B

    def _refuse(self, at: "At", samples_B: NDArray[np.int64], finite_B: NDArray[np.bool_]) -> None:
        bad = samples_B[~finite_B].tolist()
        assert isinstance(self.asked, PassParameters)
        if self.asked.nonfinite == "stop" or not finite_B.any():
            raise NonFiniteLoss(
                f"{len(bad)} of {len(samples_B)} losses of a selection pass are NaN or infinite in epoch {at.epoch}, "
                f"step {at.step} of the run (samples {', '.join(map(str, bad[:_NAMED]))}): look at these samples, "
                "lower the learning rate, or train in fp32."
            )
        self._bad += bad


def _part(batch: "Batch", rows_K: "torch.Tensor", weights_K: "torch.Tensor") -> "Iterator[Batch]":
    """Some samples of a batch as one, if there are any."""
    if len(rows_K):
        images = batch.images[rows_K.to(batch.images.device)]
        yield type(batch)(images, batch.labels[rows_K], weights_K, batch.samples[rows_K])
