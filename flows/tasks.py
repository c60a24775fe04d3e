"""The tasks that flows are made of: plain functions, each a step that can be run again.

A task's body calls one library function. Tasks take and give plain values and keys, never arrays or open stores: what
runs them (`tamis.flows.runners`) may be this process or a Prefect server. What is computed already is known by the
store, so a task that was killed and runs again computes what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from tamis.curation.errors import CurationError
from tamis.flows.configs import DetectConfig, FeaturesConfig, IndexConfig, IndexResult, Resources
from tamis.flows.progress import steps, track
from tamis.store import Store
from tamis.store.errors import SelectionError, TamisError
from tamis.training import job
from tamis.training.adapting.config import AdaptConfig
from tamis.training.adapting.process import do_apart
from tamis.training.adapting.search import Search
from tamis.training.apart import train_apart
from tamis.training.detection import detecting
from tamis.training.detection.detector import find_detector
from tamis.training.detection.trained import open_trained
from tamis.training.job import TrainConfig
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.selecting import by_runs, by_scores
from tamis.training.selecting.by_runs import MatchConfig
from tamis.training.selecting.by_scores import SelectConfig
from tamis.training.selecting.distinct import select_distinct
from tamis.training.signals import features, scoring
from tamis.training.signals.culling import CullingConfig, score_culling
from tamis.training.signals.own import find_scorer

P = ParamSpec("P")
R = TypeVar("R")

RETRIES, PAUSE = 2, 1.0  # times a task is tried again, and seconds before each


@dataclass(frozen=True)
class Task(Generic[P, R]):
    """A step of a flow.

    Attributes:
        name: as a server shows it.
        body: does the work.
        retried: whether a fault of the machine is met by trying again.
        computes: whether it is worth another machine, where there are several. What does not is done beside the flow.
    """

    name: str
    body: Callable[P, R]
    retried: bool = True
    computes: bool = True


def worth_retrying(error: BaseException) -> bool:
    """A fault of the machine may pass; what tamis refuses, it refuses again."""
    return isinstance(error, Exception) and not isinstance(error, TamisError | CurationError)


def _index(store: str, config: IndexConfig) -> IndexResult:
    options = config.model_dump(exclude={"name", "shards"})
    opened = Store.open_or_create(store)
    return IndexResult.of(opened.datasets.index(config.name, config.shards, progress=steps("index"), **options))


def _train(store: str, config: TrainConfig, resources: Resources, force: bool, apart: bool = False) -> dict[str, Any]:
    if apart:
        return train_apart(store, config, resources.device, force)
    bar = steps(f"train {config.model}")
    result = job.train(Store.open(store), config, device=resources.device, force=force, progress=bar)
    return {"run": result.run.key, "cached": result.cached, "confirmed": result.confirmed}


def _score(
    store: str, dataset: str, shards: list[int], model: str, resources: Resources, force: bool, scorer: str
) -> float:
    opened = Store.open(store)
    version = opened.datasets.get(dataset)
    bar = track("score", sum(version.shards[i].count for i in shards))
    options: dict[str, Any] = {"device": resources.device, "batch_size": resources.batch_size}
    options["scorer"] = find_scorer(scorer)
    return scoring.score_parts(opened, version, shards, model, force=force, progress=bar, **options)


def _features(store: str, config: FeaturesConfig, shards: list[int], model: str, resources: Resources) -> None:
    opened = Store.open(store)
    version = opened.datasets.get(config.dataset)
    bar = track("features", sum(version.shards[i].count for i in shards))
    asked = features.Question(opened, version, model, config.layer, config.dtype)
    features.compute_parts(asked, shards, device=resources.device, batch_size=resources.batch_size, progress=bar)


def _detect(store: str, config: DetectConfig, shards: list[int], resources: Resources) -> float:
    asked = question(Store.open(store), config)
    bar = track("boxes", sum(len(asked.missing(number)) for number in shards))
    options: dict[str, Any] = {"device": resources.device, "batch_size": resources.batch_size}
    return detecting.compute(asked, shards, progress=bar, **options)


def question(store: Store, config: DetectConfig) -> detecting.Question:
    """What a config asks of a detector."""
    dataset = store.datasets.get(config.dataset)
    found = find_detector(
        store, config.model, weights=config.weights, classes=config.classes, scale=config.scale, trained=open_trained
    )
    if config.selection is None:
        return detecting.Question(store, dataset, found)
    chosen = store.selections.get(config.selection)
    if chosen.dataset != dataset.ref:
        raise SelectionError(
            f"Selection {chosen.ref} chooses from {chosen.dataset}, not from {dataset.ref}: name that."
        )
    return detecting.Question(store, dataset, found, np.sort(chosen.round_at(config.epoch)[0]))


def _distinct(store: str, dataset: str, name: str, threshold: int) -> str:
    opened = Store.open(store)
    version = opened.datasets.get(dataset)
    bar = track("hash frames", version.samples)
    return select_distinct(opened, version, name, threshold=threshold, progress=bar).selection.ref


def _culling(store: str, dataset: str, student: str, teacher: str | None, config: CullingConfig) -> str:
    opened = Store.open(store)
    return score_culling(opened, opened.datasets.get(dataset), student, teacher, config)[0].key


def _select(store: str, config: SelectConfig, force: bool) -> dict[str, Any]:
    published = by_scores.select(Store.open(store), config, force=force)
    return {"selection": published.selection.ref, "created": published.created, "confirmed": published.confirmed}


def _match(store: str, config: MatchConfig, resources: Resources, force: bool) -> dict[str, Any]:
    bar = steps("match gradients")
    made = by_runs.select_by_runs(Store.open(store), config, device=resources.device, force=force, progress=bar)
    return {"selection": made.selection.ref, "created": made.created, "confirmed": made.confirmed}


def _trial(store: str, config: AdaptConfig, number: int, proposal: tuple[float, ...], resources: Resources) -> bool:
    if resources.workers > 1:
        return do_apart(store, config, number, proposal, resources.device)
    return Search(Store.open(store), config).do(number, proposal, resources.device, steps(f"trial {number}"))


def _package_plan(store: str, config: PackageConfig) -> dict[str, Any]:
    from tamis.training.mainstream.trainer.building import Build  # loads torch

    made = Build(Store.open(store), config)
    return {"config": made.config, "missing": made.missing(), "candidates": len(made.branches)}


def _stem(store: str, config: PackageConfig, resources: Resources) -> list[int]:
    from tamis.training.mainstream.trainer.building import Build

    made = Build(Store.open(store), config)
    bar = track("stem features", len(made.data.train.samples_N) + len(made.data.held.samples_N))
    return made.prepare(device=resources.device, rows=resources.batch_size, progress=bar)


def _candidate(store: str, config: PackageConfig, branch: int, resources: Resources) -> str:
    from tamis.training.mainstream.trainer.building import Build
    from tamis.training.mainstream.trainer.process import train_apart

    if resources.workers > 1:
        return train_apart(store, config, branch, resources.device, resources.batch_size)
    bar, made = steps(f"candidate {branch}"), Build(Store.open(store), config)
    return made.train(branch, device=resources.device, rows=resources.batch_size, progress=bar).key


def _package(store: str, config: PackageConfig) -> dict[str, Any]:
    from tamis.training.mainstream.trainer.building import Build

    published = Build(Store.open(store), config).finish()
    return {"package": published.package.ref, "cached": not published.created}


INDEX = Task("index-shards", _index, computes=False)
TRAIN = Task("train", _train, retried=False)  # it resumes by itself, and may have run for hours
SCORE = Task("score-shards", _score)
FEATURES = Task("features-of-shards", _features)
DETECT = Task("detect-in-shards", _detect)
DISTINCT = Task("distinct-frames", _distinct)
CULLING = Task("score-culling", _culling, computes=False)
SELECT = Task("select", _select, computes=False)
MATCH = Task("match", _match)
TRIAL = Task("trial", _trial, retried=False)  # it resumes by itself
PACKAGE_PLAN = Task("plan-package", _package_plan, computes=False)
STEM = Task("stem-features", _stem)
CANDIDATE = Task("train-candidate", _candidate)
PACKAGE = Task("publish-package", _package, computes=False)
