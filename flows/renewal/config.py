"""What the flow `renew` takes and gives.

Everything in a config can be said in TOML or JSON. Proxies and selections are those of the dataset of the config, so
they need not name it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tamis.curation.contract import RENEWALS, Method
from tamis.curation.methods import METHODS
from tamis.flows.configs import ScoreResult
from tamis.store.advice import did_you_mean
from tamis.store.keys import NAME
from tamis.store.shards.skipped import Skipped
from tamis.training import border
from tamis.training.config import Reselect, TrainConfig
from tamis.training.pinning import Retrain
from tamis.training.selecting.by_scores import SelectConfig
from tamis.training.signals.own import find_scorer
from tamis.training.signals.scorers import SCORERS, UNCERTAINTY
from tamis.training.strategies import STRATEGIES

_BY_LOSS = "Its last losses rank in the same way as scores: method uncertainty, measure loss."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Matching(_Frozen):
    """A Grad-Match selection that is renewed by a pass of the proxies over every sample.

    Attributes:
        reselect: how to choose, and the selection's name; `warm` has no meaning here.
        batch_size: samples a mini-batch, for the kind "batch".
        seed: of the partition into mini-batches.
    """

    reselect: Reselect = Reselect()
    batch_size: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0, le=border.LARGEST)


class RenewConfig(_Frozen):
    """What to do about a dataset that grows.

    Attributes:
        dataset: its name; it is in the store.
        shards: paths, URLs, patterns, folders or prefixes where shards arrive; those that the dataset does not have are
            appended. None: somebody else appends.
        proxies: recipes of the models that score. The newest finished run of a recipe is kept, whatever version it was
            trained on, until `retrain` is due; none yet: it is trained.
        retrain: when a proxy is trained again; by default never.
        scorers: names in `tamis.training.signals.scorers.SCORERS`, or your own as "module:function". Scorers of
            tamis that give the measures of the selections need not be named.
        selections: made from the scores by all proxies and published under their names.
        matches: Grad-Match by all proxies, a round each.
        layer: for methods that need features: the layer of the first proxy that gives them.
    """

    dataset: str
    shards: tuple[str, ...] = ()
    proxies: tuple[TrainConfig, ...] = ()
    retrain: Retrain = Retrain()
    scorers: tuple[str, ...] = (UNCERTAINTY.name,)
    selections: tuple[SelectConfig, ...] = ()
    matches: tuple[Matching, ...] = ()
    layer: str = "penultimate"

    @model_validator(mode="before")
    @classmethod
    def _named_once(cls, given: Any) -> Any:
        """Proxies and selections are those of the dataset."""
        if not isinstance(given, Mapping):
            return given
        said = dict(cast("Mapping[str, Any]", given))
        for name in ("proxies", "selections"):
            if isinstance(said.get(name), list | tuple):
                said[name] = [_of_dataset(one, said.get("dataset")) for one in said[name]]
        return said

    @field_validator("dataset")
    @classmethod
    def _a_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("expected the name of a dataset without a version: the newest is renewed")
        return name

    @field_validator("shards")
    @classmethod
    def _patterns(cls, shards: tuple[str, ...]) -> tuple[str, ...]:
        if not all(pattern.strip() for pattern in shards):
            raise ValueError("an empty pattern finds no shard: give a path, URL or pattern, such as data/train-*.tar")
        return shards

    @field_validator("proxies")
    @classmethod
    def _on_everything(cls, proxies: tuple[TrainConfig, ...]) -> tuple[TrainConfig, ...]:
        if any(proxy.selection is not None or proxy.reselect is not None for proxy in proxies):
            raise ValueError("a proxy is trained on the whole dataset: leave out selection and reselect")
        if len({proxy.model_dump_json() for proxy in proxies}) < len(proxies):
            raise ValueError("a proxy is listed twice: give members of an ensemble different seeds")
        return proxies

    @field_validator("selections")
    @classmethod
    def _renewable(cls, selections: tuple[SelectConfig, ...]) -> tuple[SelectConfig, ...]:
        for one in selections:
            if one.scores or one.features or one.run:
                raise ValueError("runs of one version cannot be named: leave out scores, features and run")
            if ":" not in one.method:
                check_renewable(known_method(one.method))
        names = [one.name or f"{one.method} {one.measure or ''}" for one in selections]
        if len(set(names)) < len(names):
            raise ValueError("two selections have one name: give each a name of its own")
        return selections

    @model_validator(mode="after")
    def _whole(self) -> "RenewConfig":
        others = {one.dataset for one in (*self.proxies, *self.selections)} - {self.dataset}
        if others:
            raise ValueError(f"proxies and selections are of {self.dataset}, not of {', '.join(sorted(others))}")
        if not (self.shards or self.proxies or self.selections):
            raise ValueError("nothing to renew: give shards, proxies or selections")
        for one in self.selections:
            self._check_signals(one, METHODS.get(one.method))
        if self.matches and not self.proxies:
            raise ValueError("Grad-Match needs a trained model: give a proxy")
        return self

    def _check_signals(self, one: SelectConfig, method: Method | None) -> None:
        """Refuse a method of ours whose signal nothing here gives."""
        needs = frozenset[str]() if method is None else method.needs
        missing = sorted(needs & {"scores", "features"})
        if missing and not self.proxies:
            raise ValueError(f"method {one.method} needs {' and '.join(missing)}: give a proxy that makes them")
        if method is not None and "scores" in needs and not any(":" in name for name in self.scorers):
            self.scorer_of(one, method)

    def measure_of(self, one: SelectConfig, method: Method) -> str:
        """The measure by which a selection ranks."""
        return method.measure or one.measure or method.usual

    def scorer_of(self, one: SelectConfig, method: Method) -> str:
        """The scorer that gives the measure by which a selection ranks.

        Raises:
            ValueError: none does.
        """
        measure, known = self.measure_of(one, method), list[str]()
        for name in dict.fromkeys((*self.scorers, *SCORERS)):
            metrics = find_scorer(name).metrics
            if measure in metrics:
                return name
            known += metrics
        raise ValueError(
            f"no scorer gives the measure {measure!r}.{did_you_mean(measure, known)} There are: {', '.join(known)}"
        )


def _of_dataset(one: Any, dataset: Any) -> Any:
    return {"dataset": dataset, **cast("Mapping[str, Any]", one)} if isinstance(one, Mapping) else one


def known_method(name: str) -> Method:
    """A method of ours.

    Raises:
        ValueError: it is none, or chooses in a training loop.
    """
    if name in STRATEGIES:
        raise ValueError(
            f"{name} chooses in the training loop: its rounds follow the weights of that run, and cannot be renewed. "
            f"Train again instead (tamis train --strategy {name})"
        )
    if name not in METHODS:
        raise ValueError(f"no method {name!r}.{did_you_mean(name, METHODS)} There are: {', '.join(METHODS)}")
    return METHODS[name]


def check_renewable(method: Method) -> None:
    """Refuse a method that cannot be renewed from what the store has.

    Raises:
        ValueError: saying why, and what to do instead.
    """
    how = RENEWALS[method.renewal]
    if method.renewal == "pass":
        raise ValueError(f"method {method.name} is renewed {how}: describe it in matches, with a proxy")
    if method.renewal == "no":
        raise ValueError(f"method {method.name} is {how}. {_BY_LOSS if 'losses' in method.needs else ''}".rstrip(". "))


class ProxyResult(_Frozen):
    """What was decided about a proxy.

    Attributes:
        model: its name.
        run: key of the run that scores.
        decision: kept as it was pinned, trained for the first time, or trained again.
        reason: in words.
        trained_on: the version that the run was trained on.
    """

    model: str
    run: str
    decision: Literal["kept", "trained", "retrained"]
    reason: str
    trained_on: str


class RenewResult(_Frozen):
    """What renewing came to.

    Attributes:
        dataset: the version that everything is of now.
        before: the newest version before.
        fresh: how many shards were appended.
        moved: how many shards were found again elsewhere.
        vanished: shards of the dataset that a pattern covers and that are not there.
        skipped: members of new shards that are in no sample.
        proxies, selections: what was done, or found done.
        passes: by each scorer and proxy the run with the scores of every sample; that of features, where a method needs
            them.
        nothing_new: nothing was to be done.
    """

    dataset: str
    before: str
    fresh: int
    moved: int
    vanished: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    proxies: tuple[ProxyResult, ...]
    passes: tuple[ScoreResult, ...]
    selections: tuple[dict[str, Any], ...]
    nothing_new: bool


def scorers_of(config: RenewConfig, methods: Iterable[tuple[SelectConfig, Method]]) -> tuple[str, ...]:
    """The scorers that are asked for, and those that the selections need."""
    needed = [config.scorer_of(one, method) for one, method in methods if "scores" in method.needs]
    return tuple(dict.fromkeys((*config.scorers, *needed)))
