"""Looking at frames: who is due runs, the stem once, and an application that fails is left out.

What: `Executor.step` gives the looks of one frame.
How: a tree's segments run up to the deepest branchpoint of those that are due, and each of them its own layers behind
its branchpoint. What one raises there, or an answer that is no number, is its own failure: it is counted, and after
`patience` of them in a row the application is switched off until the schedule changes. Those that waited for it go on
by themselves. A hit is a frame that is taken for the event's class; its score is that class's probability.
Cost: the layers that run, and beside them a tenth of a millisecond.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from time import perf_counter

import torch
from torch import Tensor

from tamis.training.mainstream.runner.deploying import Schedule, Tree
from tamis.training.mainstream.runner.pictures import Frame
from tamis.training.mainstream.runner.rates import Rates

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """One application's answer to one frame.

    Attributes:
        application: its name.
        frame: number in the source.
        seconds: on the source's clock.
        hit: whether it saw its event.
        score: probability of the event's class.
        ms: from the frame to the answer, milliseconds; time in the queue included.
    """

    application: str
    frame: int
    seconds: float
    hit: bool
    score: float
    ms: float


@dataclass(frozen=True)
class Failure:
    """One application that gave no answer.

    Attributes:
        application: its name.
        seconds: of the frame.
        error: what it raised, in one line.
        off: whether it is switched off from here on.
    """

    application: str
    seconds: float
    error: str
    off: bool


def answered(work: Callable[[], Tensor], event: int) -> tuple[bool, float] | Exception:
    """Whether a frame is taken for the event, and the event's probability; or what an application raised.

    Args:
        work: gives its outputs [1, classes].
        event: number of the event's class.
    """
    try:
        values: list[float] = work()[0].tolist()
    except Exception as error:  # noqa: BLE001 - whatever an application raises is its own; the others go on
        return error
    if not all(map(math.isfinite, values)):
        return ArithmeticError("its outputs are not finite")
    highest = max(values)
    return values.index(highest) == event, math.exp(values[event] - highest) / sum(
        math.exp(v - highest) for v in values
    )


class Executor:
    """Runs a schedule.

    Args:
        schedule: what runs.
        patience: failures in a row after which an application is switched off.
        last: seconds of the frame that an application looked at last, from an earlier schedule.

    Attributes:
        schedule: that runs.
        off: applications that are switched off.
    """

    def __init__(self, schedule: Schedule, *, patience: int = 3, last: Mapping[str, Fraction] | None = None) -> None:
        self.schedule, self.off = schedule, set[str]()
        self._patience, self._failed = patience, dict[str, int]()
        self._rates = Rates(schedule.members(), last)

    @property
    def last(self) -> dict[str, Fraction]:
        """Seconds of the frame that each application looked at last."""
        return self._rates.last

    def step(self, frame: Frame) -> list[Look | Failure]:
        """What those say who are due."""
        due = set(self._rates.due(frame.seconds))
        return [
            said
            for tree in self.schedule.trees.values()
            if (wanted := due & tree.module.branches.keys())
            for said in self._looks(frame, tree, wanted)
        ]

    @torch.inference_mode()
    def _looks(self, frame: Frame, tree: Tree, wanted: set[str]) -> list[Look | Failure]:
        values, at = frame.fitted(tree.fit).to(self.schedule.device), 0
        found = list[Look | Failure]()
        for branch, names in tree.module.due(wanted):
            values, at = tree.module.advance(values, at, branch), branch
            found += [self._answer(frame, tree, one, values) for one in names]
        return found

    def _answer(self, frame: Frame, tree: Tree, name: str, values: Tensor) -> Look | Failure:
        event = self.schedule.applications[name].event
        said = answered(lambda: tree.module.finish(name, values), event)
        if isinstance(said, Exception):
            return self._failure(frame, name, said)
        hit, score = said
        self._failed.pop(name, None)
        return Look(name, frame.number, float(frame.seconds), hit, score, (perf_counter() - frame.read) * 1e3)

    def _failure(self, frame: Frame, name: str, error: Exception) -> Failure:
        count = self._failed[name] = self._failed.get(name, 0) + 1
        off = count >= self._patience
        if off:
            self.off.add(name)
            self._rates = Rates(self.schedule.members(frozenset(self.off)), self._rates.last)
        text = " ".join(str(error).split())[:200]
        _LOG.debug("Application %s failed at %s s", name, frame.seconds, exc_info=error)
        return Failure(name, float(frame.seconds), f"{type(error).__name__}: {text}", off)
