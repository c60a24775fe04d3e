"""Workloads for Mainstream's scheduler: drawn as in the thesis, from published curves or from generated ones.

A task is a curve: true and false positive rate of the candidate at each branchpoint. Applications take a task at random
and events of random frequency (.1 to 1), length (.2 to 1 s) and correlation of misses (.1 to .9), in steps.
"""

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tamis.training.mainstream.events.model import Events, Scores, event_scores
from tamis.training.mainstream.scheduling.workload import Application, Option, Workload

BUDGETS = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0)  # in units of the published latencies
APPS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30)
RATES = tuple(float(r) for r in range(1, 11))
TENTHS = tuple(r / 10 for r in range(1, 10))


@dataclass(frozen=True)
class Curves:
    """What applications are drawn from.

    Attributes:
        segments: latency of each segment.
        head: latency of what follows the last branchpoint.
        tasks: for each task and branchpoint, true and false positive rate.
    """

    segments: tuple[float, ...]
    head: float
    tasks: tuple[tuple[tuple[float, float], ...], ...]


def curves() -> tuple[Curves, str]:
    """The published ones if there is a file, otherwise generated ones; and which."""
    path = os.environ.get("TAMIS_BENCH_PUBLISHED")
    return (published(Path(path)), "published curves") if path else (generated(), "generated curves")


def published(path: Path, monotone: bool = True) -> Curves:
    """From the authors' numbers. `monotone`: accuracy never falls as sharing does, as the authors make it."""
    document = json.loads(path.read_text())
    latencies, tasks = np.array(document["layer_latencies"]), document["frozen_accuracy_falsepositive"]
    frozen = [int(row[0]) for row in next(iter(tasks.values()))]
    segments = [float(latencies[a:b].sum()) for a, b in itertools.pairwise(frozen)]
    found = []
    for rows in tasks.values():
        tpr, fpr = np.array(rows)[:, 1], np.array(rows)[:, 2]
        if monotone:
            tpr = np.maximum.accumulate(tpr[::-1])[::-1]
        found.append(tuple(zip(tpr.tolist(), fpr.tolist(), strict=True)))
    return Curves(tuple(segments), float(latencies[frozen[-1] :].sum()), tuple(found))


def generated(tasks: int = 9, segments: int = 15) -> Curves:
    """Curves of the usual shape: accuracy falls slowly with sharing, at its end fast; early segments take longest."""
    draw = np.random.default_rng(0)
    shared = np.linspace(0, 1, segments + 1)
    latencies = 0.8 ** np.arange(segments)
    found = []
    for _ in range(tasks):
        best, drop, bend = draw.uniform(0.7, 0.99), draw.uniform(0.05, 0.45), draw.uniform(3, 12)
        wrong, more = draw.uniform(0.01, 0.2), draw.uniform(0.01, 0.15)
        tpr, fpr = best - drop * shared**bend, wrong + more * shared**bend
        found.append(tuple(zip(tpr.tolist(), fpr.tolist(), strict=True)))
    return Curves(tuple((20.8 * latencies / latencies.sum()).tolist()), 0.01, tuple(found))


def drawn(draw: np.random.Generator, given: Curves, apps: int, rates: Sequence[float] = RATES) -> Workload:
    """A workload of so many applications."""
    tails = np.append(np.cumsum(given.segments[::-1])[::-1], 0.0) + given.head
    made = []
    for n in range(apps):
        task = given.tasks[draw.integers(len(given.tasks))]
        length, share, alike = draw.integers(1, 6) / 5, draw.integers(1, 11) / 10, draw.integers(1, 10) / 10
        options = tuple(Option(b, tpr, fpr, tpr, float(tails[b])) for b, (tpr, fpr) in enumerate(task))
        made.append(Application(f"a{n}", "base", Events(length, length, share, alike), options))
    return Workload(tuple(made), {"base": given.segments}, tuple(rates))


def twice(events: Any, tpr: Any, fpr: Any, fps: Any, votes: Any) -> Scores:
    """The authors' reading: of a stream of 10 frames a second they take the share that is looked at twice.

    So an event gets d f (f / 10) looks in place of d f, and precision compares windows of an event's length.
    """
    return event_scores(events, tpr, fpr, np.asarray(fps) ** 2 / 10, votes, precision="windows")
