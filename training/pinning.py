"""Which training run of a recipe counts on a dataset that grows, and when it is time for another.

What: a run's key has the version that it was trained on, so that a proxy asked for by name would be trained again, and
every shard scored again, whenever the dataset grows. `pinned` finds the finished run of a recipe on the newest version
that has one, and `due` says by a rule whether another is to be trained.
How: recipes are compared as they are kept with runs, but for the dataset; of a model of one's own the source must be
the same as well. What a recipe is evaluated on may have grown.
When: before a growing dataset is scored.
Cost: one reading of the runs; torch is not loaded.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.keys import split_ref
from tamis.store.runs import FINISHED, Run
from tamis.training.config import TrainConfig
from tamis.training.planning import plan

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = 86_400


class Retrain(BaseModel):
    """When a pinned proxy is trained again; without either it stays for ever.

    Attributes:
        growth: once the dataset has grown by more than this since: "20%" or 0.2 of the samples that it was trained on.
        age: once the run is older than this and the dataset has grown: "30d", "12h", "90m" or "2w".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    growth: float | None = None
    age: str | None = None

    @field_validator("growth", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        """A share as a number."""
        if value is None:
            return None
        try:
            share = float(str(value).removesuffix("%")) / (100 if str(value).endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share < float("inf"):
            raise ValueError("expected a share of the samples, such as 20% or 0.2")
        return share

    @field_validator("age")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        if value is not None and not _AGE.match(value):
            raise ValueError("expected a number and m, h, d or w, such as 30d")
        return value

    @property
    def seconds(self) -> float | None:
        """The age, s."""
        found = None if self.age is None else _AGE.match(self.age)
        return None if found is None else timedelta(**{_UNITS[found[2]]: float(found[1])}).total_seconds()


@dataclass(frozen=True)
class Pin:
    """What is known of the run that counts.

    Attributes:
        run: the finished training run.
        samples: of the version that it was trained on.
        age: since it finished, s.
    """

    run: Run
    samples: int
    age: float

    def growth(self, samples: int) -> float:
        """By which share a dataset of so many samples has grown since."""
        return samples / self.samples - 1

    def due(self, rule: Retrain, dataset: Dataset) -> str | None:
        """Why another run is to be trained on the newest version; None while this one stays."""
        if self.run.dataset == dataset.ref:
            return None  # the same question would get the same answer
        if rule.growth is not None and self.growth(dataset.samples) > rule.growth:
            return f"grown by {_percent(self.growth(dataset.samples))}, more than {_percent(rule.growth)}"
        if rule.seconds is not None and self.age > rule.seconds:
            return f"{self.age / _DAY:.1f} days old, more than {rule.age}"
        return None

    def standing(self, rule: Retrain, dataset: Dataset) -> str:
        """Why this one stays."""
        if self.run.dataset == dataset.ref:
            return f"trained on {dataset.ref}, the newest version"
        limits = [_percent(rule.growth)] if rule.growth is not None else []
        limits += [str(rule.age)] if rule.age is not None else []
        due = f"due after {' or '.join(limits)}" if limits else "pinned for good"
        return f"trained on {self.run.dataset}, grown by {_percent(self.growth(dataset.samples))} since; {due}"


def pinned(store: Store, dataset: str, recipe: TrainConfig) -> Pin | None:
    """The finished run of a recipe on the newest version of a dataset that has one; of several, the one begun last.

    Args:
        store: the store.
        dataset: its name.
        recipe: how the run was trained; `recipe.dataset` may name any version.
    """
    wanted = _recipe(plan(store, recipe).config)
    found = [
        (version, at, run)
        for at, run in enumerate(store.runs.all())
        if run.kind == "train" and run.status == FINISHED and run.blob is not None
        for name, version in [_split(run.dataset)]
        if name == dataset and run.model == recipe.model and _kept(run) == wanted
    ]
    for version, _, run in sorted(found, key=lambda one: one[:2], reverse=True):
        if _same_source(store, recipe, run):
            return Pin(run, int(store.datasets.head(dataset, version)["samples"]), store.runs.age(run.key))
    return None


def _split(ref: str) -> tuple[str, int]:
    name, version = split_ref(ref)
    return name, version or 0


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _recipe(config: TrainConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"dataset"})


def _kept(run: Run) -> dict[str, Any] | None:
    """The recipe of a run, with what came later; None where it has none that could be trained today."""
    try:
        return _recipe(TrainConfig.model_validate(run.config))
    except ValidationError:
        return None


def _same_source(store: Store, recipe: TrainConfig, run: Run) -> bool:
    """Whether a user's own model has the source that the run was trained with, which its key knows."""
    if ":" not in recipe.model:
        return True
    judged = [recipe.evaluate_on]
    if recipe.evaluate_on is not None and "@" not in recipe.evaluate_on:
        newest = store.datasets.get(recipe.evaluate_on)
        judged = [f"{newest.name}@{version}" for version in range(newest.version, 0, -1)]
    asked = ({"dataset": run.dataset, "evaluate_on": ref} for ref in judged)
    return any(plan(store, recipe.model_copy(update=update)).key == run.key for update in asked)
