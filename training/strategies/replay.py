"""Training on a selection that was published before, round by round.

When: to train on what a method chose, or what another run chose as it trained (Cached-Grad-Match).
How: the weights are the selection's. What their sum in a step is divided by is what the run that left it said
(`normaliser` among its facts), else the sum of the weights; pixels are scaled as that run scaled them.
Cost: the steps'.
Source: Cai, Duan and Ananth, "Faster Training by Automatically Selecting the Best Training Data", 2022.
"""

from typing import TYPE_CHECKING

from tamis.store.selections import Selection
from tamis.store.selections.rounds import in_force
from tamis.training.strategies.contract import Statistics, Strategy

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.training.config import Plan


class Replay(Strategy):
    """Reads a selection."""

    name = "replay"
    asked_by = "selection"

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        assert plan.selection is not None
        self._selection = plan.selection
        self.normaliser = plan.selection.stats.get("normaliser", "weights")

    @property
    def source(self) -> Selection:
        return self._selection

    @property
    def statistics(self) -> Statistics | Selection:
        known = self._selection.stats
        return Statistics(tuple(known["mean"]), tuple(known["std"])) if "mean" in known else self._selection

    def size(self, epoch: int) -> int:
        return in_force(self._selection.rounds, epoch, self._selection.ref).size
