"""What a training run trains on in each epoch: strategies, by name."""

from collections.abc import Mapping
from typing import Any

from tamis.store.advice import did_you_mean
from tamis.training.errors import StrategyError, TaskError
from tamis.training.strategies.contract import Strategy
from tamis.training.strategies.full import Full
from tamis.training.strategies.in_batch import InBatch
from tamis.training.strategies.infobatch import InfoBatch
from tamis.training.strategies.kath18 import Kath18
from tamis.training.strategies.random_drop import RandomDrop
from tamis.training.strategies.replay import Replay
from tamis.training.strategies.reselect import Reselecting
from tamis.training.strategies.rho import RhoLoss
from tamis.training.strategies.selective import SelectiveBackprop
from tamis.training.strategies.stale import StaleSB

# What is asked for by more than one field is the later one: a run that leaves a selection is recorded with it.
_ALL = (Full, Replay, Reselecting, SelectiveBackprop, StaleSB, InBatch, Kath18, RandomDrop, InfoBatch, RhoLoss)
STRATEGIES: dict[str, type[Strategy]] = {one.name: one for one in _ALL}


def strategy_of(config: Mapping[str, Any], task: str | None = None) -> type[Strategy]:
    """The strategy that a configuration asks for.

    Args:
        config: the fields of a `TrainConfig`, as they are or as a run has recorded them.
        task: what is to be learnt by it.

    Raises:
        StrategyError: there is none of that name.
        TaskError: it cannot choose for that task.
    """
    named = config.get("strategy")
    if named is None:
        fields = [one for one in STRATEGIES.values() if one.Parameters is None]
        asked = [one for one in fields if one.asked_by is None or config.get(one.asked_by) is not None][-1]
    else:
        asked = get_strategy(named["name"] if isinstance(named, Mapping) else named.name)
    if task is not None and asked.tasks is not None and task not in asked.tasks:
        raise TaskError(
            f"Strategy {asked.name} chooses samples for {', '.join(sorted(asked.tasks))}, not for {task}: train on "
            "everything, or on a selection."
        )
    return asked


def get_strategy(name: str) -> type[Strategy]:
    """A strategy that has parameters of its own, by name.

    Raises:
        StrategyError: naming those that there are.
    """
    named = {one.name: one for one in STRATEGIES.values() if one.Parameters is not None}
    if name not in named:
        raise StrategyError(
            f"Unknown strategy {name!r}; expected one of: {', '.join(named)}.{did_you_mean(name, list(named))}"
        )
    return named[name]
