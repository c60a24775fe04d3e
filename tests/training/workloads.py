"""Workloads made up for the tests of scheduling, and the plainest way to schedule them: try everything."""

import itertools

import numpy as np

from tamis.training.mainstream.events.model import Events
from tamis.training.mainstream.scheduling.costs import cost
from tamis.training.mainstream.scheduling.table import Schedule, Table
from tamis.training.mainstream.scheduling.workload import Application, Option, Workload


def drawn(seed: int, apps: int, options: int = 4, rates: int = 3, bases: int = 1, whole: bool = False) -> Table:
    """A table of random choices. `whole`: costs are whole numbers and F1 is in steps of 1/1000, so that sums are exact.

    Branches lie anywhere, an application may have fewer options than others, and own layers may cost anything.
    """
    draw = np.random.default_rng(seed)
    segments = [draw.integers(1, 9, draw.integers(1, 5)).astype(float) for _ in range(bases)]
    tree = draw.integers(0, bases, apps)
    depth = np.array([len(segments[t]) for t in tree], np.int64).reshape(apps)
    branch = draw.integers(0, depth[:, None] + 1, (apps, options))
    tails = [np.append(np.cumsum(s[::-1])[::-1], 0.0) for s in segments]
    seconds = np.array([[tails[t][b] for b in row] for t, row in zip(tree, branch, strict=True)]).reshape(apps, options)
    seconds = seconds + draw.integers(0, 3, (apps, options))
    f1 = draw.integers(0, 1001, (apps, options, rates)) / 1000
    f1 = np.where(draw.random((apps, 1, 1)) < 0.5, np.sort(f1, axis=2), f1)
    missing = draw.random((apps, options)) < 0.2
    missing[:, 0] = False
    f1[missing] = -np.inf
    rates_R = np.arange(1, rates + 1, dtype=float)
    if not whole:
        segments, seconds = [s * draw.uniform(0.5, 1.5) for s in segments], seconds * draw.uniform(0.5, 1.5)
        rates_R = np.sort(draw.uniform(0.1, 10, rates))
    starts = np.cumsum([0, *map(len, segments)])[:-1]
    zeros = np.zeros_like(f1)
    return Table(
        rates_R, np.concatenate(segments), starts, tree, branch, seconds, f1, zeros, zeros, zeros.astype(np.int64)
    )


def listed(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Every schedule there is [P, N, 2], and what it costs [P], by the words of the authors' rule.

    A segment costs its latency times (the rates of the applications that branched off before it, summed, and the
    highest rate of those that still share it); what an application's own layers cost beyond the segments is its own.
    """
    choices = [np.argwhere(np.isfinite(f1)) for f1 in table.f1_NOR]
    everything = np.array(list(itertools.product(*choices))).reshape(-1, len(table), 2)
    option, rate = everything[..., 0], table.rates_R[everything[..., 1]]
    apps = np.arange(len(table))
    branch, seconds = table.branch_NO[apps, option], table.seconds_NO[apps, option]
    total = np.zeros(len(everything))
    ends = np.append(table.starts_B[1:], len(table.segments_T))
    for base, (start, end) in enumerate(zip(table.starts_B, ends, strict=True)):
        ours = table.tree_N == base
        for s, latency in enumerate(table.segments_T[start:end]):
            left, shares = ours & (branch <= s), ours & (branch > s)
            total += latency * ((rate * left).sum(axis=1) + (rate * shares).max(axis=1, initial=0.0))
        rest = np.array([table.segments_T[start:end][b:].sum() for b in range(end - start + 1)])
        total += ((seconds - rest[np.minimum(branch, end - start)]) * rate * ours).sum(axis=1)
    return everything, total


def values(table: Table, everything: np.ndarray) -> np.ndarray:
    """F1 of every application under every schedule [P, N]."""
    return table.f1_NOR[np.arange(len(table)), everything[..., 0], everything[..., 1]]


def budget_between(table: Table, lowest: Schedule, share: float) -> float:
    """A budget that is a share of the way from the cheapest schedule to the dearest."""
    low = cost(table, lowest)
    high = float(table.rates_R[-1] * (table.segments_T.sum() * len(table) + np.abs(table.seconds_NO).sum()))
    return low + share**2 * max(high - low, 0.0)


def workload(
    apps: int = 3, *, rates: tuple[float, ...] = (1.0, 2.0, 4.0), votes: tuple[int, ...] = (1,), bases: int = 1
) -> Workload:
    """Applications whose candidates are worse the more they share, on bases of three segments."""
    options = tuple(
        Option(branch=b, tpr=tpr, fpr=fpr, accuracy=1 - (1 - tpr + fpr) / 2, name=f"block{b}" if b else "")
        for b, (tpr, fpr) in enumerate(((0.95, 0.01), (0.9, 0.02), (0.8, 0.04), (0.6, 0.1)))
    )
    names = [f"base{n}" for n in range(bases)]
    return Workload(
        tuple(
            Application(f"app{n}", names[n % bases], Events(1.0 + n, 0.5 + n, 0.2, 0.3), options, f"app{n}@1")
            for n in range(apps)
        ),
        dict.fromkeys(names, (0.04, 0.02, 0.01)),
        rates,
        votes,
    )
