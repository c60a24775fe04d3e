"""What strategies that choose by losses have in common: what they saw of an epoch, a queue, and the rounds they leave.

What: a subclass says in `weigh` how much each sample of a batch counts, by its loss; 0 means no backward pass for it.
Chosen samples wait until they fill a batch, at an epoch's end in one that is not full. What was trained on in an epoch
is a round, so the selection that the run leaves replays it; what was seen of each sample enters the loss history.
How: at first (`start` epochs) everything is trained on, and the losses of the steps are all that is seen.
Trust: a loss that is NaN or infinite is never chosen; its sample is named once an epoch, or ends the run (`nonfinite`).
Memory: about 30 bytes for every sample of the dataset, in checkpoints too, and a training batch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from tamis.training.seeds import Draws
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

Ints = NDArray[np.int64]
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
        reuse: train on what a selection pass chose without a second forward pass, by keeping its activations. The
            pass is in training mode then, and the backward pass goes through everything that was looked at, so on usual
            hardware it saves no time.
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
    """What an epoch has shown so far.

    Attributes:
        epoch: which.
        losses_N, loss_epoch_N, probability_N: what was known of each sample before it began; or None.
        shown: of each batch that was seen, sample numbers, losses, probabilities (or nothing), and whether predictions
            were right (or nothing).
        chosen, weights: what was trained on, in its order.
    """

    epoch: int
    losses_N: Floats | None = None
    loss_epoch_N: NDArray[np.int32] | None = None
    probability_N: Floats | None = None
    shown: list[tuple[Ints, Floats, Floats, NDArray[np.bool_]]] = field(default_factory=list)
    chosen: list[Ints] = field(default_factory=list)
    weights: list[Floats] = field(default_factory=list)

    def note(self, samples_B: Ints, losses_B: Floats, probability_B: Floats, right_B: "torch.Tensor | None") -> None:
        """What a batch showed."""
        right = np.zeros(0, np.bool_) if right_B is None else right_B.cpu().numpy()
        self.shown.append((samples_B, losses_B, probability_B, right))

    def choose(self, samples_K: Ints, weights_K: Floats) -> None:
        """Samples that are trained on."""
        self.chosen.append(samples_K)
        self.weights.append(weights_K)

    def round(self) -> RoundData | None:
        """What was trained on; None where nothing was."""
        samples = np.concatenate([*self.chosen, np.zeros(0, np.int64)])
        return RoundData(samples, np.concatenate(self.weights), self.epoch) if len(samples) else None

    def losses(self, n: int) -> Floats:
        """[n] the loss of each sample; NaN where none is known."""
        losses_N = np.full(n, np.nan, np.float32) if self.losses_N is None else self.losses_N.copy()
        for samples_B, losses_B, _, _ in self.shown:
            losses_N[samples_B] = losses_B
        return losses_N

    def signals(self, n: int) -> Signals:
        """For the loss history: all n samples that were seen, or stood to be drawn."""
        losses_N, epoch_N = self.losses(n), np.full(n, self.epoch, np.int32)
        probability_N, right_N = np.full(n, np.nan, np.float32), np.full(n, -1, np.int8)
        noted_N, selected_N = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        if self.loss_epoch_N is not None:
            epoch_N[:] = self.loss_epoch_N
        if self.probability_N is not None:
            probability_N[:], noted_N[:] = self.probability_N, True
        for samples_B, _, probability_B, right_B in self.shown:
            noted_N[samples_B], epoch_N[samples_B] = True, self.epoch
            if len(probability_B):
                probability_N[samples_B] = probability_B
            if len(right_B):
                right_N[samples_B] = right_B
        for samples_K in self.chosen:
            selected_N[samples_K] = True
        which = np.flatnonzero(noted_N)
        right = right_N[which]
        return Signals(
            which, losses_N[which], epoch_N[which], probability_N[which], selected_N[which],
            right == 1 if (right >= 0).all() else None,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        import torch

        def tensors(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [tensors(one) for one in value]
            return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

        return {name: tensors(value) for name, value in vars(self).items()}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Seen":
        """From a checkpoint."""

        def arrays(value: Any) -> Any:
            if isinstance(value, list):
                return [arrays(one) for one in value]
            return value.numpy() if hasattr(value, "numpy") else value

        fields: dict[str, Any] = {name: arrays(value) for name, value in state.items()}
        fields["shown"] = [tuple(one) for one in fields["shown"]]
        return cls(**fields)


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
        assert isinstance(plan.config.strategy, LossParameters)
        self.asked, self.n, self._drafted = plan.config.strategy, plan.dataset.samples, plan.draft
        self.seen, self._draws = Seen(-1), Draws()
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
        self.seen, self._bad = Seen(epoch), []

    def take(
        self, at: "At", batch: "Batch", looked: "Looked | None", generator: "torch.Generator"
    ) -> "Iterator[Batch]":
        samples_B, self._looked = batch.samples.numpy(), looked is not None
        weights_B = batch.weights.numpy() if looked is None else self._weights(at, samples_B, looked, generator)
        rows_K = np.flatnonzero(weights_B)
        weights_K = np.ascontiguousarray(weights_B[rows_K], np.float32)
        self.seen.choose(samples_B[rows_K], weights_K)
        waits = looked is None or (self.fills and not self.asked.reuse)
        return self._queue.add(batch, rows_K, weights_K) if waits else _part(batch, rows_K, weights_K)

    def rest(self, at: "At") -> "Iterator[Batch]":
        return self._queue.rest()

    def after_step(self, at: "At", step: "Step") -> None:
        if not self._looked:
            self.trained(step.samples_B.numpy(), step.losses_B.float().cpu().numpy(), step.right_B)

    def trained(self, samples_B: NDArray[np.int64], losses_B: Floats, right_B: "torch.Tensor | None") -> None:
        """Hear of the losses of a step, where no selection pass has given any."""
        self.seen.note(samples_B, losses_B, np.zeros(0, np.float32), right_B)

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
        return self.seen.signals(self.n)

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
        weights_B, probability_B = self.weigh(at, samples_B, losses_B, self._draws.at(generator.initial_seed()))
        probability_B = np.zeros(0, np.float32) if probability_B is None else probability_B.astype(np.float32)
        self.seen.note(samples_B, losses_B, probability_B, looked.right_B)
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


def _part(batch: "Batch", rows_K: Ints, weights_K: Floats) -> "Iterator[Batch]":
    """Some samples of a batch as one, if there are any."""
    import torch

    if len(rows_K):
        rows = torch.from_numpy(rows_K)
        images = batch.images[rows.to(batch.images.device)]
        yield type(batch)(images, batch.labels[rows], torch.from_numpy(weights_K), batch.samples[rows])
