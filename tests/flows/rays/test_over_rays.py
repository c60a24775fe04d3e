"""A flow over a real Ray cluster of two workers, on a real Prefect server, with the store on a server that speaks S3."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from s3kit import S3Server

from tamis.store import Store
from tests.flows.rays.conftest import Rays
from tests.flows.test_temporary_server import lives, until

SCORE = ("score", "uncertainty", "--dataset", "digits", "--model", "tests.flows.rays.noted_model:noted", "--augment",
         "none", "--epochs", 1, "--batch-size", 64, "--proxy", "preact8", "--json")  # fmt: skip


def scored(store: Store, *more: object, environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "tamis.flows.cli", "--store", store.root.url, *map(str, (*SCORE, *more))]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def everything(store: Store) -> list[dict[str, Any]]:
    return store.query("select metric, sample, value from scores order by all").to_pylist()


@pytest.mark.slow
def test_an_ensemble_over_two_workers_of_which_one_is_killed(
    rays: Rays, digits: dict[str, list[Path]], tmp_path: Path, s3: S3Server, prefect_server: str
) -> None:
    """Its task runs again, and the scores are those of one process, to the bit."""
    here, there = Store.create(tmp_path / "here"), Store.create(s3.bucket())
    for store in (here, there):
        store.datasets.add("digits", digits["train"])
    alone = scored(here, "--runner", "direct", environment={"OMP_NUM_THREADS": "1"})
    (rays.notes / "die").touch()
    spread = scored(
        there, "--runner", "ray", "--address", rays.address, environment=rays.environment | {"PREFECT_API_URL": prefect_server}
    )
    told = ("run", "dataset", "parts_computed", "metrics")
    assert [[one[name] for name in told] for one in spread] == [[one[name] for name in told] for one in alone]
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
