"""The event model and its named variants against simulation: F1 of 100,000 events over the range of everything.

Cases are drawn: average length .2 to 20 s, minimum .1 to 1 of it, looks .1 to 10 a second, frequency .02 to 1, rates
and correlations 0 to 1 with the ends among them, at most 250 looks from one event to the next. Also what scores cost a
scheduler.
"""

from functools import partial
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
from benchlib import Result, medians

from tamis.training.mainstream.events.model import Events, Scores, event_scores
from tamis.training.mainstream.events.simulation import simulate

LONGEST = 250  # looks from one event to the next
WITHIN = 0.01  # what F1 may be off by
VARIANTS = {
    "default": {},
    "real number of looks": {"frames": "real"},
    "weighed by frequency (thesis)": {"precision": "frequency"},
    "windows (authors)": {"precision": "windows"},
    "both of the thesis": {"frames": "real", "precision": "frequency"},
}


class _Case(NamedTuple):
    events: Events
    tpr: float
    fpr: float
    fps: float
    votes: int


def run(quick: bool, data: Path | None) -> list[Result]:
    count, cases = (2000, 6) if quick else (100_000, 120)
    draws = np.random.default_rng(0)
    single = [_draw(draws, 1) for _ in range(cases)]
    voting = [_draw(draws, int(draws.integers(2, 8))) for _ in range(cases // 2)]
    target = None if quick else WITHIN
    seen, voted = _simulated(single, count), _simulated(voting, count)
    carried = _simulated(voting, count, across=True)
    results = list[Result]()
    for name, how in VARIANTS.items():
        told = [event_scores(*case, **how) for case in single]
        results += _apart(f"F1, {name}", told, seen, target if name == "default" else None, f"{cases} cases, 1 vote")
    told, label = [event_scores(*case) for case in voting], f"{len(voting)} cases, 2 to 7 votes"
    results += _apart("F1, default, voting", told, voted, target, label)
    results += _apart("F1, default, runs over borders", told, carried, None, f"{label}; the model ends a run there")
    return [*results, *_costs(1 if quick else 9)]


def _draw(draws: np.random.Generator, votes: int) -> _Case:
    """Until one is small enough, and if it votes, its shortest event gets enough looks."""
    while True:
        average, frequency = 0.2 * 100 ** draws.random(), 0.02 ** draws.random()
        events = Events(average, average * draws.uniform(0.1, 1), frequency, _unit(draws))
        fps = 0.1 * 100 ** draws.random()
        if average / frequency * fps <= LONGEST and (votes == 1 or events.minimum * fps >= votes):
            return _Case(events, _unit(draws), _unit(draws) ** 2, fps, votes)


def _unit(draws: np.random.Generator) -> float:
    """0 to 1, in one of ten cases exactly one of these."""
    return float(draws.integers(2)) if draws.random() < 0.1 else draws.random()


def _simulated(cases: list[_Case], count: int, across: bool = False) -> list[Scores]:
    draws = np.random.default_rng(1)
    return [simulate(*case, count=count, generator=draws, across=across) for case in cases]


def _apart(name: str, told: list[Scores], seen: list[Scores], target: float | None, note: str) -> list[Result]:
    """Worst and mean difference."""
    apart = np.abs([float(ours.f1 - theirs.f1) for ours, theirs in zip(told, seen, strict=True)])
    return [
        Result(f"{name}: worst", float(apart.max()), "off simulation", target=target, note=note),
        Result(f"{name}: mean", float(apart.mean()), "off simulation"),
    ]


def _costs(repeats: int) -> list[Result]:
    """What a scheduler asks for: 30 applications, 16 candidates, 10 rates."""
    draws = np.random.default_rng(0)
    events = [Events(length, length / 2, draws.uniform(0.1, 1), draws.random()) for length in draws.uniform(0.2, 1, 30)]
    tpr, fpr, fps = draws.uniform(0.5, 1, (30, 16, 1)), draws.uniform(0, 0.2, (30, 16, 1)), np.arange(1.0, 11)
    several = np.array([1, 2, 3, 5, 7])
    one = partial(event_scores, events, tpr, fpr, fps)
    two = partial(event_scores, events, tpr, fpr, fps, 2)
    all_ = partial(event_scores, events, tpr[..., None], fpr[..., None], fps[:, None], several)
    taken = medians(repeats, one, two, all_, clock=process_time)
    names = ("1 vote", "2 votes", "1, 2, 3, 5 and 7 votes")
    label = "30 applications, 16 candidates, 10 rates"
    return [
        Result(f"scores, {name}", seconds * 1e3, "ms", note=label) for name, seconds in zip(names, taken, strict=True)
    ]
