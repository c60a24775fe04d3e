"""A real Ray cluster with room for two workers, in processes of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from s3kit import S3Server

STARTING = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False},
)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass(frozen=True)
class Rays:
    """A cluster that runs.

    Attributes:
        address: of its head.
        notes: the folder of `noted_model`.
        home: where Ray keeps what it writes into the user's home.
    """

    address: str
    notes: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What workers and drivers share."""
        fair = {"RAY_worker_niceness": "0"}  # not 15, behind all else that the machine does
        return {"HOME": str(self.home), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"} | fair


@pytest.fixture(scope="session")
def rays(tmp_path_factory: pytest.TempPathFactory, _s3_server: S3Server) -> Iterator[Rays]:
    """Workers that know the S3 server; when it goes, no process of the cluster is left."""
    folder = tmp_path_factory.mktemp("ray")
    made = Rays("", folder / "notes", folder / "home")
    made.notes.mkdir()
    made.home.mkdir()
    environment = os.environ | _s3_server.environment | made.environment | {"TAMIS_NOTES": str(made.notes)}
    environment["TMPDIR"] = "/tmp"  # Ray's sockets lie there, and their names must be short
    starting = [sys.executable, "-W", "ignore", "-c", STARTING]
    with subprocess.Popen(
        starting, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as cluster:  # fmt: skip
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        assert address, "the Ray cluster did not start"
        yield Rays(address, made.notes, made.home)
        cluster.communicate(timeout=60)
    assert not sharing(cluster.pid)


def sharing(session: int) -> list[str]:
    """The commands of the processes of a session that still run."""
    found: list[str] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = status.read_text(errors="replace").rpartition(")")
        except OSError:  # gone by now
            continue
        state, _, _, of = fields.split()[:4]
        if int(of) == session and state != "Z":
            found.append(name)
    return found
