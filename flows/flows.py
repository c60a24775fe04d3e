"""The flows: index, score, select, train, match. Each is thin: the work is library functions, results are in the store.

Tasks hand on keys, never arrays. What is computed already is known by the store, not by Prefect: a flow that was killed
and runs again computes what is left. Prefect gives retries, a view of what runs, and schedules.
"""

from collections.abc import Sequence
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from tamis.curation.errors import CurationError
from tamis.flows.configs import IndexConfig, IndexResult, Resources, ScoreConfig, ScoreResult
from tamis.flows.progress import steps, track
from tamis.flows.work import index_shards
from tamis.store import Store
from tamis.store.errors import TamisError
from tamis.training import job
from tamis.training.job import TrainConfig
from tamis.training.selecting import by_runs as matching
from tamis.training.selecting import by_scores as selecting
from tamis.training.selecting.by_runs import MatchConfig
from tamis.training.selecting.by_scores import SelectConfig
from tamis.training.signals import scoring

_GROUPS = 64  # tasks of one pass at the most: a task costs Prefect some milliseconds, a killed one its shards


def _worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """A fault of the machine may pass; what tamis refuses, it refuses again."""
    failure = state.result(raise_on_failure=False)
    return isinstance(failure, Exception) and not isinstance(failure, TamisError | CurationError)


_once: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
_retried: dict[str, Any] = {**_once, "retries": 2, "retry_delay_seconds": 1, "retry_condition_fn": _worth_retrying}


@task(name="index-shards", **_retried)
def _index(store: str, config: IndexConfig) -> IndexResult:
    return index_shards(Store.open_or_create(store), config)


@task(name="train", **_once)
def _train(store: str, config: TrainConfig, resources: Resources, force: bool) -> dict[str, Any]:
    bar = steps(f"train {config.model}")
    result = job.train(Store.open(store), config, device=resources.device, force=force, progress=bar)
    return {"run": result.run.key, "cached": result.cached, "confirmed": result.confirmed}


@task(name="score-shards", **_retried)
def _score(store: str, dataset: str, shards: list[int], model: str, resources: Resources, force: bool) -> float:
    opened = Store.open(store)
    version = opened.datasets.get(dataset)
    bar = track("score", sum(version.shards[i].count for i in shards))
    options: dict[str, Any] = {"device": resources.device, "batch_size": resources.batch_size}
    return scoring.score_parts(opened, version, shards, model, force=force, progress=bar, **options)


@task(name="select", **_retried)
def _select(store: str, config: SelectConfig, force: bool) -> dict[str, Any]:
    published = selecting.select(Store.open(store), config, force=force)
    return {"selection": published.selection.ref, "created": published.created, "confirmed": published.confirmed}


@flow(name="index", persist_result=False)
def index_flow(store: str, config: IndexConfig) -> IndexResult:
    """Index shards as a dataset, or as its next version."""
    return _index(store, config)


@flow(name="score", persist_result=False)
def score_flow(
    store: str, config: ScoreConfig, resources: Resources | None = None, force: bool = False
) -> list[ScoreResult]:
    """Train the proxies that are not trained yet, and score every shard that is not scored yet."""
    opened, limits = Store.open(store), resources or Resources()
    results: list[ScoreResult] = []
    for trained, confirmed in _models(store, config, limits, force):
        run = opened.runs.get(trained)
        dataset = opened.datasets.get(config.dataset)
        assert run.blob is not None
        missing = scoring.missing_parts(opened, dataset, run.blob)
        wanted = list(range(len(dataset.shards))) if force else missing
        cached = not missing and scoring.find_scores(opened, dataset, run.blob) is not None
        groups = _split(wanted)
        shared: dict[str, Any] = {"model": run.blob, "resources": limits, "force": force}
        worst = max(
            (future.result() for future in [_score.submit(store, dataset.ref, g, **shared) for g in groups]),
            default=0.0,
        )
        scored = scoring.finish_scores(opened, dataset, run.blob, name=run.model, model_run=run.key)
        same = (worst <= 1e-5 and confirmed is not False) if force and cached else None
        results.append(
            ScoreResult.of(
                scored, model_run=run.key, cached=cached, parts=(len(missing), len(dataset.shards)), confirmed=same
            )
        )
    return results


@flow(name="select", persist_result=False)
def select_flow(store: str, config: SelectConfig, force: bool = False) -> dict[str, Any]:
    """Make a selection from scores that are there. Returns its name@version."""
    return _select(store, config, force)


@flow(name="train", persist_result=False)
def train_flow(
    store: str, config: TrainConfig, resources: Resources | None = None, force: bool = False
) -> dict[str, Any]:
    """Train a model on a dataset, or on a selection of it. Returns the run's key."""
    return _train(store, config, resources or Resources(), force)


@task(name="match", **_retried)
def _match(store: str, config: MatchConfig, resources: Resources, force: bool) -> dict[str, Any]:
    bar = steps("match gradients")
    made = matching.select_by_runs(Store.open(store), config, device=resources.device, force=force, progress=bar)
    return {"selection": made.selection.ref, "created": made.created, "confirmed": made.confirmed}


@flow(name="match", persist_result=False)
def match_flow(
    store: str, config: MatchConfig, resources: Resources | None = None, force: bool = False
) -> dict[str, Any]:
    """Choose by the gradients of models that are trained already (Grad-Match). Returns the selection's name@version."""
    return _match(store, config, resources or Resources(), force)


FLOWS = {"index": index_flow, "score": score_flow, "select": select_flow, "train": train_flow, "match": match_flow}


def with_workers(name: str, resources: Resources) -> Any:
    """A flow of FLOWS whose tasks run on this many threads."""
    runner: Any = ThreadPoolTaskRunner(max_workers=resources.workers)
    return FLOWS[name].with_options(task_runner=runner)


def _models(store: str, config: ScoreConfig, resources: Resources, force: bool) -> list[tuple[str, bool | None]]:
    """Keys of the runs whose models score, and whether a forced training confirmed what was stored."""
    found: list[tuple[str, bool | None]] = [(key, None) for key in config.runs]
    for proxy in config.proxies:
        result = _train(store, proxy, resources, force)
        found.append((result["run"], result["confirmed"]))
    return found


def _split(shards: Sequence[int]) -> list[list[int]]:
    size = max(1, -(-len(shards) // _GROUPS))
    return [list(shards[i : i + size]) for i in range(0, len(shards), size)]
