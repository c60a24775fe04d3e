"""Strategies that choose by losses, all of them: what they read, leave and survive; and what is special to each."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from test_selective import RECIPE, At, batch_of, config, history, killed_at, looked, made

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.errors import StrategyError
from tamis.training.job import TrainConfig, train
from tamis.training.planning import plan

QUICK: dict[str, Any] = {"epochs": 4}
ASKED: dict[str, dict[str, Any]] = {
    "in-batch": {"begin": 0.25, "end": 1.0},
    "kath18": {"threshold": 0.0},
    "random-drop": {"keep": 0.4},
    "infobatch": {"ratio": 0.5, "delta": 0.9},
}
DRAWN = ("random-drop", "infobatch")


@pytest.mark.parametrize("name", ASKED)
def test_a_run_leaves_what_it_trained_on_and_survives_a_kill(store: Store, dataset: Dataset, name: str) -> None:
    asked = config(name, **QUICK, **ASKED[name])
    killed_at(20, store, asked)
    told: list[str] = []
    run = train(store, asked, notify=told.append).run
    assert told[0].startswith("Resuming run")
    assert train(store, asked, force=True).confirmed
    left, shown = store.selections.get(f"digits-{name}"), history(store, run.key)
    sizes = [r.size for r in left.rounds]
    assert [r.first_epoch for r in left.rounds] == [0, 1, 2, 3]
    assert run.metrics["backprops"] == sum(sizes)
    assert run.metrics["samples_read"] == (sum(sizes) if name in DRAWN else 4 * dataset.samples)
    assert sum(sizes) < 4 * dataset.samples
    for epoch, size in enumerate(sizes):
        assert shown[epoch]["selected"].sum() == size
    assert not store.root.list("drafts")
    replay = train(store, TrainConfig(**RECIPE, selection=f"digits-{name}")).run
    assert replay.metrics["samples_read"] == sum(sizes)


def test_random_drop_keeps_its_share(store: Store, dataset: Dataset) -> None:
    run = train(store, config("random-drop", keep=0.4, epochs=2)).run
    n = dataset.samples
    assert abs(run.metrics["samples_read"] - 2 * 0.4 * n) < 4 * math.sqrt(2 * n * 0.4 * 0.6)
    assert all((columns["probability"] == np.float32(0.4)).all() for columns in history(store, run.key).values())


def test_infobatch_weighs_up_what_it_keeps_below_the_mean(store: Store, dataset: Dataset) -> None:
    run = train(store, config("infobatch", ratio=0.5, delta=0.75)).run
    left, shown = store.selections.get("digits-infobatch"), history(store, run.key)
    assert [r.size == dataset.samples for r in left.rounds] == [True, False, False, True]  # first, and from .75 on
    samples, weights = left.read_round(1)
    losses = shown[0]["loss"]  # of epoch 0, which saw everything
    low = set(np.flatnonzero(losses < losses.mean()).tolist())
    assert set(range(dataset.samples)) - low <= set(samples.tolist())
    assert all(weight == (2.0 if sample in low else 1.0) for sample, weight in zip(samples, weights, strict=True))
    kept = len(low & set(samples.tolist()))
    assert abs(kept - len(low) / 2) < 4 * math.sqrt(len(low) / 4)
    assert left.stats["normaliser"] == "samples"


def test_kath18_begins_when_tau_passes_its_threshold_and_counts_draws(store: Store, dataset: Dataset) -> None:
    strategy = made(store, "kath18", batches=3, tau_momentum=0.0)
    strategy.before_epoch(0, None)
    assert strategy.reads == 3 * 128
    assert strategy.looking(At(0, 0, 0)) is None
    strategy.trained(np.arange(128), np.full(128, 2.0, np.float32), None)
    assert strategy.looking(At(0, 0, 0)) is None  # equal losses: tau is 1, the threshold (B + 3b) / (3b) = 2
    few = np.zeros(128, np.float32)
    few[:4] = 1.0
    strategy.trained(np.arange(128), few, None)  # tau = sqrt(128 / 4)
    assert strategy.looking(At(0, 0, 0)) is not None
    losses = [float(i == 7 or i == 9) for i in range(384)]
    [taken] = strategy.take(At(0, 0, 1), batch_of(list(range(384))), looked(losses), torch.Generator().manual_seed(1))
    assert set(taken.samples.tolist()) <= {7, 9}
    assert float(taken.weights.sum()) == 128


def test_in_batch_keeps_its_share_between_its_borders_but_for_interruptions(store: Store, dataset: Dataset) -> None:
    strategy = made(store, "in-batch", epochs=10, share=0.5, interrupt=3)
    assert [strategy.passes(epoch) for epoch in range(10)] == [False] * 5 + [True] * 4 + [False]
    assert [strategy.looking(At(5, 128 * i, i)) is None for i in range(4)] == [True, False, False, True]
    strategy.before_epoch(5, None)
    losses = [float(i) for i in range(128)]
    [taken] = strategy.take(At(5, 128, 1), batch_of(list(range(128))), looked(losses), torch.Generator().manual_seed(1))
    assert len(taken.samples) == 64
    assert taken.samples.float().mean() > 64  # high losses first of all


@pytest.fixture
def halves(store: Store, dataset: Dataset) -> tuple[str, str]:
    """The two halves of the digits."""
    store.datasets.split("digits", {"a": 0.5, "b": 0.5}, seed=1)
    return "digits-a", "digits-b"


def scored(store: Store, trained_on: str, scored: str) -> str:
    """The key of a scoring of one dataset by a model that was trained on another."""
    from tamis.training.signals import scoring

    run = train(store, TrainConfig(**RECIPE | {"dataset": trained_on, "epochs": 1, "record_losses": False})).run
    dataset = store.datasets.get(scored)
    assert run.blob is not None
    scoring.score_parts(store, dataset, scoring.missing_parts(store, dataset, run.blob), run.blob, device="cpu")
    return scoring.finish_scores(store, dataset, run.blob, name="preact8", model_run=run.key).key


def test_rho_loss_takes_the_largest_reducible_losses_under_a_model_of_held_out_data(
    store: Store, halves: tuple[str, str]
) -> None:
    ours, held_out = halves
    irreducible = scored(store, held_out, ours)
    asked = config("rho-loss", dataset=ours, irreducible=irreducible[:12], epochs=2, batch_size=16)
    run = train(store, asked).run
    n = store.datasets.get(ours).samples
    batches, rest = divmod(n, 160)
    assert run.metrics["samples_read"] == 2 * n
    assert run.metrics["backprops"] == 2 * (16 * batches + round(0.1 * rest))
    assert run.config["strategy"]["irreducible"] == irreducible
    own = scored(store, ours, ours)
    with pytest.raises(StrategyError, match=rf"has {n} samples of digits-a@1"):
        plan(store, config("rho-loss", dataset=ours, irreducible=own))
    with pytest.raises(StrategyError, match="expected a scoring of digits-b"):
        plan(store, config("rho-loss", dataset=held_out, irreducible=irreducible))


@pytest.mark.parametrize("predict", ["average", "gaussian"])
def test_stale_losses_may_be_predicted(store: Store, dataset: Dataset, predict: str) -> None:
    asked = config("stale-sb", selectivity=0.4, every=2, epochs=5, predict=predict, crossing=predict == "average")
    run = train(store, asked).run
    assert run.metrics["samples_read"] < 5 * dataset.samples
    assert train(store, asked, force=True).confirmed
