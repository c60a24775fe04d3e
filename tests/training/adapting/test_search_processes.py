"""Searches in real processes: killed with kill -9, shared by two, and trials in processes of their own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from s3kit import S3Server

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.adapting.config import AdaptConfig
from tamis.training.config import InLoop, TrainConfig

pytestmark = pytest.mark.nightly

CHILD = Path(__file__).with_name("searching_child.py")
TRAIN = TrainConfig(
    dataset="digits", model="tiny_model:linear", channels=1, augment="none", batch_size=64, lr=0.01,
    strategy=InLoop(name="selective-backprop", start=0),
)  # fmt: skip
_PATIENCE = 120.0  # s


def begun(store: Store, config: AdaptConfig, workers: int = 1) -> "subprocess.Popen[str]":
    tests = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": tests}
    command = [sys.executable, str(CHILD), store.root.url, config.model_dump_json(), str(workers)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def over(process: "subprocess.Popen[str]") -> None:
    _, said = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, said


def events(store: Store) -> list[dict[str, Any]]:
    """All that was said of trials, in order."""
    return [row for row in store.tables.rows_in_order("runs") if row["kind"] == "trial"]


def answers(store: Store) -> list[dict[str, Any]]:
    asked = """select config, metrics->>'value' as value, metrics->>'run' as run, status from runs where kind = 'trial'
               order by (config->>'trial')::int"""
    return store.query(asked).to_pylist()


def found(store: Store) -> dict[str, Any]:
    one = store.priorities.get("digits-adaptsb")
    return {"function": one.function, "trial": one.trial, "search": one.search}


def test_a_search_that_was_killed_comes_to_the_same(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    config = AdaptConfig(train=TRAIN, trials=6, startup=3, budget_epochs=2)
    other = Store.open(shutil.copytree(store.root.url, tmp_path / "undisturbed"))
    over(begun(other, config))
    for ended in (1, 4):  # in the random part, and behind it
        process, until = begun(store, config), time.monotonic() + _PATIENCE
        while sum(row["status"] == "finished" for row in events(store)) < ended:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=_PATIENCE)
        assert process.returncode == -signal.SIGKILL
    over(begun(store, config))
    assert answers(store) == answers(other)
    assert found(store) == found(other)


def test_two_searchers_share_the_trials_and_do_none_twice(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    config = AdaptConfig(train=TRAIN, trials=10, startup=6, parallel=2, budget_epochs=6)
    alone = Store.open(shutil.copytree(store.root.url, tmp_path / "alone"))
    over(begun(alone, config))
    for process in [begun(store, config), begun(store, config)]:
        over(process)
    told = events(store)
    assert set(Counter(row["run"] for row in told if row["status"] == "running").values()) == {1}
    assert set(Counter(row["run"] for row in told if row["status"] == "finished").values()) == {1}
    assert len({row["process"] for row in told}) == 2
    assert answers(store) == answers(alone)
    assert found(store) == found(alone)


def test_trials_at_once_have_processes_of_their_own(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    config = AdaptConfig(train=TRAIN, trials=3, sampler="random", budget_epochs=1)
    alone = Store.open(shutil.copytree(store.root.url, tmp_path / "alone"))
    over(begun(alone, config))
    over(begun(store, config, workers=2))
    assert len({row["process"] for row in events(store)}) == 3
    assert answers(store) == answers(alone)


def test_two_searchers_share_a_store_on_s3(store: Store, dataset: Dataset, s3: S3Server, tmp_path: Path) -> None:
    config = AdaptConfig(train=TRAIN, trials=5, startup=3, parallel=2, budget_epochs=1)
    remote = Store.create(f"{s3.bucket()}/store")
    remote.datasets.add("digits", [shard.uri for shard in dataset.shards])
    for process in [begun(remote, config), begun(remote, config)]:
        over(process)
    over(begun(store, config))
    told = events(remote)
    assert set(Counter(row["run"] for row in told if row["status"] == "running").values()) == {1}
    assert answers(remote) == answers(store)
    assert found(remote) == found(store)
