"""`tamis serve` with a real Prefect server of its own: schedules, runs, and what is left when it ends or is killed."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient

from tamis.flows.errors import DeploymentTaken
from tamis.flows.flows import OnPrefect
from tamis.flows.server.persistent import persistent_server, state
from tamis.flows.server.process import answers
from tamis.flows.tasks import Task
from tamis.store import Store
from tests.flows.conftest import Tamis
from tests.flows.service.servicekit import HOLDING, below, ends, lives, said, service, until

FILE = """
store = "store"
[metrics]
address = "127.0.0.1:0"
[deployments.nightly]
flow = "select"
cron = "0 3 * * *"
timezone = "Europe/Paris"
on_failure = ["sh", "-c", "cat > told.json"]
config = {dataset = "digits", method = "holding:select", budget = "10%", name = "nightly"}
[deployments.broken]
flow = "select"
interval = "30d"
on_failure = ["sh", "-c", "cat > told.json"]
config = {dataset = "digits", method = "random", budget = "10%", name = "no/name"}
"""


@pytest.fixture
def folder(tmp_path: Path, digits: dict[str, list[Path]]) -> Path:
    made = tmp_path / "service"
    made.mkdir()
    Store.create(made / "store").datasets.add("digits", digits["train"])
    (made / "tamis.toml").write_text(FILE)
    (made / "holding.py").write_text(HOLDING)
    return made


def home(folder: Path) -> Path:
    return folder / "state" / "tamis" / "service"


def ready(process: subprocess.Popen[str], folder: Path, times: int = 1) -> SyncPrefectClient:
    """A client of the service's server, once deployments are served."""
    until(process, folder, lambda: said(folder).count("Serving nightly, broken") >= times)
    found = state(home(folder))
    assert found is not None
    return SyncPrefectClient(found["url"])


def manage(tamis: Tamis, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """`tamis schedule ...`, which finds the server of the service by itself."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    answer = tamis("schedule", *arguments, "--file", folder / "tamis.toml", "--json")
    assert answer.code == 0, answer.err
    return answer.json


def get(folder: Path, path: str) -> tuple[int, str]:
    address = said(folder).rpartition("Metrics and health: ")[2].partition("/metrics")[0]
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.timeout(900)
def test_a_service_that_is_killed_leaves_nothing_and_the_next_goes_on(
    folder: Path, tamis: Tamis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(folder) as first:
        with ready(first, folder) as client:
            rows = {row["name"]: row for row in manage(tamis, folder, monkeypatch, "ls")}
            assert (rows["nightly"]["when"], rows["nightly"]["timezone"]) == ("0 3 * * *", "Europe/Paris")
            assert (rows["broken"]["when"], rows["broken"]["state"]) == ("every 30d", None)
            assert manage(tamis, folder, monkeypatch, "pause", "broken")["changed"]
            with pytest.raises(DeploymentTaken, match=rf"Another service \(process {first.pid}, .*tamis.toml\)"):
                persistent_server(home(folder), None, {}).__enter__()
            run = _catch(first, folder, client)
        left = below(first.pid)
        first.kill()
        until(None, folder, lambda: not any(map(lives, left)), 20)
    (folder / "begun").unlink()
    with service(folder) as second:
        with ready(second, folder, times=2) as client:
            until(second, folder, (folder / "begun").exists)
            assert client.read_flow_run(run).state_name == "Running", "the same run goes on"
            rows = {row["name"]: row for row in manage(tamis, folder, monkeypatch, "ls")}
            assert {name: row["paused"] for name, row in rows.items()} == {"nightly": False, "broken": True}
        left = below(second.pid)
        began = time.monotonic()
        assert ends(second, signal.SIGTERM) == 0
        assert time.monotonic() - began < 25
        until(None, folder, lambda: not any(map(lives, left)), 20)
    assert said(folder).count(" interrupted") == 2, "by the kill, and by the end"
    assert [name for (name,) in _rows(folder, "select state_name from flow_run where id = ?", str(run))] == [
        "Interrupted"
    ]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_service_tells_of_failures_outlives_its_server_and_ends_with_a_ctrl_c(
    folder: Path, tamis: Tamis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(folder, "--log-format", "json") as process, ready(process, folder) as client:
        _fails_and_tells(process, folder, client)
        _outlives_its_server(process, folder, client)
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        asked = ("schedule", "logs", "broken", "--file", folder / "tamis.toml", "--json")
        logs = until(process, folder, lambda: (answer := tamis(*asked)).code == 0 and answer.json)
        assert any("no/name" in line["message"] for line in logs["lines"])
        run = client.create_flow_run_from_deployment(client.read_deployment_by_name("select/nightly").id)
        until(process, folder, lambda: client.read_flow_run(run.id).state_name == "Completed")
        kinds = {artefact.type for artefact in client.read_artifacts()}
        assert kinds >= {"markdown", "table"}
        assert ends(process, signal.SIGINT) == 130
    told = [json.loads(line) for line in said(folder).splitlines() if line.startswith("{")]
    keyed = [line for line in told if line["key"] is not None and line["run"] == str(run.id)]
    assert {(line["flow"], line["deployment"], line["key"]) for line in keyed} == {("select", "nightly", "nightly@1")}


def _rows(folder: Path, query: str, *values: object) -> list[Any]:
    with contextlib.closing(sqlite3.connect(home(folder) / "prefect.db")) as database:
        return database.execute(query, values).fetchall()


def _fails_and_tells(process: subprocess.Popen[str], folder: Path, client: SyncPrefectClient) -> None:
    """A run that fails is counted, and told of."""
    client.create_flow_run_from_deployment(client.read_deployment_by_name("select/broken").id)
    until(process, folder, lambda: (folder / "told.json").exists() and (folder / "told.json").read_text())
    told = json.loads((folder / "told.json").read_text())
    assert (told["deployment"], told["flow"], told["state"]) == ("broken", "select", "Failed")
    metrics = get(folder, "/metrics")[1]
    assert 'tamis_flow_runs_total{deployment="broken",flow="select",state="failed"} 1.0' in metrics
    assert 'tamis_store_rows{table="datasets"} 1.0' in metrics
    assert get(folder, "/health") == (200, '{"status": "ok"}\n')


def _outlives_its_server(process: subprocess.Popen[str], folder: Path, client: SyncPrefectClient) -> None:
    """A database that is locked for a while, and a server that is killed: the service asks on."""
    with sqlite3.connect(home(folder) / "prefect.db") as database:
        database.execute("begin immediate")
        time.sleep(3)
        database.rollback()
    for one in below(process.pid):
        if b"flows.server.serving" in Path(f"/proc/{one}/cmdline").read_bytes():
            os.kill(one, signal.SIGKILL)
    until(process, folder, lambda: "The Prefect server had ended, and was started again." in said(folder))
    until(process, folder, lambda: answers(client.api_url.port or 0))


def _catch(process: subprocess.Popen[str], folder: Path, client: SyncPrefectClient) -> Any:
    """A run that is under way, and stays so while the file `hold` is there."""
    (folder / "hold").touch()
    (folder / "begun").unlink(missing_ok=True)
    deployment = client.read_deployment_by_name("select/nightly")
    run = client.create_flow_run_from_deployment(deployment.id)
    until(process, folder, (folder / "begun").exists)
    return run.id


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
