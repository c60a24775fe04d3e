"""Grad-Match and label noise on real CIFAR-10 images; minutes on a CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.store import Store
from tamis.training.config import Reselect
from tamis.training.job import TrainConfig, train
from tamis.training.reports.labels import report
from tamis.training.signals.features import PENULTIMATE, Question, compute_parts, finish_features
from tamis.training.signals.scoring import finish_scores, score_parts

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

RECIPE: dict[str, Any] = {
    "dataset": "cifar", "model": "preact20", "epochs": 4, "batch_size": 64, "lr": 0.05, "augment": "crop-flip",
    "record_losses": True,
}  # fmt: skip


def test_choices_of_one_training_are_replayed_by_others(store: Store, real: Callable[[str], Path]) -> None:
    """5,000 images, a tenth chosen before epochs 0 and 2."""
    dataset = store.datasets.add("cifar", sorted(real("cifar10").glob("train-*.tar"))[:1])
    first = train(store, TrainConfig(reselect=Reselect(name="gm", budget="10%", every=2), **RECIPE)).run
    chosen = store.selections.get("gm")
    assert [(r.first_epoch, r.size) for r in chosen.rounds] == [(0, dataset.samples // 10), (2, dataset.samples // 10)]
    # A weighted tenth comes far nearer to the gradient of all than its share: that is what matching is for.
    assert all(notes["error"] < 0.1 for notes in chosen.stats["rounds"])
    again = train(store, TrainConfig(selection="gm", **RECIPE)).run
    assert again.blob == first.blob
    assert "select" not in again.seconds
    other = train(store, TrainConfig(selection="gm", **{**RECIPE, "optimizer": "adam", "lr": 1e-3})).run
    seen = store.query("select distinct epoch, sample from losses where run = $run", {"run": other.key})
    for epoch in range(4):
        mine = np.sort(seen.filter(np.asarray(seen["epoch"]) == epoch)["sample"].to_numpy())
        assert np.array_equal(mine, np.sort(chosen.round_at(epoch)[0]))


def test_planted_flips_are_found(store: Store, real: Callable[[str], Path]) -> None:
    """10,000 images with 10 % of the labels flipped, five epochs; by chance one in ten named samples is a flip."""
    store.datasets.add("cifar", sorted(real("cifar10").glob("train-*.tar"))[:2])
    noisy = store.datasets.flip("cifar", 0.1, seed=0)
    recipe: dict[str, Any] = {
        **RECIPE,
        "dataset": "cifar-flipped",
        "model": "preact8",
        "epochs": 5,
        "record_losses": False,
    }
    model = train(store, TrainConfig(**recipe)).run.blob
    assert model is not None
    asked = Question(store, noisy, model, PENULTIMATE, "float32")
    compute_parts(asked, asked.missing())
    features = finish_features(asked, name="preact8")
    score_parts(store, noisy, range(2), model)
    losses = finish_scores(store, noisy, model, name="preact8")
    found = report(store, "cifar-flipped")
    assert (found.features, found.losses) == (features.key, losses.key)
    assert found.checked is not None
    first, every = found.checked.compared[0], found.checked.compared[-1]
    assert first.first == 500
    for each in (first.mislabelled, first.highest_loss):
        assert each.precision is not None
        assert each.precision > 0.5
    assert every.mislabelled.recall > 0.4
    assert found.checked.suggested_right is not None
    assert found.checked.suggested_right > 0.4, "one in nine by chance"
