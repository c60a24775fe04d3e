"""InfoBatch: leave out a part of the samples whose last loss is below the mean, and weigh the others of them up.

What: before an epoch each sample whose last loss is below the mean of all is left out with probability `ratio`; one
that stays weighs 1 / (1 - ratio). So the expected gradient is that of training on everything. What is left out is not
read. Epoch 0 is on everything, and so are those from `delta` of the epochs on.
When: where nothing but time should change: no forward pass is spent on choosing.
How: a step's weighted losses are summed over the batch's size, never over the weights' sum, which would cancel them. A
loss that equals the mean counts as kept.
Departures: a loss is the one that a sample had when it was last trained on, as in the paper; samples are drawn one by
one, where the authors' code draws a fixed number of those below the mean.
Source: Z. Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024,
arXiv:2303.04947, equations 2 to 5.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tamis.curation.selective.infobatch import below_mean, is_complete, prune
from tamis.training.strategies.drawn import Drawn
from tamis.training.strategies.loss_based import Floats, Ints, LossParameters

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.training.config import Plan


class InfoBatchParameters(LossParameters):
    """Parameters of InfoBatch.

    Attributes:
        ratio: share of the samples below the mean that is left out (r).
        delta: share of the epochs after which everything is trained on.
    """

    name: str = "infobatch"
    ratio: float = Field(default=0.5, ge=0, lt=1)
    delta: float = Field(default=0.875, ge=0, le=1)


class InfoBatch(Drawn):
    """Draws by the losses that samples had when they were last trained on."""

    name = "infobatch"
    normaliser = "samples"
    Parameters = InfoBatchParameters

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        self._last_N = np.full(self.n, np.nan, np.float32)

    def draws(self, epoch: int) -> bool:
        complete = is_complete(epoch, self.plan.config.epochs, delta=self.asked.delta)
        return epoch >= self.asked.start and not complete

    def chances(self) -> NDArray[np.float64]:
        return np.where(below_mean(self._last_N.astype(np.float64)), 1 - self.asked.ratio, 1.0)

    def drawn(self, chances_N: NDArray[np.float64], generator: np.random.Generator) -> tuple[Ints, Floats]:
        weights_N = prune(self._last_N, ratio=self.asked.ratio, generator=generator)
        samples = np.flatnonzero(weights_N)
        return samples, weights_N[samples]

    def trained(self, samples_B: Ints, losses_B: Floats, right_B: "torch.Tensor | None") -> None:
        super().trained(samples_B, losses_B, right_B)
        self._last_N[samples_B] = losses_B

    def state_dict(self) -> dict[str, Any]:
        import torch

        return super().state_dict() | {"last": torch.from_numpy(self._last_N)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._last_N = state["last"].numpy()
