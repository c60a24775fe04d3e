"""Whether the nodes of a cluster can do a flow's tasks, asked before any work starts.

What: each node that fits a task reads a small file that the driver has just put into the store, puts one of its own
beside it, and asks the Prefect server how it is. So a folder that only the driver sees, or another one of the same
name, credentials that a node lacks, and a server on the driver's loopback are told in one line that names the node.
Cost: loading tamis once a node, all at once: some seconds; the worker stays for the first task.
"""

import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tamis.flows.errors import ClusterUnreachable, ServerUnreachable, StoreUnseen
from tamis.flows.rays.task_runner import ClusterTasks
from tamis.flows.server.settings import check_server, is_loopback
from tamis.store import Store
from tamis.store.errors import TamisError

_PATIENCE = 120.0  # s, for a node that first has to load everything from a slow disk


@dataclass(frozen=True)
class Node:
    """A node that fits a task: its id and address."""

    id: str
    host: str


def check_nodes(runner: ClusterTasks, store: Store, server: str) -> None:
    """Have every node show that it sees the store and the server.

    Raises:
        StoreUnseen: a node does not see the store, or another one in its place.
        ServerUnreachable: a node does not reach the Prefect server.
        ClusterUnreachable: a node does not answer, or cannot load tamis.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    fit = [Node(n["NodeID"], n["NodeManagerAddress"]) for n in alive if runner.fit(n["Resources"])]
    if not fit:
        needs = f"{runner.cluster.cpus:g} CPUs and {runner.cluster.gpus:g} GPUs"
        _say(f"No node of the cluster has {needs}, as a task needs: tasks wait until one joins.")
    if not runner.cluster.gpus and any(n["Resources"].get("GPU") for n in alive):
        _say("The cluster has GPUs, which tasks do not use: ask for them with --gpus-per-task 1.")
    if is_loopback(server) and len({node.host for node in fit}) > 1:
        _say(f"{server} is an address of each machine itself, and the cluster has several: set PREFECT_API_URL to one "
             "that all of them reach.")  # fmt: skip
    name = f"probe-{uuid.uuid4().hex}"
    store.root.put(name, name.encode())
    try:
        answers = _asked(fit, store.root.url, name, server)
        for node, answer in zip(fit, answers, strict=True):
            _judge(node, answer, store, name)
    finally:
        for left in (name, *(f"{name}-{node.id}" for node in fit)):
            store.root.delete(left)


def _asked(nodes: Sequence[Node], store: str, name: str, server: str) -> list[Any]:
    """What each node answers; an error in place of an answer."""
    probe = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = [
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            store, name, f"{name}-{node.id}", server
        )
        for node in nodes
    ]
    ray.wait(asked, num_returns=len(asked), timeout=_PATIENCE) if asked else None
    return [_got(one) for one in asked]


def _got(asked: Any) -> Any:
    try:
        return ray.get(asked, timeout=0)
    except (RayError, GetTimeoutError, TamisError, ImportError, OSError) as error:
        return error


def look(where: str, name: str, answer: str, server: str) -> str | None:
    """On a node: what is wrong with the store or the server, as this node sees them.

    Returns:
        None, "server: ..." or "store: ...".
    """
    try:
        store = Store.open(where)
        if store.root.get(name) != name.encode():
            return "store: another folder has that path there."
        store.root.put(answer, b"")
    except (TamisError, OSError) as error:
        return f"store: {error}"
    try:
        check_server(server)
    except ServerUnreachable as error:
        return f"server: {error}"
    return None


def _judge(node: Node, answer: Any, store: Store, name: str) -> None:
    if isinstance(answer, GetTimeoutError):
        raise ClusterUnreachable(f"Node {node.host} of the cluster did not answer in {_PATIENCE:g} s.")
    if isinstance(answer, BaseException):
        said = " ".join(str(answer).split())[-300:]
        raise ClusterUnreachable(
            f"Node {node.host} of the cluster cannot run tamis: {said} Install the same version of tamis[ray] there."
        )
    if answer is None and not store.root.exists(f"{name}-{node.id}"):
        answer = "store: what it writes there does not show here."
    if answer is not None:
        what, _, why = str(answer).partition(": ")
        kind, thing = (StoreUnseen, store.root.url) if what == "store" else (ServerUnreachable, "the Prefect server")
        raise kind(f"Node {node.host} of the cluster does not see {thing}: {why} {_ADVICE[what]}")


_ADVICE = {
    "store": "Give every node the same folder under the same path, or use a store on S3 that every node may write.",
    "server": "Set PREFECT_API_URL to an address that every node reaches.",
}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
