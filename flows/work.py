"""The flows: index, score, features, detect, cull, select, train, match, renew, adapt, package_build. Each is thin: the
work is library functions, results are in the store.

One list, `FLOWS`: the commands, `tamis serve` and the schedule read it. A flow's body takes a runner (`Direct`, or the
one on a Prefect server), so there is one orchestration however its tasks run. Results of a flow are keys and figures.
Nothing here imports Prefect, torch or a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from tamis.flows import tasks
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
from tamis.flows.passes.grouping import groups
from tamis.flows.passes.scoring import score
from tamis.flows.progress import display
from tamis.flows.rays.cluster import Cluster
from tamis.flows.rays.running import on_cluster
from tamis.flows.renewal import renewing
from tamis.flows.renewal.config import RenewConfig, RenewResult
from tamis.flows.runners import Direct, Runner
from tamis.flows.searching import adapt
from tamis.flows.server.settings import has_server, on_server
from tamis.store import Store
from tamis.store.errors import RunNotFound
from tamis.store.roots.roots import Root
from tamis.training import job
from tamis.training.adapting.config import AdaptConfig
from tamis.training.job import TrainConfig
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.selecting.by_runs import MatchConfig
from tamis.training.selecting.by_scores import SelectConfig
from tamis.training.signals import passes, scoring
from tamis.training.signals.features import Question, finish_features
from tamis.training.signals.own import find_scorer

RunnerName = Literal["direct", "prefect", "ray"]


@dataclass(frozen=True)
class Flow:
    """A flow of the list.

    Attributes:
        name: on the command line and on a server.
        config: what it takes, beside the store.
        body: takes a runner, the store's place, a config, and what the next two say.
        resources: whether it computes, and takes `resources`.
        force: whether it can compute again what is there, and takes `force`.
    """

    name: str
    config: type[BaseModel]
    body: Callable[..., Any]
    resources: bool = True
    force: bool = True

    def arguments(self, limits: Resources, force: bool) -> dict[str, Any]:
        """What the flow takes of these."""
        return ({"resources": limits} if self.resources else {}) | ({"force": force} if self.force else {})

    def on_prefect(self, workers: int = 1, tasks: Any = None) -> Any:
        """The flow as Prefect has it, its tasks on so many threads, or by a task runner."""
        from prefect.task_runners import ThreadPoolTaskRunner

        from tamis.flows import flows

        runner: Any = tasks or ThreadPoolTaskRunner(max_workers=workers)
        return getattr(flows, f"{self.name}_flow").with_options(task_runner=runner)


def run(
    name: str,
    store: str,
    config: BaseModel,
    resources: Resources | None = None,
    *,
    force: bool = False,
    runner: RunnerName | None = None,
    cluster: Cluster | None = None,
) -> Any:
    """Run a flow once, with bars on a terminal.

    Args:
        name: in FLOWS.
        store: the store's root.
        config: of the flow's class.
        resources: what it may use.
        force: compute what is there already, and say whether it is confirmed.
        runner: None takes "prefect" where a Prefect server is configured, else "direct".
        cluster: for "ray"; None is the one that RAY_ADDRESS names or that runs on this machine.

    Raises:
        ServerUnreachable: the configured server is not there, or went away.
        ServerFailed: a temporary one, for "prefect" where none is configured, did not start.
        TamisError: for "ray", what `tamis.flows.rays.running.on_cluster` raises.
    """
    flow, limits = FLOWS[name], resources or Resources()
    arguments = flow.arguments(limits, force)
    if (runner or ("prefect" if has_server() else "direct")) == "direct":
        with display():
            return flow.body(Direct(limits.workers), store, config, **arguments)
    if runner == "ray":
        with on_cluster(cluster or Cluster(), store) as tasks:
            return flow.on_prefect(tasks=tasks)(Root(store).url, config, **arguments)
    with on_server(), display():
        return flow.on_prefect(limits.workers)(store, config, **arguments)


def index(runner: Runner, store: str, config: IndexConfig) -> IndexResult:
    """Index shards as a dataset, or as its next version."""
    return runner.call(tasks.INDEX, store, config)


def features(runner: Runner, store: str, config: FeaturesConfig, resources: Resources) -> ScoreResult:
    """Make a vector of every sample of the shards that have none yet under a model and a layer."""
    opened = Store.open(store)
    trained, dataset = opened.runs.get(config.run), opened.datasets.get(config.dataset)
    if trained.kind != "train" or trained.blob is None:
        raise RunNotFound(
            f"Run {trained.key[:12]} is not a finished training run, so it has no model to compute features with."
        )
    asked = Question(opened, dataset, trained.blob, config.layer, config.dtype)
    there = asked.find()
    missing = [] if there is not None else asked.missing()
    pinned = config.model_copy(update={"dataset": dataset.ref})
    shared: dict[str, Any] = {"store": store, "config": pinned, "model": trained.blob, "resources": resources}
    runner.each(tasks.FEATURES, [shared | {"shards": group} for group in groups(dataset.shards, missing, runner.width)])
    made = there or finish_features(asked, name=trained.model, model_run=trained.key)
    parts = len(missing), len(dataset.shards)
    return ScoreResult.of(made, model_run=trained.key, cached=there is not None, parts=parts)


def select(runner: Runner, store: str, config: SelectConfig, force: bool = False) -> dict[str, Any]:
    """Make a selection from scores that are there. Returns its name@version."""
    return runner.call(tasks.SELECT, store, config, force)


def train(runner: Runner, store: str, config: TrainConfig, resources: Resources, force: bool = False) -> dict[str, Any]:
    """Train a model on a dataset, or on a selection of it. Returns the run's key."""
    return runner.call(tasks.TRAIN, store, config, resources, force)


