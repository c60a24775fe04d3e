"""What a training run trains on in each epoch: strategies, by name."""

from collections.abc import Mapping
from typing import Any

from tamis.training.errors import TaskError
from tamis.training.strategies.contract import Strategy
from tamis.training.strategies.full import Full
from tamis.training.strategies.replay import Replay
from tamis.training.strategies.reselect import Reselecting

# What is asked for by more than one field is the later one: a run that leaves a selection is recorded with it.
STRATEGIES: dict[str, type[Strategy]] = {one.name: one for one in (Full, Replay, Reselecting)}


def strategy_of(config: Mapping[str, Any], task: str | None = None) -> type[Strategy]:
    """The strategy that a configuration asks for.

    Args:
        config: the fields of a `TrainConfig`, as they are or as a run has recorded them.
        task: what is to be learnt by it.

    Raises:
        TaskError: it cannot choose for that task.
    """
    asked = [one for one in STRATEGIES.values() if one.asked_by is None or config.get(one.asked_by) is not None][-1]
    if task is not None and asked.tasks is not None and task not in asked.tasks:
        raise TaskError(
            f"Strategy {asked.name} chooses samples for {', '.join(sorted(asked.tasks))}, not for {task}: train on "
            "everything, or on a selection."
        )
    return asked
