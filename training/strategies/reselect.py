"""Choosing again as a training run goes: Grad-Match between two epochs, and the rounds it leaves.

What: at the beginning of an epoch where a new choice is due, `Reselecting` adds a round to the run's draft, and the
stream goes on with it. When the run is done the draft becomes a selection, which other runs replay.
How: a round is in the store before anything is trained on it. A killed run that resumes finds it there; one that
was killed while choosing chooses again from the same weights.
Cost: one forward pass over the dataset and the pursuits, once every `every` epochs; the books have it as `select`.
Source: Killamsetty et al., "GRAD-MATCH", ICML 2021, algorithm 1 (R, kappa); Cai, Duan and Ananth, "Faster Training by
Automatically Selecting the Best Training Data", 2022 (keeping the rounds and replaying them: Cached-Grad-Match).
"""

import math
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tamis.curation.budget import resolve_budget
from tamis.store.keys import check_name
from tamis.store.selections import Published, Request, RoundData
from tamis.store.selections.drafts import Draft
from tamis.training.config import GRADMATCH, Drafted
from tamis.training.selecting.answers import Computed, publish
from tamis.training.strategies.contract import Statistics, Strategy

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.config import Plan, TrainConfig
    from tamis.training.models.registry import ImageClassifier


class Reselecting(Strategy):
    """Reads the rounds that it makes, by Grad-Match, from the model as it is."""

    name = "reselect"
    asked_by = "reselect"
    chooses = True
    tasks = frozenset({"classification"})

    @classmethod
    def drafted(cls, store: "Store", config: "TrainConfig", dataset: "Dataset", training: Mapping[str, Any]) -> Drafted:
        reselect = config.reselect
        assert reselect is not None
        target = None if reselect.target is None else store.datasets.get(reselect.target)
        k = resolve_budget(reselect.budget, dataset.samples)
        full = 0 if reselect.warm is None else math.ceil(reselect.warm * config.epochs * k / dataset.samples)
        params = reselect.model_dump(mode="json", exclude={"name", "budget", "target"})
        params |= {"k": k, "target": None if target is None else target.key, "training": dict(training)}
        request = Request(dataset, GRADMATCH.name, GRADMATCH.version, params, seed=config.seed)
        name = check_name(reselect.name or f"{dataset.name}-{GRADMATCH.name}", "selection")
        return Drafted(name, request, k, full, target)

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        from tamis.training.selecting.by_gradients import Asked, choose
        from tamis.training.streaming.batches import Images  # torch is loaded here and no earlier

        super().__init__(store, plan, device)
        assert plan.draft is not None
        assert plan.config.reselect is not None
        self._choose, self._drafted, self._reselect = choose, plan.draft, plan.config.reselect
        config = plan.config
        self._asked = Asked(
            plan.draft.k,
            self._reselect.params(config.batch_size),
            self._reselect.head,
            plan.draft.target,
            Images(config.channels, config.image_size),
            config.seed,
        )
        self._draft = Draft(store.root, self._drafted.key, plan.dataset.ref)

    @property
    def source(self) -> Draft:
        return self._draft

    def size(self, epoch: int) -> int:
        return self.plan.dataset.samples if epoch < self._drafted.full else self._drafted.k

    def before_epoch(self, epoch: int, model: "ImageClassifier") -> float:
        if not self._begins(epoch) or any(r.first_epoch == epoch for r in self._draft.rounds):
            return 0.0
        started = perf_counter()
        if epoch < self._drafted.full:
            everything = RoundData(np.arange(self.plan.dataset.samples), first_epoch=epoch)
            self._draft.add(everything, seconds=0.0, what="everything")
            return perf_counter() - started
        data, notes = self._choose(
            self.store, self.plan.dataset, model, self._asked, first_epoch=epoch, device=self.device
        )
        notes["seconds"] = seconds = perf_counter() - started
        self._draft.add(data, **notes)
        return seconds

    def finish(self, statistics: Statistics, selecting: float) -> Published:
        made = self._draft.made
        stats = {
            "mean": list(statistics.mean), "std": list(statistics.std), "rounds": [one.notes for one in made],
        }  # fmt: skip
        seconds = {"select": sum(one.notes["seconds"] for one in made)}
        computed = Computed([one.data for one in made], seconds, stats)
        return publish(self.store, self._drafted.request, self._drafted.name, computed)

    def forget(self) -> None:
        self._draft.forget()

    def _begins(self, epoch: int) -> bool:
        """Whether a round begins: with everything at first, where the run starts warm, and then every so often."""
        full = self._drafted.full
        return epoch == 0 if epoch < full else (epoch - full) % self._reselect.every == 0
