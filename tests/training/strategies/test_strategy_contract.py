"""Strategies: what a step is divided by, and that the contract carries what draws before or after it looks."""

from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Published, Request, RoundData
from tamis.store.selections.drafts import Draft
from tamis.training.config import Plan, Reselect
from tamis.training.job import TrainConfig, train
from tamis.training.loop import At, Looked, Looking, Step, weighted_mean
from tamis.training.models.weights import pack_checkpoint, unpack_checkpoint
from tamis.training.selecting.answers import Computed, publish
from tamis.training.strategies import STRATEGIES, strategy_of
from tamis.training.strategies.contract import Statistics, weighed
from tamis.training.strategies.full import Full
from tamis.training.streaming.batches import Batch

RECIPE: dict[str, Any] = {
    "dataset": "digits", "model": "preact8", "epochs": 2, "batch_size": 64, "lr": 0.05, "channels": 1,
    "augment": "crop-flip",
}  # fmt: skip


def gradient(samples: list[int], weights: list[float], normaliser: Any) -> Tensor:
    """Of one step, for losses l_i = i theta: sample i has the gradient i."""
    theta = torch.ones((), requires_grad=True)
    losses = torch.tensor([float(i) for i in samples]) * theta
    weighted_mean(losses, torch.tensor(weights), normaliser).backward()
    assert theta.grad is not None
    return theta.grad


def mean_epoch(normaliser: Any) -> float:
    """The gradient of an epoch in steps of two, as InfoBatch prunes: its mean over all that may be drawn.

    Samples 1 to 4 have a low loss, and each is left out with probability r = 1/2 (exactly two of them at a time, so
    that batches are full); kept ones have the weight 1 / (1 - r) = 2. Samples 10 and 20 are always kept.
    """
    epochs: list[float] = []
    for low in combinations([1, 2, 3, 4], 2):
        for order in permutations([*low, 10, 20]):
            weights = [2.0 if i < 5 else 1.0 for i in order]
            steps = [gradient([*order[a : a + 2]], weights[a : a + 2], normaliser) for a in (0, 2)]
            epochs.append(float(sum(steps)))
    return float(np.mean(epochs))


def test_weights_that_make_up_for_pruned_samples_are_unbiased_by_the_batch_size_and_cancel_by_their_sum() -> None:
    whole = sum(range(1, 5)) + 10 + 20
    assert mean_epoch("samples") == pytest.approx(whole / 2)  # what the three steps of two on everything add up to
    assert mean_epoch(2) == pytest.approx(whole / 2)
    assert abs(mean_epoch("weights") - whole / 2) > 1


def test_normalisers_by_hand() -> None:
    losses, weights = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 3.0])
    assert weighted_mean(losses, weights, "weights").item() == pytest.approx(13 / 4)
    assert weighted_mean(losses, weights, "samples").item() == pytest.approx(13 / 3)
    assert weighted_mean(losses, weights, 10).item() == pytest.approx(13 / 10)


def test_samples_of_weight_0_leave_the_batch() -> None:
    batch = Batch(torch.zeros(3, 1, 2, 2), torch.arange(3), torch.ones(3), torch.tensor([7, 8, 9]))
    kept = weighed(batch, torch.tensor([0.5, 0.0, 2.0]))
    assert kept is not None
    assert (kept.samples.tolist(), kept.labels.tolist(), kept.weights.tolist()) == ([7, 9], [0, 2], [0.5, 2.0])
    assert weighed(batch, torch.zeros(3)) is None


def kept(store: Store, dataset: Dataset, name: str, rounds: list[RoundData], stats: dict[str, Any]) -> Published:
    return publish(store, Request(dataset, name, 1, {}), name, Computed(rounds, {}, stats))


