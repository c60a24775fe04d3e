"""Strategies whose draw precedes the reading: only what was drawn for an epoch is read from the shards.

What: a subclass says which epochs are drawn (`draws`) and with what probability each sample is (`chances`); in the
other epochs everything is read.
How: the round that an epoch is going to read is kept in a draft of its own before anything is trained on it, so a
killed run that resumes in that epoch reads the same samples.
Cost: a file of 12 bytes a drawn sample for each such epoch, removed when the run is done.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tamis.curation.selective.drawing import draw
from tamis.store.selections import RoundData
from tamis.store.selections.drafts import Draft
from tamis.training.seeds import derive_seed
from tamis.training.strategies.loss_based import Floats, Ints, LossBased

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.training.config import Plan
    from tamis.training.models.registry import ImageClassifier


class Drawn(LossBased):
    """A strategy that draws before it reads."""

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        assert plan.draft is not None
        # The order of an epoch in which everything is read is that of all other runs on the dataset.
        self._reading = Draft(store.root, f"{plan.draft.key}-reading", plan.dataset.ref, order=plan.dataset.key)

    @abstractmethod
    def draws(self, epoch: int) -> bool:
        """Whether only what is drawn for the epoch is read."""

    @abstractmethod
    def chances(self) -> NDArray[np.float64]:
        """[N] the probability of each sample of being drawn for the epoch that begins."""

    def drawn(self, chances_N: NDArray[np.float64], generator: np.random.Generator) -> tuple[Ints, Floats | None]:
        """The samples that the epoch reads, and their weights; None for 1 each."""
        return np.flatnonzero(draw(chances_N, generator)), None

    @property
    def source(self) -> Draft:
        return self._reading

    def size(self, epoch: int) -> int:
        made = {one.first_epoch: one.size for one in self._reading.rounds}
        return made.get(epoch, self.n) if self.draws(epoch) else self.n

    def before_epoch(self, epoch: int, model: "ImageClassifier") -> float:
        is_new = self.seen.epoch != epoch
        super().before_epoch(epoch, model)
        if is_new and self.draws(epoch):
            self.seen.probability_N = self.chances().astype(np.float32)
        there = [one.first_epoch for one in self._reading.rounds]
        if epoch in there:
            return 0.0
        if self.draws(epoch):
            self._reading.add(self._round(epoch))
        elif not there or self.draws(there[-1]):
            self._reading.add(RoundData(np.arange(self.n), first_epoch=epoch))
        return 0.0

    def forget(self) -> None:
        super().forget()
        self._reading.forget()

    def _round(self, epoch: int) -> RoundData:
        assert self.seen.probability_N is not None
        chances_N = self.seen.probability_N.astype(np.float64)
        generator = np.random.default_rng(derive_seed(self.plan.config.seed, "draw", epoch))
        samples, weights = self.drawn(chances_N, generator)
        if not len(samples):  # an epoch without a sample cannot be told from one without a round
            samples, weights = np.asarray([np.argmax(np.nan_to_num(chances_N))]), None
        return RoundData(samples, weights, epoch)
