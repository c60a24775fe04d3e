"""Which applications look at which frame.

What: `Rates` tells, frame by frame, who is due. An application of f frames a second looks at the first frame at or
after each point k / f of the source's clock, each frame once: the very frames that a dataset of that rate has
(`tamis.store.video.sampling`).
How: applications that share layers look together. One whose deepest shared layers run faster for another waits for the
next frame at which that one, its leader, looks; so every segment runs at the highest rate of those that share it, as
the scheduler's costs say. Points that were passed over, because frames were dropped or came late, are made up for by
one look, not by several.
Cost: a comparison of fractions an application and frame.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

_FINEST = 1_000_000  # of a rate's denominator


class Member(NamedTuple):
    """An application in a tree.

    Attributes:
        name: of the application.
        tree: what it may share is in one tree.
        branch: how many segments it shares.
        fps: frames a second it looks at.
    """

    name: str
    tree: str
    branch: int
    fps: float


def leaders(members: Sequence[Member]) -> dict[str, str | None]:
    """Of each application, the one that it waits for; None where it goes by its own clock.

    Among those that share an application's deepest segment, and then those that share less with it, the first that is
    faster; of equally fast ones the first is the leader.
    """
    order = sorted(members, key=lambda one: -one.fps)
    return {one.name: _leader(one, order) for one in members}


def _leader(one: Member, order: Sequence[Member]) -> str | None:
    for segment in reversed(range(one.branch)):
        first = next(other for other in order if other.tree == one.tree and other.branch > segment)
        if first.name != one.name:
            return first.name
    return None


class Rates:
    """The applications of a schedule and what they looked at last.

    Args:
        members: of any number of trees.
        last: seconds of the frame that an application looked at last, from an earlier schedule.
    """

    def __init__(self, members: Sequence[Member], last: Mapping[str, Fraction] | None = None) -> None:
        known = last or {}
        self.last = {one.name: known[one.name] for one in members if one.name in known}
        self._rate = {one.name: Fraction(one.fps).limit_denominator(_FINEST) for one in members}
        found = leaders(members)
        order = sorted(members, key=lambda one: -one.fps)  # a leader comes before those that wait for it
        self._order = [(one.name, found[one.name]) for one in order]
        self._next = {name: _point(self.last.get(name), rate) for name, rate in self._rate.items()}

    def due(self, seconds: Fraction) -> list[str]:
        """Those that look at the frame of this time, which counts as looked at. Times rise from call to call."""
        found = list[str]()
        for name, leader in self._order:
            if seconds >= self._next[name] and (leader is None or leader in found):
                found.append(name)
                self.last[name] = seconds
                self._next[name] = _point(seconds, self._rate[name])
        return found


def _point(last: Fraction | None, rate: Fraction) -> Fraction:
    """The first point later than a time."""
    if last is None:
        return Fraction(0)
    passed = last.numerator * rate.numerator // (last.denominator * rate.denominator)
    return Fraction((passed + 1) * rate.denominator, rate.numerator)
