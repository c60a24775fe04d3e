"""Grad-Match as a training run goes, and its replay: rounds are kept, outlive a kill, and give the same losses."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tamis.curation.omp import processes as pursuers
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.store.selections import RoundData
from tamis.store.selections.drafts import Draft
from tamis.training.config import Reselect
from tamis.training.job import TrainConfig, train
from tamis.training.selecting import by_gradients
from tamis.training.selecting.by_runs import MatchConfig, select_by_runs

RECIPE: dict[str, Any] = {
    "dataset": "digits", "model": "preact8", "epochs": 4, "batch_size": 64, "lr": 0.05, "channels": 1,
    "record_losses": True,
}  # fmt: skip
RESELECT = Reselect(name="gm", budget=150, every=2)


def losses(store: Store, run: str) -> list[tuple[int, int, float]]:
    found = store.query("select epoch, sample, loss from losses where run = $run order by all", {"run": run})
    return list(zip(*(found[c].to_pylist() for c in ("epoch", "sample", "loss")), strict=True))


@pytest.fixture
def first(store: Store, dataset: Dataset) -> Any:
    """A finished training that chose 150 of the digits before epochs 0 and 2."""
    return train(store, TrainConfig(reselect=RESELECT, **RECIPE)).run


def test_a_training_leaves_its_rounds_as_a_selection(store: Store, dataset: Dataset, first: Any) -> None:
    chosen = store.selections.get("gm")
    assert chosen.key == first.selection
    assert [(r.first_epoch, r.size) for r in chosen.rounds] == [(0, 150), (2, 150)]
    assert all(r.objective is not None and r.objective > 0 for r in chosen.rounds)
    labels, quotas = dataset.labels(), []
    for number in range(2):
        samples, weights = chosen.read_round(number)
        assert len(np.unique(samples)) == 150
        assert (weights > 0).all()
        quotas.append(np.bincount(labels[samples], minlength=10).tolist())
    share = 150 * np.bincount(labels, minlength=10) / len(labels)
    assert all((np.abs(np.array(quota) - share) < 1).all() for quota in quotas)  # each class its part, to a sample
    assert set(chosen.read_round(0)[0]) != set(chosen.read_round(1)[0])
    assert first.seconds["select"] == pytest.approx(sum(r["seconds"] for r in chosen.stats["rounds"]))
    assert first.metrics["samples_read"] == 4 * 150
    assert not store.root.list("drafts")


def test_asked_again_by_force_it_confirms_itself(store: Store, first: Any) -> None:
    config = TrainConfig(reselect=RESELECT, **RECIPE)
    assert train(store, config).cached
    assert train(store, config, force=True).confirmed
    assert len(store.selections.all()) == 1
    assert not store.root.list("drafts")


def test_a_replay_with_the_same_everything_has_the_same_losses(store: Store, first: Any) -> None:
    replay = train(store, TrainConfig(selection="gm", **RECIPE)).run
    assert losses(store, replay.key) == losses(store, first.key)
    assert replay.blob == first.blob
    assert "select" not in replay.seconds


@pytest.mark.parametrize(
    "other",
    [{"lr": 0.01}, {"optimizer": "adam", "lr": 1e-3}, {"optimizer": "rmsprop", "lr": 1e-3}, {"model": "preact14"}],
)
def test_a_replay_may_change_anything(store: Store, first: Any, other: dict[str, Any]) -> None:
    replay = train(store, TrainConfig(selection="gm", **{**RECIPE, **other})).run
    chosen = [{s for _, s, _ in losses(store, run.key)} for run in (first, replay)]
    assert chosen[0] == chosen[1]
    assert replay.blob != first.blob


def test_a_warm_start_begins_with_everything(store: Store, dataset: Dataset) -> None:
    """ceil(kappa T k / N) = ceil(.5 * 4 * 1000 / 1498) = 2 epochs."""
    warm = Reselect(name="warm", budget=1000, every=1, warm=0.5)
    run = train(store, TrainConfig(reselect=warm, **RECIPE)).run
    rounds = store.selections.get("warm").rounds
    assert [(r.first_epoch, r.size) for r in rounds] == [(0, dataset.samples), (2, 1000), (3, 1000)]
    assert run.metrics["samples_read"] == 2 * dataset.samples + 2 * 1000
    replay = train(store, TrainConfig(selection="warm", **RECIPE)).run
    assert replay.blob == run.blob


def test_processes_that_pursue_choose_the_same(store: Store, first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large datasets are pursued in processes; here all are large."""
    solved, ask = list[Any](), pursuers._ask
    monkeypatch.setattr(by_gradients, "_LARGE", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(pursuers, "_ask", lambda *args: solved.append(ask(*args)) or solved[-1])
    again = Reselect(**RESELECT.model_dump() | {"name": "processes"})
    run = train(store, TrainConfig(reselect=again, **RECIPE)).run
    assert run.blob == first.blob
    chosen = [store.selections.get(name).read_round(1)[0].tolist() for name in ("gm", "processes")]
    assert chosen[0] == chosen[1]
    assert len(solved) == 20  # ten classes, two rounds
    assert None not in solved


@pytest.mark.parametrize("kind", ["class", "batch"])
def test_other_kinds_and_a_validation_target(
    store: Store, digits: dict[str, list[Path]], dataset: Dataset, kind: Any
) -> None:
    store.datasets.add("judge", digits["test"])
    other = Reselect(name=kind, budget="10%", every=3, kind=kind, target="judge")
    train(store, TrainConfig(reselect=other, **RECIPE))
    assert [r.size for r in store.selections.get(kind).rounds] == [150, 150]


def test_looking_on_the_way_changes_nothing(store: Store, digits: dict[str, list[Path]], first: Any) -> None:
    store.datasets.add("judge", digits["test"])
    looked = train(store, TrainConfig(selection="gm", evaluate_on="judge", evaluate_every=2, **RECIPE)).run
    assert looked.blob == first.blob
    history = looked.metrics["history"]
    assert [one["epoch"] for one in history] == [2, 4]
    assert history[-1]["accuracy"] == looked.metrics["accuracy"]
    assert 0 < history[0]["seconds"] < history[1]["seconds"] <= looked.seconds["total"]


KILLED = """
import os, signal, sys
from tamis.store import Store
from tamis.store.selections.drafts import Draft
from tamis.training.job import TrainConfig, train
import torch
torch.set_num_threads(1)
add = Draft.add
def then_die(self, *given, **notes):
    add(self, *given, **notes)
    if len(self.made) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
Draft.add = then_die
train(Store.open(sys.argv[1]), TrainConfig.model_validate_json(sys.argv[2]))
"""


@pytest.mark.parametrize("after", [1, 2])
def test_killed_between_rounds_it_goes_on(store: Store, dataset: Dataset, after: int, tmp_path: Path) -> None:
    config = TrainConfig(reselect=RESELECT, **RECIPE)
    asked = [sys.executable, "-c", KILLED, store.root.url, config.model_dump_json(), str(after)]
    assert subprocess.run(asked, env=os.environ, check=False).returncode == -signal.SIGKILL
    assert len(store.root.list("drafts")) == after
    assert store.selections.all() == []  # nothing half-done to see
    run = train(store, config).run
    whole = Store.create(tmp_path / "other")
    whole.datasets.add("digits", [s.uri for s in dataset.shards])
    assert train(whole, config).run.blob == run.blob
    mine, theirs = store.selections.get("gm"), whole.selections.get("gm")
    assert mine.key == theirs.key
    assert all(np.array_equal(mine.read_round(i)[j], theirs.read_round(i)[j]) for i in range(2) for j in range(2))


def test_the_first_to_write_a_round_is_heard(store: Store) -> None:
    one, other = Draft(store.root, "a" * 32, "digits@1"), Draft(store.root, "a" * 32, "digits@1")
    one.add(RoundData([1, 2], [0.5, 1.5], 0, 3.0), seconds=1.0)
    other.add(RoundData([7], None, 0))
    assert other.read_round(0)[0].tolist() == [1, 2]
    assert Draft(store.root, "a" * 32, "digits@1").made[0].notes == {"seconds": 1.0}
    with pytest.raises(SelectionError, match="rounds rise"):
        one.add(RoundData([1], None, 0))
    name, _ = store.root.list("drafts")[0]
    store.root.put(name, b"garbage")
    with pytest.raises(SelectionError, match="is damaged"):
        Draft(store.root, "a" * 32, "digits@1")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"selection": "gm", "reselect": RESELECT}, "give one of selection and reselect"),
        ({"evaluate_every": 2}, "give evaluate_on"),
        ({"reselect": {"every": 0}}, "every"),
        ({"reselect": {"lam": -1}}, "lam"),
        ({"reselect": {"warm": 1.5}}, "warm"),
    ],
)
def test_contradictions_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainConfig(**{**RECIPE, **wrong})


@pytest.mark.parametrize("budget", [0, 1499, "140 %"])
def test_budgets_out_of_range_are_refused(store: Store, dataset: Dataset, budget: Any) -> None:
    with pytest.raises(ValueError, match=r"budget|samples"):
        train(store, TrainConfig(reselect=Reselect(budget=budget), **RECIPE))


def test_choosing_by_runs_tells_how_far_it_is(store: Store, dataset: Dataset, first: Any) -> None:
    seen: list[tuple[int, int]] = []
    config = MatchConfig(
        dataset="digits", runs=(first.key, first.key), reselect=Reselect(name="two", budget=50, every=3)
    )
    made = select_by_runs(store, config, progress=lambda *at: seen.append(at)).selection
    assert [(r.first_epoch, r.size) for r in made.rounds] == [(0, 50), (3, 50)]
    done = [at for at, _ in seen]
    assert done == sorted(set(done))
    assert len(done) > 2
    assert seen[-1] == (2 * dataset.samples, 2 * dataset.samples)
