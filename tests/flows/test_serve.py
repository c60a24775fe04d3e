"""A flow on a schedule of a real Prefect server, run there, in a process of its own."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from tamis.store import Store
from tests.flows.test_killed_flows import command


def test_serve_runs_a_flow_and_leaves_its_schedule(digits: dict[str, list[Path]], tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.datasets.add("digits", digits["train"])
    config = tmp_path / "select.json"
    config.write_text(json.dumps({"dataset": "digits", "method": "random", "budget": "10%", "name": "nightly"}))
    serve = (
        "-m",
        "tamis.flows.cli",
        "--store",
        store.root.url,
        "serve",
        "select",
        "--cron",
        "0 3 * * *",
        "--config",
        config,
    )
    serving = subprocess.Popen(**command(*serve), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with get_client(sync_client=True) as client:
            deployment = _wait(lambda: _deployment(client), serving)
            client.create_flow_run_from_deployment(deployment.id)
            _wait(lambda: store.selections.all(), serving)
            assert store.selections.get("nightly").size == 150
            serving.send_signal(signal.SIGTERM)
            serving.wait(timeout=60)
            (schedule,) = client.read_deployment(deployment.id).schedules
            assert schedule.active, "the schedule stays when nothing serves it"
            assert str(schedule.schedule.cron) == "0 3 * * *"
    finally:
        serving.kill()
        serving.communicate()


def test_serve_refuses_a_bad_config_before_anything_is_scheduled(tmp_path: Path) -> None:
    Store.create(tmp_path / "store")
    config = tmp_path / "select.json"
    config.write_text(json.dumps({"dataset": "digits", "budgets": "10%"}))
    serve = (
        "-m",
        "tamis.flows.cli",
        "--store",
        tmp_path / "store",
        "serve",
        "select",
        "--config",
        config,
        "--cron",
    )
    for cron in ("0 3 * * *", "whenever"):
        done = subprocess.run(**command(*serve, cron), capture_output=True, timeout=120, check=False)
        assert done.returncode == 1, done.stderr
        assert "budget" in done.stderr
        assert "Traceback" not in done.stderr
    config.write_text(json.dumps({"dataset": "digits", "method": "random", "budget": "10%"}))
    done = subprocess.run(**command(*serve, "whenever"), capture_output=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "whenever" in done.stderr


def _deployment(client: SyncPrefectClient) -> Any:
    try:
        return client.read_deployment_by_name("select/tamis-select")
    except ObjectNotFound:
        return None


def _wait(found: Any, serving: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 180
    while not (answer := found()):
        assert serving.poll() is None, serving.communicate()
        assert time.monotonic() < deadline, "nothing happened in 180 s"
        time.sleep(0.2)
    return answer
