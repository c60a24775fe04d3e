"""One name, one config, on whatever server; what a service left is put back; what ended is counted and told, once."""

import datetime as dt
import json
import logging
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Cancelled, Completed, Crashed, Pending, Running, Scheduled

from tamis.flows.errors import DeploymentTaken
from tamis.flows.service import deploying
from tamis.flows.service.checking import Deployment
from tamis.flows.service.file import DeploymentTable
from tamis.flows.service.holding import SILENT, Holder, lives
from tamis.flows.service.interrupted import put_back, running
from tamis.flows.service.managing import listed
from tamis.flows.service.metrics import Endpoint, Metrics
from tamis.flows.service.watching import Watcher
from tamis.store import Store

FULL = "Deployment concurrency limit reached."  # as Prefect says it


def deployment(name: str, budget: str = "10%", **table: Any) -> Deployment:
    config = {"dataset": "digits", "budget": budget}
    made = DeploymentTable(flow="select", **{"cron": "0 3 * * *"} | table, config=config)
    return Deployment(name, made, {"store": "/nowhere", "config": config})


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


def test_a_name_has_one_config_as_long_as_its_service_lives(client: SyncPrefectClient) -> None:
    one, other = deployment("held"), deployment("held", "20%")
    first = Holder([one], Path("first.toml"))
    first.take(client)
    Holder([one], Path("twin.toml")).take(client)  # the same config: two machines may serve it
    late = Holder([deployment("free"), other], Path("late.toml"))
    with pytest.raises(DeploymentTaken, match=rf"held is served with another config by process {os.getpid()} .*first"):
        late.take(client)
    late.release(client)
    assert not first.alone(client, one)
    assert Holder([], Path()).alone(client, deployment("free")), "who is refused holds nothing"
    with pytest.raises(DeploymentTaken):  # of two that start at once, the later sees the earlier
        Holder([other], Path("later.toml"), since=first.since + 60).take(client)
    early = Holder([other], Path("earlier.toml"), since=first.since - 60)
    early.take(client)
    with pytest.raises(DeploymentTaken, match=r"earlier\.toml"):
        Holder([one], Path("first again.toml")).take(client)


def test_who_ended_holds_nothing(client: SyncPrefectClient) -> None:
    """A process that has ended, here killed before it could release anything."""
    one = deployment("left")
    said = json.loads(Holder([one], Path("gone.toml"))._said(one))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        ended.kill()
    assert lives(said)
    assert not lives(said | {"process": ended.pid})
    assert not lives(said | {"started": "1"}), "another process has its number by now"
    elsewhere = said | {"machine": "another", "process": 1}
    assert lives(elsewhere)
    assert not lives(elsewhere | {"beat": said["beat"] - SILENT - 1})


def test_registering_again_updates_and_says_so(client: SyncPrefectClient) -> None:
    one = deployment("changed")
    assert deploying.change(client, one) == "new"
    deploying.to_prefect(one).apply()
    assert deploying.change(client, one) == "unchanged"
    assert deploying.change(client, deployment("changed", "20%")).startswith("updated (config;")
    assert deploying.change(client, deployment("changed", cron="0 4 * * *")).startswith("updated (schedule;")
    deploying.to_prefect(deployment("changed", cron="0 4 * * *"), paused=True).apply()
    (row,) = [row for row in listed(client) if row["name"] == "changed"]
    assert (row["flow"], row["when"], row["paused"], row["next"]) == ("select", "0 4 * * *", True, None)


def test_an_interrupted_run_gives_its_place_back_and_is_due_at_once(client: SyncPrefectClient) -> None:
    identity = deploying.to_prefect(deployment("interrupted")).apply()
    run = client.create_flow_run_from_deployment(identity)
    client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(run.id, Running())
    second = client.create_flow_run_from_deployment(identity)
    refused = client.set_flow_run_state(second.id, Pending())
    assert refused.state is not None
    assert refused.state.is_cancelled(), "one at once"
    assert put_back(client, running(client, [identity])) == [run.name]
    due = client.get_scheduled_flow_runs_for_deployments([identity], scheduled_before=dt.datetime.now(dt.UTC))
    assert [one.id for one in due] == [run.id]
    assert client.set_flow_run_state(run.id, Pending()).state.is_pending(), "its place is free"


def test_late_runs_are_caught_up_by_one(client: SyncPrefectClient) -> None:
    """After a night without power, or a clock that jumped: of all that are late one runs, the others are skipped."""
    identity = deploying.to_prefect(deployment("late")).apply()
    late = [dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours) for hours in (3, 2, 1)]
    for time in late:
        client.create_flow_run_from_deployment(identity, state=Scheduled(scheduled_time=time))
    due = client.get_scheduled_flow_runs_for_deployments([identity], scheduled_before=dt.datetime.now(dt.UTC))
    states = [client.set_flow_run_state(run.id, Pending()).state for run in due]
    assert [state.type.value for state in states if state] == ["PENDING", "CANCELLED", "CANCELLED"]


def test_what_waits_is_kept(client: SyncPrefectClient) -> None:
    identity = deploying.to_prefect(deployment("waiting", collisions="wait")).apply()
    runs = [client.create_flow_run_from_deployment(identity) for _ in range(2)]
    states = [client.set_flow_run_state(run.id, Pending()).state for run in runs]
    assert [state.name for state in states if state] == ["Pending", "AwaitingConcurrencySlot"]


class Hook(BaseHTTPRequestHandler):
    heard: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []
    with socketserver.TCPServer(("127.0.0.1", 0), type("_Hook", (Hook,), {"heard": heard})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", heard
        server.shutdown()


def test_what_ended_is_counted_and_failures_are_told_once(
    client: SyncPrefectClient, hook: tuple[str, list[dict[str, Any]]], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    address, heard = hook
    told, silent = deployment("told", on_failure=address), deployment("silent", on_failure=["false"])
    ids = {deploying.to_prefect(one).apply(): one for one in (told, silent)}
    before = client.create_flow_run_from_deployment(next(iter(ids)))
    client.set_flow_run_state(before.id, Crashed(message="before"), force=True)
    metrics = Metrics(store.root.url)
    watcher = Watcher(client, ids, metrics, logging.getLogger("test"), lambda one: True)
    for identity in ids:
        for state in (
            Completed(),
            Crashed(message="power"),
            Cancelled(message="Deployment concurrency limit reached."),
        ):
            run = client.create_flow_run_from_deployment(identity)
            client.set_flow_run_state(run.id, Running(), force=True)
            client.set_flow_run_state(run.id, state, force=True)
    watcher.look()
    watcher.look()
    for thread in threading.enumerate():
        if thread.name == "tamis-notify":
            thread.join(30)
    assert [(one["deployment"], one["state"], one["message"]) for one in heard] == [("told", "Crashed", "power")]
    assert "on_failure could not tell of run" in caplog.text
    assert "false ended with exit code 1" in caplog.text
    text = metrics.text().decode()
    for name in ("told", "silent"):
        for state in ("completed", "crashed", "skipped"):
            assert f'tamis_flow_runs_total{{deployment="{name}",flow="select",state="{state}"}} 1.0' in text
    assert 'tamis_store_rows{table="datasets"} 0.0' in text
    assert "before" not in caplog.text, "what ended before the service began is no news"


def test_two_services_on_one_port(store: Store) -> None:
    first = Endpoint("127.0.0.1:0", Metrics(store.root.url), lambda: None)
    try:
        with pytest.raises(DeploymentTaken, match="cannot be had"):
            Endpoint(first.url.removeprefix("http://"), Metrics(store.root.url), lambda: None)
    finally:
        first.stop()
