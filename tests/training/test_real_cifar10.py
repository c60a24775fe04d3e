"""Grad-Match on real CIFAR-10 images; minutes on a CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.store import Store
from tamis.training.config import Reselect
from tamis.training.job import TrainConfig, train

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