def match(runner: Runner, store: str, config: MatchConfig, resources: Resources, force: bool = False) -> dict[str, Any]:
    """Choose by the gradients of models that are trained already (Grad-Match). Returns the selection's name@version."""
    return runner.call(tasks.MATCH, store, config, resources, force)


def renew(runner: Runner, store: str, config: RenewConfig, resources: Resources) -> RenewResult:
    """Index and score what is new of a growing dataset, and make its selections again."""
    return renewing.renew(runner, store, config, resources, renewing.Bodies(score, features))


FLOWS = {
    flow.name: flow
    for flow in (
        Flow("index", IndexConfig, index, resources=False, force=False),
        Flow("score", ScoreConfig, score),
        Flow("features", FeaturesConfig, features, force=False),
        Flow("detect", DetectConfig, detect, force=False),
        Flow("cull", CullConfig, cull, force=False),
        Flow("select", SelectConfig, select, resources=False),
        Flow("train", TrainConfig, train),
        Flow("match", MatchConfig, match),
        Flow("renew", RenewConfig, renew, force=False),
        Flow("adapt", AdaptConfig, adapt, force=False),
        Flow("package_build", PackageConfig, package_build, force=False),
    )
}


def cached_scores(store: Store, config: ScoreConfig) -> list[ScoreResult] | None:
    """The answer of the flow `score` where all of it is in the store, or None. Runs no task and loads no model."""
    dataset, scorer = store.datasets.get(config.dataset), find_scorer(config.scorer)
    results: list[ScoreResult] = []
    trained = [store.runs.get(key) for key in config.runs] + [job.find(store, proxy) for proxy in config.proxies]
    for run in trained:
        scored = None if run is None or run.blob is None else scoring.find_scores(store, dataset, run.blob, scorer)
        if run is None or scored is None or (config.losses and not passes.recorded(store, scored.key)):
            return None
        results.append(ScoreResult.of(scored, model_run=run.key, cached=True, parts=(0, len(dataset.shards))))
    return results
