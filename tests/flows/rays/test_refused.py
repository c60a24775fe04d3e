"""What a cluster cannot do is told in one line, before any work starts and before Ray waits for minutes."""

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tamis.flows.errors import ClusterUnreachable
from tamis.flows.rays.cluster import Cluster, endpoint
from tamis.flows.rays.connection import PATIENCE, check_answer, connected
from tamis.flows.rays.probing import look
from tamis.flows.server.settings import is_loopback
from tamis.store import Store
from tests.flows.conftest import Tamis

ASKED = ("select", "random", "--dataset", "digits", "--budget", 5)


def test_a_server_is_asked_for(tamis: Tamis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    tamis("init")
    said = tamis(*ASKED, "--runner", "ray")
    assert said.code == 1
    assert "needs a Prefect server" in said.err
    assert "prefect server start" in said.err
    assert said.err.count("\n") == 1


def test_a_missing_extra_is_named(tamis: Tamis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is installed wherever this test runs: that it is not is pretended."""
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else there(name))
    tamis("init")
    said = tamis(*ASKED, "--runner", "ray")
    assert said.code == 1
    assert said.err.startswith("Error: --runner ray needs ray, not installed here: pip install 'tamis[ray]'")


def test_options_of_a_cluster_need_one(tamis: Tamis) -> None:
    tamis("init")
    score = ("score", "uncertainty", "--dataset", "digits", "--run", "ab")
    assert "add --runner ray" in tamis(*score, "--address", "ray://head:10001").err
    assert "--cpus-per-task and --gpus-per-task without a cluster" in tamis(
        *score, "--cpus-per-task", 2, "--gpus-per-task", 1, "--runner", "direct"
    ).err  # fmt: skip
    refused = tamis(*score, "--runner", "ray", "--workers", 2)
    assert refused.code == 2
    assert "--workers is for this machine" in refused.err
    assert "--cpus-per-task" in tamis(*score, "--runner", "ray", "--cpus-per-task", 0).err
    assert "expected host:port, ray://host:port or auto" in tamis(*score, "--runner", "ray", "--address", "head").err


@pytest.mark.parametrize(
    "address", ["head", "head:port", "http://head:6379", "ray://head", "head:99999", "ray://h:1/x"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="expected host:port, ray://host:port or auto"):
        Cluster(address=address)


def test_addresses() -> None:
    assert endpoint("ray://head.example:10001") == ("head.example", 10001)
    assert endpoint("[::1]:6379") == ("::1", 6379)
    assert Cluster().address == "auto"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for three minutes and end the process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ClusterUnreachable, match=f"answers at {address} .*refused"):
            check_answer(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ClusterUnreachable, match=address), connected(Cluster()):
            pass


def test_a_server_that_is_no_cluster(prefect_server: str) -> None:
    """Something listens, and does not speak Ray's protocol."""
    address = prefect_server.removeprefix("http://").removesuffix("/api")
    with pytest.raises(ClusterUnreachable, match=f"answers at {address} in {PATIENCE:g} s"):
        check_answer(address)


def test_a_node_says_what_it_does_not_see(store: Store, tmp_path: Path, prefect_server: str) -> None:
    store.root.put("probe-1", b"probe-1")

    def seen(where: Any, name: str = "probe-1", server: str = prefect_server) -> str | None:
        return look(str(where), name, f"{name}-node", server)

    assert seen(store.root.url) is None
    assert store.root.exists("probe-1-node")
    assert seen(store.root.url, "probe-2") == "store: another folder has that path there."
    assert (seen(tmp_path / "elsewhere") or "").startswith("store: No store at")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        assert (seen(store.root.url, server=gone) or "").startswith("server: The Prefect server at")


def test_loopback_addresses() -> None:
    assert all(map(is_loopback, ("http://127.0.0.1:4200/api", "http://localhost:1/api", "http://[::1]:4200/api")))
    assert not is_loopback("http://10.0.0.7:4200/api")
