"""Random drop: each epoch on samples drawn at random.

When: as the baseline that drawing by losses has to beat: it costs as little, and knows nothing.
How: every sample is kept with probability `keep`, anew in each epoch. What is dropped is not read.
Source: a baseline of A. Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tamis.training import border
from tamis.training.strategies.drawn import Drawn
from tamis.training.strategies.loss_based import LossParameters


class DropParameters(LossParameters):
    """Parameters of random drop.

    Attributes:
        keep: share of the samples that is kept.
    """

    name: str = "random-drop"
    start: int = Field(default=0, ge=0, le=border.EPOCHS)
    keep: float = Field(default=0.5, gt=0, le=1)


class RandomDrop(Drawn):
    """Draws at random."""

    name = "random-drop"
    Parameters = DropParameters

    def draws(self, epoch: int) -> bool:
        return epoch >= self.asked.start

    def chances(self) -> NDArray[np.float64]:
        return np.full(self.n, self.asked.keep)
