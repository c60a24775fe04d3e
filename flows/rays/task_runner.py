"""Prefect's task runner for Ray, as flows of tamis use it.

What: `ClusterTasks` submits tasks with the cores and GPUs that a task was given, spread over the nodes; a worker bounds
PyTorch's threads to its cores and tells how far it is (`tamis.flows.rays.reports`).
How: a task is sent by the name of its function, so the nodes need the same version of tamis, and a model of one's own.
A task whose worker was killed runs again, up to three times; what it had finished is in the store.
Cost: .16 s a task, and loading PyTorch once a worker.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import ray
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options

from tamis.flows.progress import listening
from tamis.flows.rays.cluster import Cluster
from tamis.flows.rays.reports import sender
from tamis.flows.server.settings import prepare


class ClusterTasks(RayTaskRunner[Any]):
    """Runs tasks on the cluster that this process is connected to.

    Args:
        cluster: what a task takes of it.
    """

    def __init__(self, cluster: Cluster, **options: Any) -> None:
        super().__init__(**options)
        self.cluster = cluster

    def duplicate(self) -> "ClusterTasks":
        """One with the same settings."""
        return type(self)(self.cluster)

    @property
    def width(self) -> int:
        """Tasks that the cluster runs at once, by its nodes of this moment; at least 1."""
        return max(1, sum(self.fit(node["Resources"]) for node in ray.nodes() if node["Alive"]))

    def fit(self, there: dict[str, float]) -> int:
        """Tasks at once on a node with these resources."""
        bounds = [there.get("CPU", 0.0) / self.cluster.cpus]
        if self.cluster.gpus:
            bounds.append(there.get("GPU", 0.0) / self.cluster.gpus)
        return int(min(bounds))

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a task with what it takes of the cluster."""
        takes = {"num_cpus": self.cluster.cpus, "num_gpus": self.cluster.gpus}
        with remote_options(**takes, scheduling_strategy="SPREAD"):
            return super().submit(*args, **kwargs)

    @staticmethod
    def _run_prefect_task(*refs: Any, **given: Any) -> Any:
        """On a worker."""
        prepare()
        with _bounded(), listening(sender(str(given["task_run_id"]))):
            return RayTaskRunner._run_prefect_task(*refs, **given)


@contextmanager
def _bounded() -> Generator[None]:
    """Within: PyTorch uses as many threads as the task has cores."""
    import torch

    cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    torch.set_num_threads(max(1, int(cores)))
    yield
