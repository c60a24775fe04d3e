"""Training on everything: every sample once an epoch, all alike.

When: as the baseline that selections are measured against, or where there is nothing to leave out.
Cost: the steps'.
"""

from tamis.store.datasets import Dataset
from tamis.training.strategies.contract import Strategy


class Full(Strategy):
    """Reads the whole dataset."""

    name = "full"
    baseline = True

    @property
    def source(self) -> Dataset:
        return self.plan.dataset

    def size(self, epoch: int) -> int:
        return self.plan.dataset.samples
