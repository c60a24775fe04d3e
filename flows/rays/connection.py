"""The connection of this process to a Ray cluster.

Ray waits minutes for a cluster that is not there, and then ends the process: whether somebody answers is asked first.
It is asked to send no usage statistics and not to print what workers print: what goes wrong is told by tamis.
"""

import contextlib
import importlib.util
import logging
import os
import socket
import sys
import uuid
from collections.abc import Generator
from typing import Any

from tamis.flows.errors import ClusterUnreachable
from tamis.flows.rays.cluster import AUTO, Cluster, endpoint
from tamis.training.errors import ExtraMissing

PATIENCE = 5.0  # s
_EXPECTED = (
    "Expected host:port of its head from a machine of the cluster (`ray start --address` says which), or "
    "ray://host:10001 from elsewhere."
)


def check_extra() -> None:
    """Raise ExtraMissing where Ray or Prefect's part for it is not installed."""
    if missing := [name for name in ("ray", "prefect_ray") if importlib.util.find_spec(name) is None]:
        raise ExtraMissing(
            f"--runner ray needs {' and '.join(missing)}, not installed here: pip install 'tamis[ray]', on every "
            "machine of the cluster."
        )


@contextlib.contextmanager
def connected(cluster: Cluster) -> Generator[None]:
    """Within: this process is a driver of the cluster.

    Raises:
        ClusterUnreachable: there is none, it does not answer in some seconds, or does not take this process.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    address = os.environ.get("RAY_ADDRESS") or AUTO if cluster.address == AUTO else cluster.address
    if address != AUTO:
        check_answer(Cluster(address=address).address)
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells there what dies, and answers go to the other
        try:
            _init(ray, address)
        except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:
            raise _refused(address, error) from error
        try:
            yield
        finally:
            ray.shutdown()


def check_answer(address: str) -> None:
    """Ask whether something that speaks Ray's protocol listens at an address.

    Raises:
        ClusterUnreachable: nothing does, or not in 5 s.
    """
    import grpc

    host, port = endpoint(address)
    options = [("grpc.enable_http_proxy", 0)]
    try:
        socket.create_connection((host, port), PATIENCE).close()  # says at once that nobody listens
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return  # Ray alone knows its certificates
        with grpc.insecure_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", options) as channel:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE)
    except (OSError, grpc.FutureTimeoutError) as error:
        why = f" ({error})" if isinstance(error, OSError) else f" in {PATIENCE:g} s"
        raise ClusterUnreachable(
            f"No Ray cluster answers at {address}{why}. {_EXPECTED} Or run without one (--runner direct)."
        ) from error


def _init(ray: Any, address: str) -> None:
    own = f"tamis-{uuid.uuid4().hex[:12]}"  # names of actors are one namespace's
    ray.init(address=address, namespace=own, log_to_driver=False, logging_level=logging.CRITICAL)


def _refused(address: str, error: BaseException) -> ClusterUnreachable:
    said = " ".join(str(error).split())[:300]
    if address == AUTO:
        return ClusterUnreachable(
            "No Ray cluster runs on this machine, and RAY_ADDRESS is not set: start one (`ray start --head`), or give "
            "--address host:port or ray://host:10001."
        )
    return ClusterUnreachable(f"The Ray cluster at {address} takes no work from here: {said} {_EXPECTED}")
