"""Scoring over a Ray cluster of two workers against one of one worker: one core and one thread of PyTorch each.

Both clusters run on this machine the whole time, idle but for the flow that is measured; flows take turns. Measured is
the flow, from its start on a Prefect server to its end: loading PyTorch in fresh workers is in it, the connection to
the cluster is not. The store is a folder. Ray would run workers at niceness 15, behind all else that a machine does.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench_scoring import _train
from benchlib import Result, folder

from tamis.flows.server.settings import prepare
from tamis.flows.server.temporary import temporary_server
from tamis.store import Store
from tamis.store.datasets.packing import pack_digits
from tamis.store.runs import Run

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

small = {"num_cpus": int(sys.argv[1]), "object_store_memory": 80 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=small)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
FLOW = """
import json, sys, time
from tamis.flows.configs import ScoreConfig
from tamis.flows.rays.cluster import Cluster
from tamis.flows.rays.running import on_cluster
from tamis.flows.server.settings import prepare
from tamis.flows.work import FLOWS

prepare()
store, run, address = sys.argv[1:]
with on_cluster(Cluster(address=address), store) as tasks:
    flow = FLOWS["score"].on_prefect(tasks=tasks)
    started = time.perf_counter()
    flow(store, ScoreConfig(dataset="data", runs=(run,)))
    print(json.dumps(time.perf_counter() - started), file=sys.__stdout__)
"""


def run(quick: bool, data: Path | None) -> list[Result]:
    shards = [] if quick or data is None else sorted(Path(data).glob("train-*.tar"))[:8]
    workers = (2,) if quick else (1, 2)
    prepare()
    server = temporary_server()
    with folder() as path, contextlib.ExitStack() as running:
        shards = shards or pack_digits(path / "digits")
        trained, model = _train(path / "trained", shards[:1], "preact8" if len(shards) == 5 else "preact20")
        clusters = {count: running.enter_context(cluster(count)) for count in workers}
        seconds: dict[int, list[float]] = {count: [] for count in workers}
        for number in range(1 if quick else 3):
            for count, address in clusters.items():
                store = _store(path / f"{count}-{number}", shards, trained, model)
                seconds[count].append(_flow(store, trained.key, address, server))
    medians = {count: statistics.median(taken) for count, taken in seconds.items()}
    note = f"{trained.model}, {len(shards)} shards; {[[round(s, 1) for s in taken] for taken in seconds.values()]}"
    return [Result("score over two workers", medians[2], "s", "over one", medians.get(1), 1 / 1.6, note)]


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[str]:
    """The address of a cluster of this machine with so many cores to give."""
    command = [sys.executable, "-W", "ignore", "-c", CLUSTER, str(workers)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
        child.communicate(timeout=60)


def _store(path: Path, shards: list[Path], trained: Run, model: bytes) -> str:
    """A store with the data and a model that has scored none of it."""
    store = Store.create(path)
    store.datasets.add("data", shards)
    store.runs.begin(kind="train", key=trained.key, dataset=trained.dataset, model=trained.model, config=trained.config)
    store.runs.finish(trained.key, model=store.blobs.put(model))
    return str(path)


def _flow(store: str, run: str, address: str, server: str) -> float:
    environment = os.environ | {"PREFECT_API_URL": server}
    command = [sys.executable, "-c", FLOW, store, run, address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1]))
