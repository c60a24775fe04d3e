"""The flow `renew`: only what is new of a growing dataset is indexed and scored, and its selections are made again.

What: new shards are appended; each proxy's run stays pinned until the rule says that it is due
(`tamis.training.pinning`); shards without scores are scored; selections are made from the scores of everything, and
published where their inputs are others than before.
How: every step is a question to the store, in the order in which one needs the other. What is answered already is taken
from there: a flow that was killed resumes, and two at once leave one answer.
Cost: where nothing is new, one look at every shard's file and some small reads; no model, no torch. A proxy that is
trained again scores every shard again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.curation.budget import resolve_budget
from tamis.curation.contract import Method
from tamis.curation.errors import CurationError
from tamis.curation.parameters import recorded
from tamis.flows import tasks
from tamis.flows.configs import FeaturesConfig, IndexConfig, IndexResult, Resources, ScoreConfig, ScoreResult
from tamis.flows.renewal.config import Matching, ProxyResult, RenewConfig, RenewResult, check_renewable, scorers_of
from tamis.flows.runners import Runner
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.arrivals import Arrivals, arrivals
from tamis.training.config import TrainConfig
from tamis.training.pinning import Pin, pinned
from tamis.training.selecting.by_runs import MatchConfig
from tamis.training.selecting.by_scores import SelectConfig
from tamis.training.selecting.own import find_method

_NOTHING = Arrivals((), (), 0)
Methods = list[tuple[SelectConfig, Method]]


@dataclass(frozen=True)
class Bodies:
    """The flows of which this one consists."""

    score: Callable[[Runner, str, ScoreConfig, Resources], list[ScoreResult]]
    features: Callable[[Runner, str, FeaturesConfig, Resources], ScoreResult]


def renew(runner: Runner, store: str, config: RenewConfig, resources: Resources, bodies: Bodies) -> RenewResult:
    """Bring scores and selections of a growing dataset up to date.

    Raises:
        DatasetNotFound: it is not in the store.
        ShardError, ShardChanged: a pattern finds nothing, or a shard is damaged or another one than was indexed.
        CurationError: a method cannot be renewed, or nothing gives its measure.
    """
    opened, methods = Store.open(store), _methods(config)
    before = opened.datasets.get(config.dataset)
    _check(config, methods, before)
    pins = [_pin(opened, config, recipe) for recipe in config.proxies]
    came = arrivals(before, config.shards, opened.root.options) if config.shards else _NOTHING
    indexed = _index(runner, store, config.dataset, came)
    dataset = before if indexed is None else opened.datasets.get(config.dataset)
    made, new = _Renewal(runner, opened, config, resources, bodies, dataset).all(methods, pins)
    lie = {shard.uri for shard in dataset.shards}
    return RenewResult(
        dataset=dataset.ref,
        before=before.ref,
        fresh=len(dataset.shards) - len(before.shards),
        moved=0 if indexed is None else indexed.moved,
        vanished=tuple(uri for uri in came.vanished if uri in lie),
        skipped=() if indexed is None else indexed.skipped,
        nothing_new=indexed is None and not new,
        **made,
    )


def _methods(config: RenewConfig) -> Methods:
    """The methods of the selections, the user's own among them."""
    methods = [(one, find_method(one.method)[0]) for one in config.selections]
    try:
        for _, method in methods:
            check_renewable(method)
        scorers_of(config, methods)
    except ValueError as error:
        raise CurationError(str(error)) from error
    return methods


def _check(config: RenewConfig, methods: Methods, dataset: Dataset) -> None:
    """Refuse what selecting would refuse in the end."""
    for one, method in methods:
        resolve_budget(one.budget, dataset.samples)
        recorded(method, one.params)
    for one in config.matches:
        resolve_budget(one.reselect.budget, dataset.samples)


def _pin(opened: Store, config: RenewConfig, recipe: TrainConfig) -> Pin | None:
    """The run that counts for a recipe so far; where there is none, that the model is one is checked at once."""
    pin = pinned(opened, config.dataset, recipe)
    if pin is None:
        from tamis.training.models.registry import check_model  # loads torch

        check_model(recipe.model)
    return pin


