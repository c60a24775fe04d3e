"""Choosing again as a training goes: Grad-Match between two epochs, and the rounds it leaves.

What: `Reselector.before` is called at the beginning of every epoch; where a new choice is due it adds a round to the
training's draft, and the stream goes on with it. When the training is done, `publish` makes the draft a selection,
which other trainings replay.
How: a round is in the store before anything is trained on it. A killed training that goes on finds it there; one that
was killed while choosing chooses again from the same weights.
Cost: one forward pass over the data set and the pursuits, once every `every` epochs; the books have it as `select`.
Source: Killamsetty et al., "GRAD-MATCH", ICML 2021, algorithm 1 (R, kappa); Cai, Duan and Ananth, "Faster Training by
Automatically Selecting the Best Training Data", 2022 (keeping the rounds and replaying them: Cached-Grad-Match).
"""

from time import perf_counter

import numpy as np
import torch

from tamis.store import Store
from tamis.store.selections import Published, RoundData
from tamis.store.selections.drafts import Draft
from tamis.training.config import Drafted, Plan, Reselect
from tamis.training.models.registry import ImageClassifier
from tamis.training.selecting.answers import Computed, publish
from tamis.training.selecting.by_gradients import Asked, choose
from tamis.training.streaming.batches import Images


class Reselector:
    """What a training needs to choose again.

    Args:
        store: the store.
        plan: of a training that reselects.
        device: where the model is.
    """

    def __init__(self, store: Store, plan: Plan, device: torch.device) -> None:
        assert plan.draft is not None
        assert plan.config.reselect is not None
        self._store, self._plan, self._device = store, plan, device
        self._drafted: Drafted = plan.draft
        self._reselect: Reselect = plan.config.reselect
        config = plan.config
        self._asked = Asked(
            plan.draft.k,
            self._reselect.params(config.batch_size),
            self._reselect.head,
            plan.draft.target,
            Images(config.channels, config.image_size),
            config.seed,
        )
        self.draft = Draft(store.root, self._drafted.key, plan.dataset.ref)

    def sizes(self) -> list[int]:
        """How many samples each epoch of the training has."""
        full = self._drafted.full
        return [self._plan.dataset.samples if e < full else self._drafted.k for e in range(self._plan.config.epochs)]

    def before(self, epoch: int, model: ImageClassifier) -> float:
        """Make the round that begins at an epoch, if one does and it is not there yet; the seconds it took."""
        if not self._begins(epoch) or any(r.first_epoch == epoch for r in self.draft.rounds):
            return 0.0
        started = perf_counter()
        if epoch < self._drafted.full:
            everything = RoundData(np.arange(self._plan.dataset.samples), first_epoch=epoch)
            self.draft.add(everything, seconds=0.0, what="everything")
            return perf_counter() - started
        data, notes = choose(
            self._store, self._plan.dataset, model, self._asked, first_epoch=epoch, device=self._device
        )
        notes["seconds"] = seconds = perf_counter() - started
        self.draft.add(data, **notes)
        return seconds

    def publish(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Published:
        """Make the rounds a selection.

        Args:
            mean, std: of the pixels, as the training used them: a replay that is to give the same losses needs them.
        """
        made = self.draft.made
        stats = {"mean": list(mean), "std": list(std), "rounds": [one.notes for one in made]}
        seconds = {"select": sum(one.notes["seconds"] for one in made)}
        computed = Computed([one.data for one in made], seconds, stats)
        return publish(self._store, self._drafted.request, self._drafted.name, computed)

    def _begins(self, epoch: int) -> bool:
        """Whether a round begins: with everything at first, where the training starts warm, and then every so often."""
        full = self._drafted.full
        return epoch == 0 if epoch < full else (epoch - full) % self._reselect.every == 0
