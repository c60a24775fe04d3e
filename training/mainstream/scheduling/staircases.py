"""Every way to run the shared stems that a good schedule may have.

What: a stem's segments run at rates that never rise with depth: a staircase. For a price lam of compute, `Priced` has
what each application is worth where it branches off at a segment, and `search` yields the staircases whose value,
sum over applications of their best branch under the staircase less the price of the stem, is above a floor.
How: segment by segment, all partial staircases at once as rows of arrays. A row goes when a bound of what it can still
reach is no better than the floor: every application takes the better of the best branch so far and the best one
further on, charged its share, one in as many as its base has applications, of the stem between. (A segment costs the
highest rate, so at least the mean.) Where a staircase steps down some application must branch off at that very rate,
as a lower step would do otherwise: what the cheapest of them loses by it is taken off as well.
Cost: rows x R x N a segment; how many rows is up to the floor.

Shapes: N applications, T segments, J rates with 0 ahead (the stem is off), P partial staircases.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tamis.training.mainstream.scheduling.table import Floats, Ints, Table

Stairs = NDArray[np.int8]
RIVALS = 32  # partial staircases a rate that all others are held against


class Priced(NamedTuple):
    """Values at one price of compute.

    Attributes:
        exact_NTJ: best value of branching off after a segment at exactly that rate, own cost off; -inf: no such choice.
        upto_NTJ: the same at that rate or a lower one.
        alone_N: best value without any stem.
        later_TNJ: bound of what branching off further on is worth, after segment t at rate j.
        charge_TJ: price of running a segment at a rate.
        first_T: whether a segment is the first of its base.
        inside_TN: whether a segment is of the application's base.
    """

    exact_NTJ: Floats
    upto_NTJ: Floats
    alone_N: Floats
    later_TNJ: Floats
    charge_TJ: Floats
    first_T: NDArray[np.bool_]
    inside_TN: NDArray[np.bool_]


def priced(table: Table, worth_NOR: Floats, lam: float) -> Priced:
    """Values of all choices.

    Args:
        table: the choices.
        worth_NOR: what each is worth, -inf where it may not be chosen.
        lam: price of a second of compute a second.
    """
    n, segments, rates = len(table), len(table.segments_T), np.concatenate([[0.0], table.rates_R])
    net = worth_NOR - lam * table.private_NOR
    app, option, rate = np.nonzero(np.isfinite(net))
    value, ends, shared = net[app, option, rate], table.end_NO[app, option], table.branch_NO[app, option] > 0
    exact = np.full((n, segments, len(rates)), -np.inf)
    np.maximum.at(exact, (app[shared], ends[shared] - 1, rate[shared] + 1), value[shared])
    alone = np.full(n, -np.inf)
    np.maximum.at(alone, app[~shared], value[~shared])
    first = np.isin(np.arange(segments), table.starts_B)
    tree_T = table.tree_T
    return Priced(
        exact, np.maximum.accumulate(exact, axis=2), alone, _later(table, exact, rates, lam),
        lam * table.segments_T[:, None] * rates, first, tree_T[:, None] == table.tree_N,
    )  # fmt: skip


def _later(table: Table, exact_NTJ: Floats, rates_J: Floats, lam: float) -> Floats:
    """Bound of what an application gets by branching off after a later segment than t [T, N, J]."""
    tree_T, depth, segments = table.tree_T, np.cumsum(table.segments_T), np.arange(len(table.segments_T))
    before_T = np.append(0.0, depth)[table.starts_B[tree_T]]  # of the bases ahead of a segment's own
    share_N = lam / np.bincount(table.tree_N, minlength=len(table.starts_B))[table.tree_N]
    later = np.full((len(tree_T), *exact_NTJ.shape[::2]), -np.inf)
    for t in segments:
        between_T = np.where(tree_T == tree_T[t], depth - depth[t], depth - before_T)
        fees = share_N[:, None, None] * between_T[:, None] * rates_J
        ahead = np.where((segments > t)[:, None] & np.isfinite(exact_NTJ), exact_NTJ - np.maximum(fees, 0), -np.inf)
        same = np.maximum.accumulate(ahead[:, tree_T == tree_T[t]].max(axis=1), axis=1)
        other = ahead[:, tree_T != tree_T[t]].max(axis=(1, 2), initial=-np.inf)  # of later bases
        later[t] = np.maximum(same, other[:, None])
    return later


class Found(NamedTuple):
    """Staircases above the floor.

    Attributes:
        stairs_PT: rate of each segment, 0 for off, otherwise 1 + index of the rate.
        bound_P: no schedule under the staircase is worth more at this price.
    """

    stairs_PT: Stairs
    bound_P: Floats


def search(at: Priced, floor: float, beam: int | None = None, *, best_only: bool = False) -> Found:
    """All staircases that may be worth more than the floor.

    Args:
        at: the values.
        floor: bounds up to it are of no interest.
        beam: how many partial staircases to keep at most, the best by bound; None: all, nothing is missed.
        best_only: a best one will do: partial staircases go that another at the same rate makes up for.
    """
    segments, rates = at.exact_NTJ.shape[1:]
    stairs, best, lost = np.zeros((1, 0), np.int8), at.alone_N[None], np.zeros(1)
    bound = best.sum(axis=1)
    for t in range(segments):
        above = stairs[:, -1].astype(np.int64) if t else np.zeros(1, np.int64)
        highest = np.full(len(stairs), rates - 1) if at.first_T[t] else above
        row, step = np.nonzero(np.arange(rates) <= highest[:, None])
        if t and not best_only:
            after = np.zeros_like(step) if at.first_T[t] else step
            lost = lost[row] + _corners(at, t - 1, best[row], above[row], after)
        else:
            lost = lost[row]
        lost = lost + at.charge_TJ[t, step]
        best = np.maximum(best[row], at.upto_NTJ[:, t].T[step])
        bound = np.maximum(best, at.later_TNJ[t].T[step]).sum(axis=1) - lost
        keep = np.flatnonzero(bound > floor)
        if beam is not None and len(keep) > beam:
            keep = keep[np.argpartition(-bound[keep], beam)[:beam]]
        if best_only:
            keep = keep[_unmatched(best[keep], lost[keep], step[keep], bound[keep])]
        stairs = np.concatenate([stairs[row[keep]], step[keep, None].astype(np.int8)], axis=1)
        best, lost, bound = best[keep], lost[keep], bound[keep]
    worth = bound > floor  # there may be no segments at all
    return Found(stairs[worth], bound[worth])


def _corners(at: Priced, t: int, best_PN: Floats, above_P: Ints, step_P: Ints) -> Floats:
    """What is lost where a staircase steps down after a segment: some application must branch off right there."""
    there_PN = at.exact_NTJ[:, t].T[above_P]
    can = at.inside_TN[t] & np.isfinite(there_PN)
    forced = np.where(can, best_PN - np.where(can, there_PN, 0.0), np.inf).min(axis=1, initial=np.inf)
    return np.where(above_P > step_P, forced, 0.0)


def _unmatched(best_PN: Floats, lost_P: Floats, step_P: Ints, bound_P: Floats) -> Ints:
    """Those that none of the best at the same rate makes up for: whatever follows, it would be worth as much.

    What an application may yet get is the same for both, so that the better branch so far gains at most the difference.
    """
    stays = np.ones(len(lost_P), bool)
    for step in np.unique(step_P):
        rows = np.flatnonzero(step_P == step)
        rows = rows[np.argsort(-bound_P[rows], kind="stable")]
        for i, row in enumerate(rows[:RIVALS]):
            others = rows[i + 1 :][stays[rows[i + 1 :]]]
            if stays[row] and len(others):
                with np.errstate(invalid="ignore"):  # nothing so far for both
                    ahead = np.where(best_PN[others] > best_PN[row], best_PN[others] - best_PN[row], 0.0)
                stays[others[ahead.sum(axis=1) <= lost_P[others] - lost_P[row]]] = False
    return np.flatnonzero(stays)
