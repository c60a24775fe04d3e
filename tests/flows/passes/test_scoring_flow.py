"""The flow `score` with several proxies: at once or one after another, the answers are the same and in order."""

from typing import Any

import pytest

from tamis.flows.configs import Resources, ScoreConfig
from tamis.flows.passes.scoring import score, train_all
from tamis.flows.runners import Direct
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.errors import TrainingEnded
from tamis.training.job import TrainConfig
from tamis.training.selecting.by_scores import SelectConfig, select

BRIEF: dict[str, Any] = {"dataset": "digits", "model": "tiny_model:linear", "epochs": 1, "batch_size": 64}


def proxies(*seeds: int) -> tuple[TrainConfig, ...]:
    return tuple(TrainConfig(**BRIEF, augment="none", seed=seed) for seed in seeds)


def test_proxies_train_at_once_in_processes_of_their_own(store: Store, dataset: Dataset, tmp_path: Any) -> None:
    config, resources = ScoreConfig(dataset="digits", proxies=proxies(0, 1)), Resources(workers=2)
    alone = Store.create(tmp_path / "alone")
    alone.datasets.add("digits", [shard.uri for shard in dataset.shards])
    one = score(Direct(1), alone.root.url, config, Resources())
    two = score(Direct(2), store.root.url, config, resources)
    assert [result.run for result in two] == [result.run for result in one]
    assert [result.model_run for result in two] == [result.model_run for result in one]
    rows = "select run, metric, sample, value from scores order by all"
    assert store.query(rows).equals(alone.query(rows))
    again = score(Direct(1), store.root.url, config, Resources(), force=True)
    assert [result.confirmed for result in again] == [True, True]


def test_the_same_proxy_twice_is_one_run_and_two_answers(store: Store, dataset: Dataset) -> None:
    config = ScoreConfig(dataset="digits", proxies=proxies(0, 0))
    first, second = score(Direct(1), store.root.url, config, Resources())
    assert first == second
    key = first.model_run
    assert key is not None
    both = score(Direct(1), store.root.url, ScoreConfig(dataset="digits", runs=(key, key)), Resources())
    assert [result.cached for result in both] == [True, True]


def test_a_process_that_fails_says_why(store: Store, dataset: Dataset) -> None:
    wrong = (*proxies(0), TrainConfig(**BRIEF | {"model": "tiny_model:nowhere"}))
    with pytest.raises(TrainingEnded, match=r"tiny_model:nowhere ended with code 1: UnknownModelError: .*nowhere"):
        train_all(Direct(2), store.root.url, wrong, Resources(workers=2), False)


def test_scores_of_the_same_shards_are_there_under_every_name(store: Store, dataset: Dataset) -> None:
    store.datasets.add("again", [shard.uri for shard in dataset.shards])
    (first,) = score(Direct(), store.root.url, ScoreConfig(dataset="digits", proxies=proxies(0)), Resources())
    (second,) = score(Direct(), store.root.url, ScoreConfig(dataset="again", runs=(first.model_run,)), Resources())
    assert (second.run, second.cached) == (first.run, True), "scores are found by content"
    for runs in ((), (second.run,)):
        asked = SelectConfig(dataset="again", measure="entropy", budget="10%", scores=runs)
        chosen = select(store, asked).selection
        assert chosen.dataset == "again@1"
    other = select(store, SelectConfig(dataset="digits", measure="entropy", budget="10%")).selection
    assert chosen.round_at(0)[0].tolist() == other.round_at(0)[0].tolist()
