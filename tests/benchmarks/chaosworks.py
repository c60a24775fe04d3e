"""What the chaos benchmark does to a store: every flow and the upkeep, each on a dataset of its own, and its answers.

A piece of work has variants 0, 1, ...: the same question of dataset `digits-V`. Its answer is what readers then see of
it, keys and contents: it depends on the question alone, so it is the same after any number of kills.
"""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tamis.flows.configs import DetectConfig, FeaturesConfig, IndexConfig, Resources, ScoreConfig
from tamis.flows.detections.culling import CullConfig, Watcher
from tamis.flows.renewal.config import RenewConfig
from tamis.flows.work import run
from tamis.store import Store
from tamis.store.datasets.packing import digit_samples, pack_samples
from tamis.store.errors import NotFound
from tamis.store.selections import Request, RoundData
from tamis.store.upkeep.collect import collect
from tamis.training.adapting.config import AdaptConfig
from tamis.training.config import Reselect
from tamis.training.job import TrainConfig
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.selecting.by_runs import MatchConfig
from tamis.training.selecting.by_scores import SelectConfig

VARIANTS = 3
_SHARD = 60  # samples
_STORED = 4  # shards of each dataset; the last one is not indexed yet
_DETECTOR = "tiny_model:detector"
_DAYS = 2 * 86400.0
_OTHERS = {"remove": "spare", "restore": "gone", "rename": "old"}  # selections that are there for these


def shards(store: Path, variant: int) -> list[str]:
    """The shards of a variant's dataset, which lie beside the store that was made first."""
    return sorted(map(str, (store.parent / "shards").glob(f"digits-{variant}-*.tar")))


def prepare(path: Path, variants: int) -> None:
    """Make the store that every round of kills begins with: datasets, trained models, scores, selections."""
    store, samples = Store.create(path), digit_samples()
    for variant in range(variants):
        some = itertools.islice(samples, _SHARD * _STORED)
        pack_samples(some, path.parent / "shards" / f"digits-{variant}", per_shard=_SHARD)
        dataset = store.datasets.add(f"digits-{variant}", shards(path, variant)[:-1])
        for name in _OTHERS.values():
            chosen = RoundData(range(10 + variant))
            request = Request(dataset, name, 1, seed=variant)
            store.selections.publish(request, f"{name}-{variant}", [chosen], seconds=0.0)
        store.selections.remove(f"gone-{variant}")
        trained = _run("train", path, _recipe(variant, 1))
        _run("score", path, ScoreConfig(dataset=_pinned(variant), runs=(trained["run"],)))
        _run("train", path, _base(variant))


def _run(name: str, store: Path, config: Any, workers: int = 1) -> Any:
    return run(name, str(store), config, Resources(device="cpu", workers=workers), runner="direct")


def _pinned(variant: int) -> str:
    return f"digits-{variant}@1"  # later versions come while others are at work


def _recipe(variant: int, seed: int, epochs: int = 2) -> TrainConfig:
    given: dict[str, Any] = {"model": "tiny_model:linear", "augment": "none", "batch_size": 32, "seed": seed}
    return TrainConfig(dataset=_pinned(variant), epochs=epochs, **given)


def _base(variant: int) -> TrainConfig:
    return TrainConfig(dataset=_pinned(variant), model="preact8", epochs=1, batch_size=64, augment="none")


def _key(store: Path, plan: TrainConfig) -> str:
    """The key of a run that was trained when the store was prepared."""
    runs = [one for one in Store.open(store).runs.all() if (one.kind, one.dataset) == ("train", plan.dataset)]
    return next(one.key for one in runs if (one.model, one.config["seed"]) == (plan.model, plan.seed))


def index(store: Path, variant: int) -> None:
    name = f"new-{variant}"
    _run("index", store, IndexConfig(name=name, shards=tuple(shards(store, variant)[:2])))


def append(store: Path, variant: int) -> None:
    name = f"digits-{variant}"
    _run("index", store, IndexConfig(name=name, shards=tuple(shards(store, variant)[-1:]), append=True))


def score(store: Path, variant: int) -> None:
    _run("score", store, ScoreConfig(dataset=_pinned(variant), proxies=(_recipe(variant, 2),), losses=True))