class Gathering(Full):
    """Takes the harder half of each batch that it reads, with weight 2, and a step when they fill a batch."""

    baseline, chooses, takes = False, True, True
    normaliser = "samples"

    def __init__(self, store: Store, plan: Plan, device: torch.device) -> None:
        super().__init__(store, plan, device)
        self.waiting: list[Batch] = []
        self.taken: list[int] = []

    def looking(self, at: At) -> Looking:
        return Looking()

    def take(self, at: At, batch: Batch, looked: Looked | None, generator: torch.Generator) -> list[Batch]:
        assert looked is not None
        losses_B = looked.losses_B
        assert not losses_B.requires_grad
        harder = losses_B.argsort(descending=True)[: (len(losses_B) + 1) // 2]
        part = weighed(batch, torch.zeros(len(losses_B)).index_fill(0, harder.cpu(), 2.0))
        assert part is not None
        whole, size = Batch(*(torch.cat(p) for p in zip(*self.waiting, part, strict=True))), self.plan.config.batch_size
        full = len(whole.samples) >= size
        self.waiting = [Batch(*(part[size if full else 0 :] for part in whole))]
        return [Batch(*(part[:size] for part in whole))] if full else []

    def after_step(self, at: At, step: Step) -> None:
        self.taken.append(len(step.samples_B))

    def state_dict(self) -> dict[str, Any]:
        return {"waiting": [list(one) for one in self.waiting], "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.waiting = [Batch(*one) for one in state["waiting"]]
        self.taken = list(state["taken"])


class Stale(Full):
    """Draws half of the samples before an epoch, those of the highest loss when it last saw them: nothing else is read.

    The normaliser goes with the rounds that it leaves.
    """

    baseline, chooses = False, True
    normaliser = "samples"

    def __init__(self, store: Store, plan: Plan, device: torch.device) -> None:
        super().__init__(store, plan, device)
        assert plan.selection is None
        key = Request(plan.dataset, "stale", 1, {}).key  # the selection's: the order of reading follows from it
        self.draft = Draft(store.root, key, plan.dataset.ref)
        self.losses = torch.full((plan.dataset.samples,), 9.0)

    @property
    def source(self) -> Any:
        return self.draft

    def size(self, epoch: int) -> int:
        return self.plan.dataset.samples // 2

    def before_epoch(self, epoch: int, model: Any) -> float:
        if len(self.draft.rounds) == epoch:
            worst = self.losses.argsort(descending=True, stable=True)[: self.size(epoch)]
            self.draft.add(RoundData(worst.numpy(), np.full(len(worst), 2.0), epoch))
        return 0.0

    def after_step(self, at: At, step: Step) -> None:
        self.losses[step.samples_B] = step.losses_B.cpu()

    def finish(self, statistics: Statistics, selecting: float) -> Published:
        facts = {"mean": list(statistics.mean), "std": list(statistics.std), "normaliser": self.normaliser}
        return kept(self.store, self.plan.dataset, "stale", [one.data for one in self.draft.made], facts)

    def forget(self) -> None:
        self.draft.forget()

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a strategy into the dictionary, as the one that is followed when no other is asked for."""
    return lambda strategy: monkeypatch.setitem(STRATEGIES, "full", strategy)


class Killed(BaseException):
    pass


def killed_at(step: int, store: Store, config: TrainConfig) -> None:
    def stop(done: int, total: int) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        train(store, config, checkpoint_every=1, progress=stop)


def test_chosen_samples_wait_until_they_fill_a_batch(store: Store, dataset: Dataset, put: Any) -> None:
    made: list[Gathering] = []

    class Watched(Gathering):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    put(Watched)
    run = train(store, TrainConfig(**RECIPE)).run
    halves = 2 * (dataset.samples // 64 * 32 + (dataset.samples % 64 + 1) // 2)
    assert run.metrics["samples_read"] == 2 * dataset.samples
    assert run.metrics["steps"] == halves // 64 == len(made[0].taken)
    assert set(made[0].taken) == {64}
    assert sum(len(one.samples) for one in made[0].waiting) == halves % 64
    assert run.seconds["select"] >= run.seconds["selection_forward"] > 0


def test_what_waits_outlives_a_kill(store: Store, dataset: Dataset, put: Any) -> None:
    put(Gathering)
    config = TrainConfig(**RECIPE)
    killed_at(17, store, config)
    told: list[str] = []
    run = train(store, config, notify=told.append).run
    assert told == [f"Resuming run {run.key[:12]} at epoch 1, step 17."]
    assert train(store, config, force=True).confirmed


def test_a_draw_before_reading_is_read_alone_and_replayed_under_its_normaliser(
    store: Store, dataset: Dataset, put: Any
) -> None:
    config = TrainConfig(**RECIPE, record_losses=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRATEGIES, "full", Stale)
        killed_at(15, store, config)
        run = train(store, config).run
    assert run.metrics["samples_read"] == 2 * (dataset.samples // 2)
    rounds = [set(samples.tolist()) for samples, _ in store.selections.get("stale").read_rounds()]
    assert not rounds[0] & rounds[1]  # 9 is more than any loss: the other half's turn
    replay = train(store, TrainConfig(**RECIPE, selection="stale")).run
    assert replay.blob == run.blob


def test_the_weights_of_a_selection_count_by_its_normaliser() -> None:
    """Doubling all weights changes nothing under their sum, and doubles the step under the batch's size."""
    once, twice = (gradient([1, 3], [w, w], "weights") for w in (1.0, 2.0))
    assert once == twice == 2
    assert gradient([1, 3], [2.0, 2.0], "samples") == 4


def test_checkpoints_from_before_strategies_had_a_state_still_resume(store: Store, dataset: Dataset) -> None:
    config = TrainConfig(**RECIPE)
    killed_at(30, store, config)
    [(name, _)] = store.root.list("checkpoints")
    data = store.root.get(name)
    assert data is not None
    content = unpack_checkpoint(data)
    assert content.pop("strategy") == {}
    store.root.put(name, pack_checkpoint(content))
    told: list[str] = []
    run = train(store, config, notify=told.append).run
    assert told[0].startswith("Resuming run")
    assert train(store, config, force=True).confirmed, run.key


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_entered_under_its_name(name: str) -> None:
    strategy = STRATEGIES[name]
    assert strategy.name == name
    assert strategy.asked_by is None or strategy.asked_by in TrainConfig.model_fields
    assert (strategy.asked_by == "strategy") == (strategy.Parameters is not None)
    assert not (strategy.baseline and strategy.chooses)


def test_the_strategy_is_what_the_configuration_asks_for() -> None:
    asked = [{}, {"selection": "s"}, {"reselect": Reselect().model_dump()}, {"reselect": {}, "selection": "left"}]
    assert [strategy_of(one).name for one in asked] == ["full", "replay", "reselect", "reselect"]
    assert [one.name for one in STRATEGIES.values() if one.baseline] == ["full"]