def _index(runner: Runner, store: str, name: str, came: Arrivals) -> IndexResult | None:
    if not came.fresh:
        return None
    return runner.call(tasks.INDEX, store, IndexConfig(name=name, shards=came.fresh, append=True))


@dataclass(frozen=True)
class _Renewal:
    """What is made of one version of the dataset."""

    runner: Runner
    opened: Store
    config: RenewConfig
    resources: Resources
    bodies: Bodies
    dataset: Dataset

    def all(self, methods: Methods, pins: Sequence[Pin | None]) -> tuple[dict[str, Any], bool]:
        """Models, scores, features and selections, and whether any of it is new."""
        proxies = tuple(map(self._proxy, self.config.proxies, pins))
        runs = tuple(proxy.run for proxy in proxies)
        scores = {name: self._scores(name, runs) for name in (scorers_of(self.config, methods) if runs else ())}
        features = self._features(runs) if any("features" in method.needs for _, method in methods) else None
        selections = [self._select(one, method, scores, features) for one, method in methods]
        selections += [self._match(one, runs) for one in self.config.matches]
        passes = [*(result for results in scores.values() for result in results), *([features] if features else [])]
        new = [p.decision != "kept" for p in proxies] + [not p.cached for p in passes]
        new += [one["created"] for one in selections]
        return {"proxies": proxies, "passes": tuple(passes), "selections": tuple(selections)}, any(new)

    def _proxy(self, recipe: TrainConfig, pin: Pin | None) -> ProxyResult:
        """The run that counts for a recipe; trained where there is none, or where the rule says so."""
        due = None if pin is None else pin.due(self.config.retrain, self.dataset)
        if pin is not None and due is None:
            reason = pin.standing(self.config.retrain, self.dataset)
            return ProxyResult(
                model=recipe.model, run=pin.run.key, decision="kept", reason=reason, trained_on=pin.run.dataset
            )
        asked = recipe.model_copy(update={"dataset": self.dataset.ref})
        made = self.runner.call(tasks.TRAIN, self.opened.root.url, asked, self.resources, False)
        reason = "no finished run of this recipe yet" if pin is None else f"{due}; every shard is scored again"
        return ProxyResult(
            model=recipe.model,
            run=made["run"],
            decision="trained" if pin is None else "retrained",
            reason=reason,
            trained_on=self.dataset.ref,
        )

    def _scores(self, scorer: str, runs: tuple[str, ...]) -> list[ScoreResult]:
        asked = ScoreConfig(dataset=self.dataset.ref, runs=runs, scorer=scorer)
        return self.bodies.score(self.runner, self.opened.root.url, asked, self.resources)

    def _features(self, runs: tuple[str, ...]) -> ScoreResult:
        asked = FeaturesConfig(dataset=self.dataset.ref, run=runs[0], layer=self.config.layer)
        return self.bodies.features(self.runner, self.opened.root.url, asked, self.resources)

    def _select(
        self, one: SelectConfig, method: Method, scores: Mapping[str, list[ScoreResult]], features: ScoreResult | None
    ) -> dict[str, Any]:
        """A selection, from the runs that this renewal found or made."""
        update: dict[str, Any] = {"dataset": self.dataset.ref}
        if "scores" in method.needs:
            update["scores"] = tuple(result.run for result in scores[self.config.scorer_of(one, method)])
        if "features" in method.needs and features is not None:
            update["features"] = features.run
        return self.runner.call(tasks.SELECT, self.opened.root.url, one.model_copy(update=update), False)

    def _match(self, one: Matching, runs: tuple[str, ...]) -> dict[str, Any]:
        asked = MatchConfig(
            dataset=self.dataset.ref, runs=runs, reselect=one.reselect, batch_size=one.batch_size, seed=one.seed
        )
        return self.runner.call(tasks.MATCH, self.opened.root.url, asked, self.resources, False)
