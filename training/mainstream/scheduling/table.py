"""The choices of every application as arrays: what each schedule is worth and what it costs.

What: a `Table` has, for N applications, up to O options (a branch and its model) at R rates, the event F1 of the best
votes and the seconds of the specialised layers. The stems of all bases lie one after the other on one axis of T
segments, so that applications of different bases are scheduled in one go and share nothing.
How: options that an application does not have carry F1 = -inf. A schedule is two integers an application, its option
and its rate.
Cost: N O R numbers a column.

Shapes: N applications, O options, R rates, T segments of all bases, B bases.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Schedule(NamedTuple):
    """One choice an application.

    Attributes:
        option_N: index into the application's options.
        rate_N: index into the table's rates.
    """

    option_N: Ints
    rate_N: Ints


@dataclass(frozen=True)
class Table:
    """What can be chosen.

    Attributes:
        rates_R: frames a second, rising.
        segments_T: seconds a frame of each segment, base after base.
        starts_B: where on the axis of segments each base begins.
        tree_N: index of each application's base.
        branch_NO: segments of its base that the option shares, 0 for none.
        seconds_NO: seconds a frame of the option's own layers.
        f1_NOR: event F1 with the best votes; -inf where there is no such option.
        recall_NOR: recall of the same.
        precision_NOR: precision of the same.
        votes_NOR: those votes.
    """

    rates_R: Floats
    segments_T: Floats
    starts_B: Ints
    tree_N: Ints
    branch_NO: Ints
    seconds_NO: Floats
    f1_NOR: Floats
    recall_NOR: Floats
    precision_NOR: Floats
    votes_NOR: Ints

    def __len__(self) -> int:
        return len(self.tree_N)

    @cached_property
    def first_N(self) -> Ints:
        """Where each application's base begins on the axis of segments."""
        return self.starts_B[self.tree_N]

    @cached_property
    def tree_T(self) -> Ints:
        """Index of each segment's base."""
        return np.searchsorted(self.starts_B, np.arange(len(self.segments_T)), side="right") - 1

    @cached_property
    def end_NO(self) -> Ints:
        """Where on that axis the option leaves its stem: it uses segments first <= t < end."""
        return self.first_N[:, None] + self.branch_NO

    @cached_property
    def private_NOR(self) -> Floats:
        """Seconds of compute a second of the option's own layers."""
        return self.seconds_NO[:, :, None] * self.rates_R

    @cached_property
    def real_NO(self) -> NDArray[np.bool_]:
        """Which options there are."""
        return np.asarray(np.isfinite(self.f1_NOR).all(axis=2), np.bool_)

    @cached_property
    def worthy_NOR(self) -> NDArray[np.bool_]:
        """Choices that no other of the application beats: at most its branch, rate and own cost, at least its F1."""
        return np.stack([self._worthy(n) for n in range(len(self))]) if len(self) else np.zeros(self.f1_NOR.shape, bool)

    def _worthy(self, n: int) -> NDArray[np.bool_]:
        f1, own = self.f1_NOR[n].ravel(), self.private_NOR[n].ravel()
        option, rate = np.divmod(np.arange(f1.size), len(self.rates_R))
        risen = np.maximum.accumulate(self.f1_NOR[n], axis=1)  # rates that gain nothing over a lower one go first
        before = np.concatenate([np.full((len(risen), 1), -np.inf), risen[:, :-1]], axis=1)
        worth = (self.f1_NOR[n] > before).ravel()
        at = np.flatnonzero(worth)
        columns = [-f1[at], own[at], rate[at], self.branch_NO[n, option[at]]]
        beaten = np.logical_and.reduce([c[:, None] <= c for c in columns])  # [j, i]: j is as good as i everywhere
        twins = beaten & beaten.T
        worth[at] = ~(beaten & ~twins | np.triu(twins, 1)).any(axis=0)
        return worth.reshape(self.f1_NOR[n].shape)

    def only(self, allowed_NOR: NDArray[np.bool_]) -> "Table":
        """The same with fewer choices."""
        return replace(self, f1_NOR=np.where(allowed_NOR, self.f1_NOR, -np.inf))

    def f1(self, schedule: Schedule) -> Floats:
        """Event F1 of every application under a schedule."""
        return self.f1_NOR[np.arange(len(self)), schedule.option_N, schedule.rate_N]


def compact(table: Table) -> Table:
    """The same choices with segments joined after which nobody can branch off; schedules are the same."""
    ends = table.end_NO[table.real_NO & (table.branch_NO > 0)]
    kept = np.isin(np.arange(len(table.segments_T)) + 1, ends)
    before = np.append(0, np.cumsum(kept))
    depth = np.append(0.0, np.cumsum(table.segments_T))
    cuts = np.flatnonzero(kept) + 1
    begins = np.maximum(np.append(0, cuts[:-1]), table.starts_B[table.tree_T[cuts - 1]])
    return replace(
        table, segments_T=depth[cuts] - depth[begins], starts_B=before[table.starts_B],
        branch_NO=before[table.end_NO] - before[table.first_N][:, None],
    )  # fmt: skip
