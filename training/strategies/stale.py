"""StaleSB: Selective-Backprop with a selection pass every n-th epoch; between them stored losses choose.

What: in a pass epoch everything is read and looked at, as in Selective-Backprop. In the n - 1 epochs after it each
sample is drawn anew, with a probability by its own loss of the last pass. The draw comes before the reading: only the
drawn samples are read from the shards, and they get no forward pass but that of training.
When: where forward passes and reading are most of what Selective-Backprop still costs.
How: in a reuse epoch a loss is held against those of all samples in the last pass, not against the last R of them:
losses fall during a pass, and the end of it would make more than the intended share of the samples look hard.
`predict` puts a forecast in place of the last loss, from the passes so far (`tamis.curation.selective.predictors`).
Departures: the authors' code reads and forwards everything in reuse epochs, and gives samples each other's losses.
Memory: 8 bytes for every sample of the dataset; with `predict` 4 more for each of the last passes, 16 at most.
Source: A. Jiang, thesis, 2021, section 3.4. With n = 1 it is Selective-Backprop.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tamis.curation.selective.drawing import draw
from tamis.curation.selective.predictors import forecast
from tamis.store.selections import RoundData
from tamis.store.selections.drafts import Draft
from tamis.training import border
from tamis.training.seeds import derive_seed
from tamis.training.strategies.contract import Signals
from tamis.training.strategies.selective import SelectiveBackprop, SelectiveParameters

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.training.config import Plan
    from tamis.training.models.registry import ImageClassifier

_PASSES = 16  # passes that a forecast looks back on


class StaleParameters(SelectiveParameters):
    """Parameters of StaleSB, beside those of Selective-Backprop.

    Attributes:
        every: epochs from one selection pass to the next (n); 1 is Selective-Backprop.
        predict: what stands for a sample's loss in the epochs between: that of the last pass, an exponential average of
            the passes, or a Gaussian process through them.
    """

    name: str = "stale-sb"
    every: int = Field(default=3, ge=1, le=border.EPOCHS)
    predict: Literal["last", "average", "gaussian"] = "last"


class StaleSB(SelectiveBackprop):
    """Chooses by the losses of the last selection pass."""

    name = "stale-sb"
    Parameters: ClassVar[type[StaleParameters]] = StaleParameters
    asked: StaleParameters

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        assert plan.draft is not None
        self._reading = Draft(store.root, f"{plan.draft.key}-reading", plan.dataset.ref, order=plan.dataset.key)
        self._passes_EN = np.empty((0, self.n), np.float32)  # the last of them last
        self._stored_epoch_N = np.full(self.n, -1, np.int32)

    @property
    def source(self) -> Draft:
        return self._reading

    def size(self, epoch: int) -> int:
        made = {one.data.first_epoch: len(np.asarray(one.data.samples)) for one in self._reading.made}
        return made.get(epoch, self.n) if self.reuses(epoch) else self.n

    def passes(self, epoch: int) -> bool:
        return epoch >= self.asked.start and not self.reuses(epoch)

    def reuses(self, epoch: int) -> bool:
        """Whether stored losses choose in the epoch."""
        return epoch >= self.asked.start and (epoch - self.asked.start) % self.asked.every != 0

    def before_epoch(self, epoch: int, model: "ImageClassifier") -> float:
        super().before_epoch(epoch, model)
        there = [r.first_epoch for r in self._reading.rounds]
        if self.reuses(epoch):
            probability_N = self._probability()
            if epoch not in there:
                self._reading.add(RoundData(self._draw(epoch, probability_N), first_epoch=epoch))
            self.seen.losses_N, self.seen.loss_epoch_N = self._passes_EN[-1].copy(), self._stored_epoch_N.copy()
            self.seen.probability_N = probability_N.astype(np.float32)
        elif epoch not in there and (not there or self.reuses(there[-1])):
            self._reading.add(RoundData(np.arange(self.n), first_epoch=epoch))
        return 0.0

    def trained(
        self, samples_B: NDArray[np.int64], losses_B: NDArray[np.float32], right_B: "torch.Tensor | None"
    ) -> None:
        if not self.reuses(self.seen.epoch):  # a reuse epoch's own losses are those of its few samples
            super().trained(samples_B, losses_B, right_B)

    def after_epoch(self, epoch: int) -> Signals:
        if not self.reuses(epoch):
            self._store(epoch)
        return super().after_epoch(epoch)

    def forget(self) -> None:
        super().forget()
        self._reading.forget()

    def state_dict(self) -> dict[str, Any]:
        import torch

        stored = {"passes": torch.from_numpy(self._passes_EN), "stored_epoch": torch.from_numpy(self._stored_epoch_N)}
        return super().state_dict() | stored

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._passes_EN, self._stored_epoch_N = state["passes"].numpy(), state["stored_epoch"].numpy()

    def _store(self, epoch: int) -> None:
        """The losses of an epoch that saw all samples; one without a finite loss keeps what it had."""
        finite_N = np.isfinite(self.seen.losses_N)
        before_N = self._passes_EN[-1] if len(self._passes_EN) else np.full(self.n, np.nan, np.float32)
        newest_N = np.where(finite_N, self.seen.losses_N, before_N)
        kept = 0 if self.asked.predict == "last" else _PASSES - 1
        self._passes_EN = np.concatenate(
            [self._passes_EN[len(self._passes_EN) - min(kept, len(self._passes_EN)) :], newest_N[None]]
        )
        self._stored_epoch_N[finite_N] = epoch

    def _probability(self) -> NDArray[np.floating]:
        """[N] of being drawn, by the stored losses; a sample without one is never drawn."""
        losses_N = forecast(self._passes_EN, self.asked.predict)
        finite_N = np.isfinite(losses_N)
        ordered = np.sort(losses_N[finite_N])
        side = "left" if self.asked.strict else "right"
        shares_N = np.full(self.n, np.nan)
        shares_N[finite_N] = np.searchsorted(ordered, losses_N[finite_N], side) / max(1, len(ordered))
        return np.nan_to_num(self._function(shares_N))

    def _draw(self, epoch: int, probability_N: NDArray[np.floating]) -> NDArray[np.int64]:
        generator = np.random.default_rng(derive_seed(self.plan.config.seed, "draw", epoch) & (2**64 - 1))
        drawn = np.flatnonzero(draw(probability_N, generator))
        return drawn if len(drawn) else np.asarray([int(np.argmax(probability_N))])
