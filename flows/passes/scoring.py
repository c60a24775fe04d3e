"""The flow `score`: train the proxies that are not trained yet, and score what they have not scored yet.

A body of `tamis.flows.work.FLOWS`. All proxies train at once where the runner has room, and then all passes are one
list of tasks, so that no worker waits for another model's last shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.flows import tasks
from tamis.flows.configs import Resources, ScoreConfig, ScoreResult
from tamis.flows.passes.grouping import groups
from tamis.flows.runners import Runner
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.runs import Run
from tamis.training.job import TrainConfig
from tamis.training.signals import passes, scoring
from tamis.training.signals.own import find_scorer
from tamis.training.signals.scorers import Scorer


def score(
    runner: Runner, store: str, config: ScoreConfig, resources: Resources, force: bool = False
) -> list[ScoreResult]:
    """Train the proxies that are not trained yet, and score every shard that is not scored yet."""
    scorer = find_scorer(config.scorer)
    for proxy in config.proxies:
        scorer.check_task(proxy.task)
    models: dict[str, bool | None] = dict.fromkeys(config.runs)
    trained = train_all(runner, store, config.proxies, resources, force)
    models |= {one["run"]: one["confirmed"] for one in trained}
    opened = Store.open(store)
    dataset = opened.datasets.get(config.dataset)
    asked = {key: _Pass(opened, dataset, scorer, key, resources, force, runner.width) for key in models}
    calls = [call for one in asked.values() for call in one.calls()]
    worst = iter(runner.each(tasks.SCORE, calls))
    results = {key: one.finish(worst, models[key]) for key, one in asked.items()}
    for result in results.values() if config.losses else ():
        passes.record_losses(opened, result.run)
    return [results[key] for key in (*config.runs, *(one["run"] for one in trained))]


def train_all(
    runner: Runner, store: str, configs: Sequence[TrainConfig], resources: Resources, force: bool
) -> list[dict[str, Any]]:
    """Train several models, as many at once as the runner has room for; the answers of `tasks.TRAIN` in order."""
    different = [config for i, config in enumerate(configs) if config not in configs[:i]]
    # PyTorch's random state is one a process, so training runs at once need one each.
    apart = len(different) > 1 and runner.width > 1 and not runner.apart
    shared: dict[str, Any] = {"store": store, "resources": resources, "force": force, "apart": apart}
    made = runner.each(tasks.TRAIN, [shared | {"config": config} for config in different])
    return [made[different.index(config)] for config in configs]


@dataclass
class _Pass:
    """The scores of a dataset by one trained model."""

    store: Store
    dataset: Dataset
    scorer: Scorer
    trained: str
    resources: Resources
    force: bool
    width: int
    run: Run = field(init=False)
    blob: str = field(init=False)
    missing: list[int] = field(init=False)
    cached: bool = field(init=False)

    def __post_init__(self) -> None:
        self.run = self.store.runs.get(self.trained)
        assert self.run.blob is not None
        self.blob = self.run.blob
        asked = (self.store, self.dataset, self.blob, self.scorer)
        self.cached = scoring.find_scores(*asked) is not None  # first: one look, where parts are one a shard
        self.missing = [] if self.cached else scoring.missing_parts(*asked)

    def calls(self) -> list[dict[str, Any]]:
        """What `tasks.SCORE` is called with."""
        shared: dict[str, Any] = {"store": self.store.root.url, "dataset": self.dataset.ref, "model": self.blob}
        shared |= {"resources": self.resources, "force": self.force, "scorer": self.scorer.name}
        return [shared | {"shards": group} for group in self._groups()]

    def finish(self, worst: Iterator[float], confirmed: bool | None) -> ScoreResult:
        """Publish, once all is scored.

        Args:
            worst: what the tasks answered, those of this pass next.
            confirmed: whether a forced training of the model came out the same.
        """
        largest = max((next(worst) for _ in self._groups()), default=0.0)
        named: dict[str, Any] = {"name": self.run.model, "model_run": self.run.key, "scorer": self.scorer}
        scored = scoring.finish_scores(self.store, self.dataset, self.blob, **named)
        same = (largest <= 1e-5 and confirmed is not False) if self.force and self.cached else None
        parts = len(self.missing), len(self.dataset.shards)
        return ScoreResult.of(scored, model_run=self.run.key, cached=self.cached, parts=parts, confirmed=same)

    def _groups(self) -> list[list[int]]:
        shards = self.dataset.shards
        return groups(shards, range(len(shards)) if self.force else self.missing, self.width)
