"""A flow over a real Ray cluster of two workers, on a real Prefect server, with the store on an S3 server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect.client.orchestration import get_client
from s3kit import S3Server

from tamis.flows.configs import ScoreConfig, ScoreResult
from tamis.flows.work import run
from tamis.store import Store
from tamis.training.job import TrainConfig
from tests.flows.rays.conftest import Rays
from tests.flows.test_temporary_server import lives, until

PROXY = "tests.flows.rays.noted_model:noted"
BRIEF: dict[str, Any] = {"dataset": "digits", "model": PROXY, "epochs": 1, "batch_size": 64, "augment": "none"}
SCORE = ("score", "uncertainty", "--dataset", "digits", "--proxy", PROXY, "--ensemble", 2, "--epochs", 1,
         "--batch-size", 64, "--augment", "none", "--json")  # fmt: skip


def scored_alone(store: Store) -> list[ScoreResult]:
    """In this process, on one thread, as a task with one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        proxies = tuple(TrainConfig(**BRIEF, seed=seed) for seed in range(2))
        return run("score", store.root.url, ScoreConfig(dataset="digits", proxies=proxies), runner="direct")
    finally:
        torch.set_num_threads(threads)


def scored_over(rays: Rays, store: Store, server: str) -> list[dict[str, Any]]:
    """By the command line, in a process of its own."""
    over = ("--runner", "ray", "--address", rays.address)
    command = [sys.executable, "-m", "tamis.flows.cli", "--store", store.root.url, *map(str, (*SCORE, *over))]
    environment = os.environ | rays.environment | {"PREFECT_API_URL": server}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=480, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def everything(store: Store) -> list[dict[str, Any]]:
    return store.query("select metric, sample, value from scores order by all").to_pylist()


@pytest.mark.nightly  # a minute of CPU, and more on the clock
@pytest.mark.timeout(600)
def test_an_ensemble_over_two_workers_of_which_one_is_killed(
    rays: Rays, digits: dict[str, list[Path]], tmp_path: Path, s3: S3Server, prefect_server: str
) -> None:
    """Its task runs again, and the scores are those of one process, to the bit."""
    here, there = Store.create(tmp_path / "here"), Store.create(s3.bucket())
    for store in (here, there):
        store.datasets.add("digits", digits["train"])
    alone = scored_alone(here)
    (rays.notes / "die").touch()
    spread = scored_over(rays, there, prefect_server)
    for one, other in zip(spread, alone, strict=True):
        assert one == other.model_dump(mode="json") | {"seconds": one["seconds"]}
    assert everything(there) == everything(here)
    workers = {int(path.name) for path in rays.notes.glob("[0-9]*")}
    assert int((rays.notes / "dead").read_text()) in workers
    assert len(workers) >= 2
    until(lambda: not any(map(lives, workers)))
    assert not there.root.list("probe-")
    assert not list(rays.home.rglob("*token*"))
    with get_client(sync_client=True) as client:
        (run,) = [one for one in client.read_flow_runs() if one.parameters.get("store") == there.root.url]
    assert run.state_name == "Completed"
