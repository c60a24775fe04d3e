"""StaleSB: Selective-Backprop with a selection pass every n-th epoch; between them stored losses choose.

What: in a pass epoch everything is read and looked at, as in Selective-Backprop. In the n - 1 epochs after it each
sample is drawn anew, with a probability by its own loss of the last pass. The draw comes before the reading: only the
drawn samples are read from the shards, and they get no forward pass but that of training.
When: where forward passes and reading are most of what Selective-Backprop still costs.
How: in a reuse epoch a loss is held against those of all samples in the last pass, not against the last R of them:
losses fall during a pass, and the end of it would make more than the intended share of the samples look hard.
`predict` puts a prediction in place of the last loss (`tamis.curation.selective.predictors`).
Departures: the authors' code reads and forwards everything in reuse epochs, and gives samples each other's losses.
Memory: 8 bytes for every sample of the dataset; with `predict` 4 more for each of the last passes, 16 at most.
Source: A. Jiang, thesis, 2021, section 3.4. With n = 1 it is Selective-Backprop.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tamis.curation.selective.predictors import crossings, predict_average, predict_last, predict_process
from tamis.training import border
from tamis.training.strategies.contract import Signals
from tamis.training.strategies.drawn import Drawn
from tamis.training.strategies.selective import SelectiveBackprop, SelectiveParameters

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.training.config import Plan

_PASSES = 16  # that a prediction looks back on
_PREDICTORS = {"last": predict_last, "average": predict_average, "gaussian": predict_process}


class StaleParameters(SelectiveParameters):
    """Parameters of StaleSB, beside those of Selective-Backprop.

    Attributes:
        every: epochs from one selection pass to the next (n); 1 is Selective-Backprop.
        predict: what stands for a sample's loss in the epochs between: that of the last pass, an exponential average of
            the passes, or a Gaussian process through them (needs scikit-learn).
        crossing: predict whether the loss is above the median of its pass, not the loss.
    """

    name: str = "stale-sb"
    every: int = Field(default=3, ge=1, le=border.EPOCHS)
    predict: Literal["last", "average", "gaussian"] = "last"
    crossing: bool = False


class StaleSB(Drawn, SelectiveBackprop):
    """Chooses by the losses of the last selection pass."""

    name = "stale-sb"
    Parameters = StaleParameters

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        self._passes_EN = np.empty((0, self.n), np.float32)  # the newest last
        self._stored_epoch_N = np.full(self.n, -1, np.int32)

    def passes(self, epoch: int) -> bool:
        return super().passes(epoch) and not self.draws(epoch)

    def draws(self, epoch: int) -> bool:
        return epoch >= self.asked.start and (epoch - self.asked.start) % self.asked.every != 0

    def chances(self) -> NDArray[np.float64]:
        """By what is known of each sample's loss; one of which nothing is known is never drawn."""
        self.seen.losses_N, self.seen.loss_epoch_N = self._passes_EN[-1].copy(), self._stored_epoch_N.copy()
        losses_EN = self._passes_EN
        if self.asked.crossing:
            losses_EN = crossings(losses_EN, np.nanmedian(losses_EN, axis=1))
        losses_N = _PREDICTORS[self.asked.predict](losses_EN)
        finite_N = np.isfinite(losses_N)
        ordered = np.sort(losses_N[finite_N])
        shares = np.searchsorted(ordered, losses_N[finite_N], "left" if self.asked.strict else "right") / len(ordered)
        chances_N = np.zeros(self.n)
        chances_N[finite_N] = self._function(shares)
        return chances_N

    def trained(
        self, samples_B: NDArray[np.int64], losses_B: NDArray[np.float32], right_B: "torch.Tensor | None"
    ) -> None:
        if not self.draws(self.seen.epoch):  # else a sample's loss is the one that drew it
            super().trained(samples_B, losses_B, right_B)

    def after_epoch(self, epoch: int) -> Signals:
        if not self.draws(epoch):
            self._store(epoch)
        return super().after_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        import torch

        stored = {"passes": torch.from_numpy(self._passes_EN), "stored_epoch": torch.from_numpy(self._stored_epoch_N)}
        return super().state_dict() | stored

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._passes_EN, self._stored_epoch_N = state["passes"].numpy(), state["stored_epoch"].numpy()

    def _store(self, epoch: int) -> None:
        """The losses of an epoch that saw all samples; one without a finite loss keeps what it had."""
        seen_N = self.seen.losses(self.n)
        finite_N = np.isfinite(seen_N)
        kept_EN = self._passes_EN[-(_PASSES - 1) :] if self.asked.predict != "last" else self._passes_EN[-1:]
        before_N = kept_EN[-1] if len(kept_EN) else np.full(self.n, np.nan, np.float32)
        newest_N = np.where(finite_N, seen_N, before_N)
        self._passes_EN = np.stack([*(kept_EN if self.asked.predict != "last" else ()), newest_N])
        self._stored_epoch_N[finite_N] = epoch
