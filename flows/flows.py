"""The flows as Prefect has them: for a configured server, one that is asked for, and schedules.

Prefect gives a view of what runs, and schedules. Their bodies, and the list of them, stand in `tamis.flows.work`.
Deployments on servers name these functions: they keep their names and their place. A run that `tamis serve` has started
ends with it.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext

from tamis.flows import work
from tamis.flows.artefacts import Steps, told
from tamis.flows.configs import (
    DetectConfig,
    FeaturesConfig,
    IndexConfig,
    IndexResult,
    Resources,
    ScoreConfig,
    ScoreResult,
)
from tamis.flows.detections.culling import CullConfig, cull
from tamis.flows.detections.detecting import detect
from tamis.flows.mainstream.building import package_build
from tamis.flows.passes.scoring import score
from tamis.flows.renewal.config import RenewConfig, RenewResult
from tamis.flows.searching import adapt
from tamis.flows.server.parent import end_with_service
from tamis.flows.tasks import PAUSE, RETRIES, P, R, Task, worth_retrying
from tamis.training.adapting.config import AdaptConfig
from tamis.training.job import TrainConfig
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.selecting.by_runs import MatchConfig
from tamis.training.selecting.by_scores import SelectConfig

end_with_service()


class OnPrefect:
    """Runs tasks as tasks of the Prefect flow that runs (a `tamis.flows.runners.Runner`).

    Args:
        workers: tasks at once. A served flow is imported for each run, without the task runner of `Flow.on_prefect`.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers

    @property
    def width(self) -> int:
        return _cluster_width() or self._workers

    @property
    def apart(self) -> bool:
        return _cluster_width() is not None

    def call(self, given: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.apart and given.computes:
            return _task(given).submit(*args, **kwargs).result()
        return _task(given)(*args, **kwargs)

    def each(self, given: Task[..., R], calls: Sequence[Mapping[str, Any]], /) -> list[R]:
        futures: list[Any] = []
        steps = Steps(given.name, len(calls))
        for arguments in calls:
            if not self.apart and len(futures) >= self._workers:  # a cluster bounds them itself
                futures[-self._workers].wait()
                steps.done()
            futures.append(_task(given).submit(**arguments))
        results: list[R] = []
        for number, future in enumerate(futures):
            results.append(future.result())
            if number >= len(futures) - self._workers:
                steps.done()
        return results


def _cluster_width() -> int | None:
    """Tasks at once on the cluster that the present flow runs over (`tamis.flows.rays`); None: it runs over none."""
    run = FlowRunContext.get()
    return getattr(run.task_runner, "width", None) if run is not None else None


@cache
def _task(given: Task[..., Any]) -> Any:
    options: dict[str, Any] = {"name": given.name, "cache_policy": NO_CACHE, "persist_result": False}
    if given.retried:
        options |= {"retries": RETRIES, "retry_delay_seconds": PAUSE, "retry_condition_fn": _worth_retrying}
    return task(**options)(given.body)


def _worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    failure = state.result(raise_on_failure=False)
    return isinstance(failure, BaseException) and worth_retrying(failure)


@flow(name="index", persist_result=False)
@told
def index_flow(store: str, config: IndexConfig) -> IndexResult:
    """Index shards as a dataset, or as its next version."""
    return work.index(OnPrefect(), store, config)


@flow(name="score", persist_result=False)
@told
def score_flow(
    store: str, config: ScoreConfig, resources: Resources | None = None, force: bool = False
) -> list[ScoreResult]:
    """Train the proxies that are not trained yet, and score every shard that is not scored yet."""
    limits = resources or Resources()
    return score(OnPrefect(limits.workers), store, config, limits, force)


@flow(name="features", persist_result=False)
@told
def features_flow(store: str, config: FeaturesConfig, resources: Resources | None = None) -> ScoreResult:
    """Make a vector of every sample of the shards that have none yet under a model and a layer."""
    limits = resources or Resources()
    return work.features(OnPrefect(limits.workers), store, config, limits)


@flow(name="detect", persist_result=False)
@told
def detect_flow(store: str, config: DetectConfig, resources: Resources | None = None) -> dict[str, Any]:
    """Have a detector look at the frames that it has not seen yet. Returns the run and what it came to."""
    limits = resources or Resources()
    return detect(OnPrefect(limits.workers), store, config, limits)


@flow(name="cull", persist_result=False)
@told
def cull_flow(store: str, config: CullConfig, resources: Resources | None = None) -> dict[str, Any]:
    """Keep the frames of a dataset that teach a student most. Returns the selections and what they rest on."""
    limits = resources or Resources()
    return cull(OnPrefect(limits.workers), store, config, limits)


@flow(name="select", persist_result=False)
@told
def select_flow(store: str, config: SelectConfig, force: bool = False) -> dict[str, Any]:
    """Make a selection from scores that are there. Returns its name@version."""
    return work.select(OnPrefect(), store, config, force)


@flow(name="train", persist_result=False)
@told
def train_flow(
    store: str, config: TrainConfig, resources: Resources | None = None, force: bool = False
) -> dict[str, Any]:
    """Train a model on a dataset, or on a selection of it. Returns the run's key."""
    return work.train(OnPrefect(), store, config, resources or Resources(), force)


@flow(name="match", persist_result=False)
@told
def match_flow(
    store: str, config: MatchConfig, resources: Resources | None = None, force: bool = False
) -> dict[str, Any]:
    """Choose by the gradients of models that are trained already (Grad-Match). Returns the selection's name@version."""
    return work.match(OnPrefect(), store, config, resources or Resources(), force)


@flow(name="renew", persist_result=False)
@told
def renew_flow(store: str, config: RenewConfig, resources: Resources | None = None) -> RenewResult:
    """Index and score what is new of a growing dataset, and make its selections again."""
    limits = resources or Resources()
    return work.renew(OnPrefect(limits.workers), store, config, limits)


@flow(name="adapt", persist_result=False)
@told
def adapt_flow(store: str, config: AdaptConfig, resources: Resources | None = None) -> dict[str, Any]:
    """Search for the prioritisation function that trains best under a budget (AdaptSB)."""
    limits = resources or Resources()
    return adapt(OnPrefect(limits.workers), store, config, limits)


@flow(name="package_build", persist_result=False)
@told
def package_build_flow(store: str, config: PackageConfig, resources: Resources | None = None) -> dict[str, Any]:
    """Train the candidates of a package that are not there yet, and publish it (M-Trainer)."""
    limits = resources or Resources()
    return package_build(OnPrefect(limits.workers), store, config, limits)