def features(store: Path, variant: int) -> None:
    _run("features", store, FeaturesConfig(dataset=_pinned(variant), run=_key(store, _recipe(variant, 1)), layer="1"))


def detect(store: Path, variant: int) -> None:
    _run("detect", store, DetectConfig(dataset=_pinned(variant), model=_DETECTOR, scale=0.5))


def cull(store: Path, variant: int) -> None:
    watcher, name = Watcher(model=_DETECTOR), f"culled-{variant}"
    asked: dict[str, Any] = {"teacher": watcher, "student": watcher, "first": "20", "keep": ("5",), "name": name}
    _run("cull", store, CullConfig(dataset=_pinned(variant), **asked))


def select(store: Path, variant: int) -> None:
    runs = Store.open(store).runs.all()
    scored = next(one.key for one in runs if (one.kind, one.dataset) == ("score", _pinned(variant)))  # the oldest
    how: dict[str, Any] = {"measure": "entropy", "budget": "30%", "name": f"uncertain-{variant}"}
    _run("select", store, SelectConfig(dataset=_pinned(variant), scores=(scored,), **how))


def train(store: Path, variant: int) -> None:
    _run("train", store, _recipe(variant, 3, epochs=4).model_copy(update={"record_losses": True}))


def match(store: Path, variant: int) -> None:
    how = Reselect(budget=20, kind="batch", name=f"matched-{variant}")
    run = _key(store, _recipe(variant, 1))
    _run("match", store, MatchConfig(dataset=_pinned(variant), runs=(run,), reselect=how, batch_size=10))


def renew(store: Path, variant: int) -> None:
    """Index a shard, train a model, score with it, and select."""
    name = f"renewed-{variant}"
    given: dict[str, Any] = {
        "dataset": name,
        "shards": shards(store, variant)[1:3],
        "proxies": [_recipe(variant, 4).model_dump(exclude={"dataset"})],
        "selections": [{"measure": "margin", "budget": "20%", "name": name}],
    }
    opened = Store.open(store)
    if name not in {row["dataset"] for row in opened.datasets.all()}:
        opened.datasets.add(name, shards(store, variant)[1:2])
    _run("renew", store, RenewConfig.model_validate(given))


def adapt(store: Path, variant: int) -> None:
    how: dict[str, Any] = {"trials": 2, "sampler": "random", "budget_epochs": 1, "name": f"adapted-{variant}"}
    _run("adapt", store, AdaptConfig(train=_recipe(variant, 5), **how))


def package_build(store: Path, variant: int) -> None:
    event = {"average": 4, "minimum": 1, "frequency": 0.1, "epochs": 1, "branchpoints": "2", "event": "3"}
    of = {"dataset": _pinned(variant), "base": "preact8", "base_run": _key(store, _base(variant))}
    _run("package_build", store, PackageConfig.model_validate({"name": f"threes-{variant}", **of, **event}))


def remove(store: Path, variant: int) -> None:
    selections = Store.open(store).selections
    if f"spare-{variant}" in {one.name for one in selections.all()}:
        selections.remove(f"spare-{variant}")


def restore(store: Path, variant: int) -> None:
    selections = Store.open(store).selections
    if f"gone-{variant}" not in {one.name for one in selections.all()}:
        selections.restore(f"gone-{variant}")


def rename(store: Path, variant: int) -> None:
    Store.open(store).selections.rename(f"old-{variant}", f"called-{variant}")


def gc(store: Path, variant: int) -> None:
    """Every file looks two days old, and no history stays."""
    moment = time.time() - _DAYS
    for path in store.rglob("*"):
        if path.is_file():
            os.utime(path, (moment, moment))
    collect(Store.open(store), keep=timedelta(0))


Answer = Callable[[Store, int], Any]


def _selection(name: str) -> Answer:
    def answer(store: Store, variant: int) -> Any:
        try:
            one = store.selections.get(f"{name}-{variant}")
        except NotFound:
            return None
        return [one.ref, one.key, [[s.tolist(), w.tolist()] for s, w in one.read_rounds()]]

    return answer


