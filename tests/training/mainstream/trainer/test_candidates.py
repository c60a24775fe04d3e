"""Candidates: the stem stays to the bit, features may be kept or not, the best epoch counts, the seed decides."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from builds import asked
from torch import Tensor

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.packages import Candidate
from tamis.training.errors import NonFiniteLoss
from tamis.training.mainstream.trainer.bases import open_base
from tamis.training.mainstream.trainer.building import Build
from tamis.training.mainstream.trainer.candidates import batches, fine_tune, rate
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.features import folder_of
from tamis.training.tasks import CLASSIFICATION


def state(build: Build, candidate: Candidate) -> dict[str, Tensor]:
    return safetensors.torch.load(build.store.packages.weights(candidate))


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_only_specialised_layers_are_kept_and_only_they_change(store: Store, few: Dataset, tmp_path: Path) -> None:
    """BatchNorm's statistics too: the stem, in place before and after, is the base to the bit."""
    build = Build(store, asked(tmp_path))
    base = open_base(store, build.base).state_dict()
    last = build.split.segments
    for branch in (0, 2, last):
        build.prepare()
        kept = state(build, build.train(branch))
        assert set(kept) == set(build.split.rest_names(branch))
        stem = build.split.stem_names(branch)
        assert not set(stem) & set(kept)
        assert len(stem) + len(kept) == len(base)
        moved = {
            name for name, one in kept.items() if one.shape != base[name].shape or not torch.equal(one, base[name])
        }
        assert moved == set(kept)  # weights, running statistics and counters of what is trained
        assert same(build.split.model.state_dict(), base)
    assert build.data.classes == tuple("0123456789")
    assert kept["network.fc.weight"].shape == (10, 64)
    assert base["network.fc.weight"].shape == (7, 64)


def tuned(build: Build, branch: int, seed: int = 0) -> dict[str, Tensor]:
    """The specialised layers of a candidate, trained here."""
    train, _ = build._features("cpu", 64)
    rest = build.split.specialised(branch, 10, seed=seed)
    config = build.config.model_copy(update={"seed": seed})
    fine_tune(rest, branch, train, build.data.fit, build.data.validation, config)
    return rest.state_dict()


def test_kept_features_train_the_same_candidate_as_the_stem_in_the_loop(
    store: Store, few: Dataset, tmp_path: Path
) -> None:
    loop, kept = (Build(store, asked(tmp_path, cache_gb=room)) for room in (0.0, 8.0))
    assert loop.prepare() == []
    assert not folder_of(loop.data.train).exists()
    straight = tuned(loop, 2)
    assert kept.prepare() == [0, 1, 2, 3, 4]
    for name, one in tuned(kept, 2).items():
        torch.testing.assert_close(one, straight[name], rtol=1e-4, atol=1e-5)


def test_the_seed_decides(store: Store, few: Dataset, tmp_path: Path) -> None:
    build = Build(store, asked(tmp_path))
    build.prepare()
    first = tuned(build, 3)
    assert same(first, tuned(build, 3))
    assert not same(first, tuned(build, 3, seed=1))


def test_training_stops_after_patience_and_keeps_the_best_epoch(store: Store, few: Dataset, tmp_path: Path) -> None:
    """A rate so high that the loss rises again: the weights are those of the epoch with the lowest loss."""
    build = Build(store, asked(tmp_path, epochs=30, patience=2, lr=0.3, decay=0.0))
    train, _ = build._features("cpu", 256)
    rest, last = build.split.specialised(4, 10), list[tuple[int, int]]()
    told = fine_tune(rest, 4, train, build.data.fit, build.data.validation, build.config, lambda *at: last.append(at))
    losses = [one["loss"] for one in told.history]
    assert told.epochs == len(losses) == len(last)
    assert told.epochs < 30
    assert told.epoch == 1 + losses.index(min(losses)) == told.epochs - 2
    judged = CLASSIFICATION.evaluate(rest, batches(train, 4, [build.data.validation]))
    assert judged["loss"] == pytest.approx(told.loss, rel=1e-5)


def test_the_rate_falls_as_the_thesis_has_it() -> None:
    given = {"name": "n", "dataset": "d", "base": "b", "event": "e", "base_run": "r", "lr": 1e-4, "decay": 0.5}
    by_epochs, by_steps = PackageConfig(**given), PackageConfig(**given, decay_by="steps")
    assert [rate(by_epochs, epoch, 1000) for epoch in (0, 1, 2)] == pytest.approx([1e-4, 1e-4 / 1.5, 1e-4 / 2])
    assert [rate(by_steps, 7, steps) for steps in (0, 2, 100)] == pytest.approx([1e-4, 5e-5, 1e-4 / 51])


def test_a_run_that_diverges_says_so(store: Store, few: Dataset, tmp_path: Path) -> None:
    build = Build(store, asked(tmp_path, optimizer="sgd", lr=1e30))
    with pytest.raises(NonFiniteLoss, match=r"Lower the learning rate"):
        build.train(2)
    assert build.candidates() == []
