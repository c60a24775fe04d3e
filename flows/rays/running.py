"""A flow over a cluster: what has to be there, asked in the order of cost, and the connection while it runs."""

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING

from tamis.flows.errors import ClusterFailed, ServerNeeded
from tamis.flows.progress import display
from tamis.flows.rays.cluster import Cluster
from tamis.flows.rays.connection import check_extra, connected
from tamis.flows.server.settings import on_server, server_url
from tamis.store import Store

if TYPE_CHECKING:
    from tamis.flows.rays.task_runner import ClusterTasks

_NO_SERVER = (
    "--runner ray needs a Prefect server that runs (every worker would start its own otherwise, which takes minutes "
    "and fails): start it with `prefect server start --host 0.0.0.0` and set PREFECT_API_URL=http://HOST:4200/api, "
    "with a HOST that every machine reaches."
)


@contextlib.contextmanager
def on_cluster(cluster: Cluster, store: str) -> Generator["ClusterTasks"]:
    """Within: flows find the Prefect server, and the task runner given runs their tasks on the cluster, with bars.

    Raises:
        ExtraMissing: Ray is not installed.
        ServerNeeded, ServerUnreachable: no Prefect server is configured, or it does not answer.
        ClusterUnreachable: there is no cluster, or it does not answer.
        StoreUnseen: a node does not see the store.
        ClusterFailed: a task's workers died again and again.
    """
    check_extra()
    server = server_url()
    if server is None:
        raise ServerNeeded(_NO_SERVER)
    opened = Store.open_or_create(store)
    with on_server(), connected(cluster):
        from ray.exceptions import RayError

        from tamis.flows.rays.probing import check_nodes
        from tamis.flows.rays.reports import gathered
        from tamis.flows.rays.task_runner import ClusterTasks

        tasks = ClusterTasks(cluster)
        check_nodes(tasks, opened, server)
        try:
            with display(), gathered():
                yield tasks
        except RayError as error:
            said = " ".join(str(error).split())[:300]
            raise ClusterFailed(
                f"The cluster lost a task ({type(error).__name__}: {said}). Finished work is saved; run the command "
                "again to resume. Where workers run out of memory, give a task more: --cpus-per-task."
            ) from error
