"""The trials of a search: records that many processes share, and what one of them does.

What: a trial is a run of the store of kind "trial" whose key follows from the search and the trial's number. Who begins
it first does it (`Runs.claim`); where the process is gone, the next one takes it over. It trains a model, which is a
training run like any other: killed, it goes on from its checkpoint, and done, it is found by its key. Its value is the
mean hold-out error of its last three epochs.
A proposal that selects nothing, by its form or as it turns out, a training that diverges and a model that raises are
failed trials: they are recorded and the search goes on. Anything else (a full disk, a missing shard) ends the search,
and the trial is left to the next.
Source: A. Jiang, thesis, 2021, section 4.3 (the last three epochs).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tamis.curation.errors import CurationError
from tamis.store import Store
from tamis.store.errors import SelectionError, TamisError
from tamis.store.keys import canonical, key_of
from tamis.store.runs import FAILED, FINISHED, Run
from tamis.training.adapting.config import AdaptConfig
from tamis.training.adapting.proposals import Proposal, Pruner, Told
from tamis.training.adapting.shapes import Shape
from tamis.training.config import InLoop, Span, TrainConfig
from tamis.training.errors import ModelFailed, NonFiniteLoss
from tamis.training.job import train

KIND = "trial"
_LAST = 3  # epochs
_SLOWEST = 20  # epochs for each that a budget of backprops pays for: of an F that selects a twentieth
_FAILURES = (CurationError, SelectionError, NonFiniteLoss, ModelFailed)


class Pruned(TamisError, RuntimeError):
    """A trial was ended early."""


def final_error(errors: Sequence[float]) -> float:
    """The mean of the last three errors, or of as many as there are.

    Args:
        errors: by epoch, at least one.
    """
    last = errors[-_LAST:]
    return sum(last) / len(last)


def trial_config(config: AdaptConfig, samples: int, priority: dict[str, Any]) -> TrainConfig:
    """What a trial trains.

    Args:
        config: of the search, with the names of the datasets that it trains and judges on.
        samples: of the former.
        priority: the function, as JSON.
    """
    asked, base = config.train, config.train.model_dump(exclude={"strategy"})
    given = {"name": "selective-backprop"} if asked.strategy is None else asked.strategy.model_dump()
    strategy = given | {"priority": canonical(priority), "leaves": "adaptsb-trials"}
    span = Span() if asked.span is None else asked.span
    changed: dict[str, Any] = {}
    if config.budget_epochs is not None:
        changed = {"epochs": config.budget_epochs}
    elif config.budget_seconds is not None:
        changed = {"stop_after": config.budget_seconds}
    elif config.budget_backprops is not None:
        passes = config.budget_backprops / samples
        changed = {"epochs": -int(-passes // 1) * _SLOWEST, "rate_by": "backprops"}
        span = span.model_copy(update={"backprops": config.budget_backprops, "whole": passes})
    changed |= {"evaluate_on": config.holdout, "evaluate_every": 1, "strategy": InLoop(**strategy)}
    return TrainConfig.model_validate(base | changed | {"span": None if span == Span() else span})


@dataclass
class Trials:
    """The records of one search.

    Attributes:
        store: the store.
        config: of the search, with the names of the datasets that it trains and judges on.
        samples: of the dataset that trials train on.
        space: key of everything that decides what is proposed and how it is judged.
    """

    store: Store
    config: AdaptConfig
    samples: int
    space: str
    _ended: dict[int, Run] = field(default_factory=dict[int, Run])

    def key(self, number: int) -> str:
        """Of a trial's run."""
        return key_of(KIND, {"search": self.space, "trial": number})

    def record(self, number: int) -> Run | None:
        """A trial as it stands; None where nobody has begun it."""
        if number not in self._ended:
            found = self.store.runs.state(self.key(number))
            if found is None or found.status not in (FINISHED, FAILED):
                return found
            self._ended[number] = found
        return self._ended[number]

    def told(self, number: int) -> Told | None:
        """How a trial ended; None where it has not."""
        run = self.record(number)
        if run is None or run.status not in (FINISHED, FAILED):
            return None
        proposal = tuple(run.config["proposal"])
        if run.status == FAILED:
            return Told(number, proposal, "failed")
        found = run.metrics
        return Told(number, proposal, found["state"], found["value"], tuple(found["errors"]))

    def proposed(self, number: int) -> Proposal | None:
        """What a trial that was begun tries."""
        run = self.record(number)
        return None if run is None else tuple(run.config["proposal"])

    def do(
        self,
        number: int,
        proposal: Proposal,
        *,
        before: Sequence[int],
        device: str = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Do a trial, unless it is done or somebody else is at it.

        Args:
            number: of the trial.
            proposal: what it tries.
            before: numbers of the trials of the rounds before.
            device: "auto", "cpu", "cuda", ...
            progress: called with (steps done, steps in all).

        Returns:
            Whether this call ended it.
        """
        key, priority, refused = self.key(number), None, ""
        try:
            priority = Shape.of(self.config).priority(proposal).to_json()
        except CurationError as error:
            refused = _why(error)
        said = {"search": self.space, "trial": number, "proposal": list(proposal), "priority": priority}
        facts: dict[str, Any] = {"dataset": self.config.train.dataset, "model": self.config.train.model}
        if not self.store.runs.claim(kind=KIND, key=key, config=said, patience=self.config.patience, **facts):
            return False
        if priority is None:
            self.store.runs.fail(key, refused)
            return True
        with ExitStack() as undo:  # Ctrl-C, a full disk, a missing shard: the trial is left to the next
            undo.callback(self.store.runs.release, key)
            try:
                self._train(number, priority, before, device, progress)
            except _FAILURES as error:
                self.store.runs.fail(key, _why(error))
            undo.pop_all()
        return True

    def _train(
        self,
        number: int,
        priority: dict[str, Any],
        before: Sequence[int],
        device: str,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        seen, pruner = list[dict[str, float]](), self._pruner(number, before)

        def evaluated(history: Sequence[dict[str, float]]) -> None:
            seen[:] = history
            if (
                pruner is not None
                and len(history) < (self.config.budget_epochs or 0)
                and pruner.is_over(errors_of(history))
            ):
                raise Pruned(f"Hyperband ended trial {number} after {len(history)} epochs")

        asked = trial_config(self.config, self.samples, priority)
        try:
            result = train(self.store, asked, device=device, progress=progress, evaluated=evaluated)
        except Pruned:
            self._finish(number, "pruned", errors_of(seen), {}, {"total": seen[-1]["seconds"]})
            return
        run = result.run
        self._finish(
            number, "complete", errors_of(run.metrics["history"]),
            {"run": run.key, "cached": result.cached, "backprops": run.metrics["backprops"]}, run.seconds,
        )  # fmt: skip

    def _finish(
        self, number: int, state: str, errors: list[float], more: dict[str, Any], seconds: dict[str, float]
    ) -> None:
        metrics = {"state": state, "value": final_error(errors), "errors": errors, **more}
        self.store.runs.finish(self.key(number), metrics=metrics, seconds=seconds)

    def _pruner(self, number: int, before: Sequence[int]) -> Pruner | None:
        if self.config.sampler != "hyperband":
            return None
        told = [one for at in before if (one := self.told(at)) is not None]
        return Pruner(self.config, number, told, self.space)


def errors_of(history: Sequence[dict[str, float]]) -> list[float]:
    """Hold-out errors by epoch, of what a run measured."""
    return [1 - one["accuracy"] for one in history]


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
