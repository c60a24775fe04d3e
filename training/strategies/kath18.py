"""Kath18 as in the thesis: batches drawn from a larger pool in proportion to the loss, once that pays.

What: at first batches are uniform. From the moment on when the running mean of tau passes its threshold, a pool of
several batches gets a forward pass, and one batch is drawn from it, with replacement, in proportion to the losses.
When: as the importance sampling that Selective-Backprop is held against.
How: a sample that is drawn twice weighs 2, so a step's loss is the mean over the draws.
Departures: those of the thesis: the loss is the score, and nothing is re-weighted
(`tamis.curation.selective.importance`).
Source: A. Katharopoulos, F. Fleuret, "Not All Samples Are Created Equal", ICML 2018, algorithm 1; A. Jiang, thesis,
2021, section 3.6.1.
"""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tamis.curation.selective.importance import VarianceGain, draw_in_proportion, threshold_of
from tamis.training import border
from tamis.training.strategies.loss_based import Floats, LossBased, PassParameters

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.training.config import Plan
    from tamis.training.loop import At, Looking


class Kath18Parameters(PassParameters):
    """Parameters of Kath18.

    Attributes:
        batches: batches of a pool (B / b): of so many samples one is drawn.
        threshold: of tau; default: (B + 3b) / (3b), where a step begins to save time.
        tau_momentum: of the running mean of tau.
    """

    name: str = "kath18"
    start: int = Field(default=0, ge=0, le=border.EPOCHS)
    batches: int = Field(default=3, ge=2, le=1024)
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    tau_momentum: float = Field(default=0.9, ge=0, lt=1)


class Kath18(LossBased):
    """Draws batches in proportion to the losses of a pool."""

    name = "kath18"
    fills = False
    Parameters = Kath18Parameters

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        batch = plan.config.batch_size
        self.reads = pool = self.asked.batches * batch
        self._threshold = threshold_of(pool, batch) if self.asked.threshold is None else self.asked.threshold
        self._gain, self._begun = VarianceGain(self.asked.tau_momentum), False

    def looking(self, at: "At") -> "Looking | None":
        return super().looking(at) if self._begun else None

    def weigh(
        self, at: "At", samples_B: NDArray[np.int64], losses_B: Floats, generator: np.random.Generator
    ) -> tuple[NDArray[np.floating], None]:
        self._heard(losses_B)
        weights_B = np.zeros(len(samples_B), np.float32)
        draws = max(1, round(len(samples_B) / self.asked.batches))
        positions, times = draw_in_proportion(losses_B, draws, generator)
        weights_B[positions] = times
        return weights_B, None

    def trained(self, samples_B: NDArray[np.int64], losses_B: Floats, right_B: "torch.Tensor | None") -> None:
        super().trained(samples_B, losses_B, right_B)
        self._heard(losses_B)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"tau": self._gain.value, "begun": self._begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._gain, self._begun = VarianceGain(self.asked.tau_momentum, state["tau"]), state["begun"]

    def _heard(self, losses_B: Floats) -> None:
        self._gain.update(losses_B)
        self._begun = self._begun or self._gain.exceeds(self._threshold)