def _dataset(name: str, version: int) -> Answer:
    def answer(store: Store, variant: int) -> Any:
        ref = f"{name}-{variant}"
        there = [row for row in store.datasets.all() if (row["dataset"], row["version"]) == (ref, version)]
        return [store.datasets.get(f"{ref}@{version}").key, _rows(store, _SAMPLES, [ref])] if there else None

    return answer


_SAMPLES = "select * from samples where dataset = ? order by sample"


def _rows(store: Store, query: str, params: list[Any]) -> str:
    return hashlib.sha256(json.dumps(store.query(query, params).to_pylist(), default=str).encode()).hexdigest()


def _runs(kind: str, dataset: str = "digits", **said: Any) -> Answer:
    """Finished runs of a kind with what they left: weights, scores, boxes, losses.

    Args:
        kind: of the runs.
        dataset: of the runs, without the variant.
        said: what their configuration says.
    """

    def answer(store: Store, variant: int) -> Any:
        asked = (kind, "finished", f"{dataset}-{variant}")
        runs = [one for one in store.runs.all() if (one.kind, one.status, one.dataset.partition("@")[0]) == asked]
        found = [one for one in runs if all(one.config.get(what) == value for what, value in said.items())]
        return sorted([one.key, one.blob, _left(store, one.key)] for one in found) or None

    return answer


def _left(store: Store, run: str) -> list[str]:
    return [_rows(store, f"select * from {table} where run = ? order by all", [run]) for table in _TABLES]


_TABLES = ("scores", "losses", "boxes", "features")


@dataclass(frozen=True)
class Work:
    """A piece of work.

    Attributes:
        do: runs it in this process; None: `command` is a whole command line.
        answer: what readers see of it: a function of (store, variant); None before it is published.
        command: what follows `tamis --store STORE`, for a variant.
        last: comes when the others are done.
    """

    answer: Answer
    do: Callable[[Path, int], None] | None = None
    command: Callable[[int], tuple[str, ...]] | None = None
    last: bool = False


def _asked_select(variant: int) -> tuple[str, ...]:
    of = ("--dataset", _pinned(variant), "--budget", "25%", "--name", f"random-{variant}")
    return ("select", "random", *of)


def _asked_train(variant: int) -> tuple[str, ...]:
    how = ("--epochs", "3", "--batch-size", "32", "--augment", "none", "--seed", "6", "--device", "cpu")
    return ("train", "--dataset", _pinned(variant), "--model", "tiny_model:linear", *how)


def _scores(store: Store, variant: int) -> Any:
    """Those by the model that the flow itself trains."""
    trained = _runs("train", seed=2)(store, variant)
    return trained and _runs("score", model_run=trained[0][0])(store, variant)


def _package(store: Store, variant: int) -> Any:
    try:
        package = store.packages.get(f"threes-{variant}")
    except NotFound:
        return None
    return [package.ref, package.key, [one.content for one in package.candidates]]


def _priority(store: Store, variant: int) -> Any:
    return [
        [one.name, one.version, one.key] for one in store.priorities.all() if one.name == f"adapted-{variant}"
    ] or None


def _gone(store: Store, variant: int) -> Any:
    """That a removed selection is not found."""
    return _selection("spare")(store, variant) is None or None


def _collected(store: Store, variant: int) -> Any:
    """What is left to collect, but for the old log of what was just collected."""
    left = collect(store, keep=timedelta(0), dry_run=True)
    return sorted({one.why for one in left} - {"old log"})


WORKS = {
    "index": Work(_dataset("new", 1), index),
    "append": Work(_dataset("digits", 2), append),
    "score": Work(_scores, score),
    "features": Work(_runs("features"), features),
    "detect": Work(_runs("detect", scale=0.5), detect),
    "cull": Work(_selection("culled"), cull),
    "select": Work(_selection("uncertain"), select),
    "train": Work(_runs("train", seed=3), train),
    "match": Work(_selection("matched"), match),
    "renew": Work(_selection("renewed"), renew),
    "adapt": Work(_priority, adapt),
    "package_build": Work(_package, package_build),
    "remove": Work(_gone, remove),
    "restore": Work(_selection("gone"), restore),
    "rename": Work(_selection("called"), rename),
    "tamis select": Work(_selection("random"), command=_asked_select),
    "tamis train": Work(_runs("train", seed=6), command=_asked_train),
    "gc": Work(_collected, gc, last=True),
}
