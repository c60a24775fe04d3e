"""A flow on a schedule of a real Prefect server, run there, in a process of its own."""

import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from tamis.flows.flows import OnPrefect
from tamis.flows.tasks import Task
from tamis.store import Store
from tests.flows.conftest import Tamis
from tests.flows.test_killed_flows import command


def test_serve_runs_a_flow_and_leaves_its_schedule(
    digits: dict[str, list[Path]], tmp_path: Path, prefect_server: str
) -> None:
    store = Store.create(tmp_path / "store")
    store.datasets.add("digits", digits["train"])
    config = tmp_path / "select.json"
    config.write_text(json.dumps({"dataset": "digits", "method": "random", "budget": "10%", "name": "nightly"}))
    serve = ("serve", "select", "--cron", "0 3 * * *", "--config", config)
    given = command("-m", "tamis.flows.cli", "--store", store.root.url, *serve, server=prefect_server)
    serving = subprocess.Popen(**given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
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


def test_serve_refuses_a_bad_config_before_anything_is_scheduled(tmp_path: Path, prefect_server: str) -> None:
    Store.create(tmp_path / "store")
    config = tmp_path / "select.json"
    config.write_text(json.dumps({"dataset": "digits", "budgets": "10%"}))

    def refused(cron: str) -> str:
        serve = ("serve", "match", "--config", config, "--cron", cron)
        given = command("-m", "tamis.flows.cli", "--store", tmp_path / "store", *serve, server=prefect_server)
        done = subprocess.run(**given, capture_output=True, timeout=120, check=False)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "budgets" in refused("0 3 * * *")
    config.write_text(json.dumps({"dataset": "digits", "runs": ["ab"]}))
    assert "whenever" in refused("whenever")


def test_serve_keeps_resources_with_the_schedule(tmp_path: Path, prefect_server: str) -> None:
    store, config = Store.create(tmp_path / "store"), tmp_path / "score.json"
    config.write_text(json.dumps({"dataset": "digits", "runs": ["ab"]}))
    serve = ("serve", "score", "--cron", "0 3 * * *", "--config", config, "--name", "limited")
    limits = ("--device", "cpu", "--workers", "2", "--score-batch", "64")
    given = command("-m", "tamis.flows.cli", "--store", store.root.url, *serve, *limits, server=prefect_server)
    serving = subprocess.Popen(**given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with get_client(sync_client=True) as client:
            deployment = _wait(lambda: _deployment(client, "score/limited"), serving)
        assert deployment.parameters["resources"] == {"device": "cpu", "workers": 2, "batch_size": 64}
    finally:
        serving.kill()
        serving.communicate()


def test_serve_refuses_what_a_flow_would_ignore(tamis: Tamis, tmp_path: Path) -> None:
    (tmp_path / "select.json").write_text("{}")
    refused = tamis("serve", "select", "--cron", "0 3 * * *", "--config", tmp_path / "select.json", "--workers", 2)
    assert refused.code == 2
    assert (
        "Flow select does not use --workers. Flows that do: score, features, detect, cull, train, match, renew, "
        "adapt, package_build." in refused.err
    )


def test_tasks_of_a_served_flow_are_bounded_by_workers(prefect_server: str) -> None:
    """Under Prefect's own task runner, which has no bound."""
    lock, running, most = threading.Lock(), 0, 0

    def body(value: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return value

    @flow(persist_result=False)
    def bounded() -> list[int]:
        return OnPrefect(2).each(Task("bounded", body), [{"value": i} for i in range(5)])

    assert bounded() == list(range(5))
    assert most <= 2


def _deployment(client: SyncPrefectClient, name: str = "select/tamis-select") -> Any:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _wait(found: Any, serving: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 180
    while not (answer := found()):
        assert serving.poll() is None, serving.communicate()
        assert time.monotonic() < deadline, "nothing happened in 180 s"
        time.sleep(0.2)
    return answer
