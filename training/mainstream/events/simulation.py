"""Simulation of looks at events: what judges the event model.

What: `simulate` measures the scores of `tamis.training.mainstream.events.model` on many events; `simulate_looks` gives
the looks themselves, with labels and hits, and `judge` counts what they find.
How: events and gaps take turns. Each is looked at once a period from a phase of its own, even over the period, so that
every event sees one of the two whole numbers of looks next to N. The first look is a hit at the rate of single frames;
each further one copies the one before with chance c and is drawn afresh otherwise, which is the chain whose
P(miss | miss) is p + c (1 - p) without using that formula. Nothing else of the model is used.
Cost: some 50 ns a look; looks of a block of events are held at once.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tamis.training.errors import EventsError
from tamis.training.mainstream.events import checks
from tamis.training.mainstream.events.chain import Counts, Floats
from tamis.training.mainstream.events.model import HOUR, Events, Scores

Flags = NDArray[np.bool_]

BLOCK = 2_000_000  # looks held at once, about


class Looks(NamedTuple):
    """Looks in order of time. Stretches alternate: an event, the gap after it, the next event, ...

    Attributes:
        time_N: seconds from the start.
        stretch_N: number of the stretch; events have even numbers.
        hit_N: whether the model says event.
        start_S: seconds at which each stretch starts.
        seconds: of all stretches.
    """

    time_N: Floats
    stretch_N: Counts
    hit_N: Flags
    start_S: Floats
    seconds: float

    @property
    def labels(self) -> Flags:
        """Of each look, whether it falls into an event."""
        return self.stretch_N % 2 == 0


class Tally(NamedTuple):
    """What was counted: events, those found, gaps with a false event, seconds in all, and seconds to the detections."""

    events: int
    found: int
    false: int
    seconds: float
    waited: float

    def plus(self, other: "Tally") -> "Tally":
        counts = (self.events + other.events, self.found + other.found, self.false + other.false)
        return Tally(*counts, self.seconds + other.seconds, self.waited + other.waited)


def simulate(
    events: Events,
    tpr: float,
    fpr: float,
    fps: float,
    votes: int = 1,
    *,
    count: int,
    generator: np.random.Generator,
    across: bool = False,
) -> Scores:
    """Scores of that many events. Recall is of events of the minimum length, all else of the average length.

    Args:
        events, tpr, fpr, fps, votes: as for `tamis.training.mainstream.events.model.event_scores`.
        count: how many events, from 1.
        generator: of all draws.
        across: let a run of hits go on from an event into the gap and back; the model ends it there.

    Raises:
        EventsError: a number out of its range.
    """
    checks.shares("rate", [tpr, fpr])
    checks.frame_rates(fps)
    checks.votes(votes)
    if count < 1:
        raise EventsError(f"{count} events to simulate; expected at least 1")
    usual = _tally(events, events.average, tpr, fpr, fps, votes, count, generator, across)
    short = usual
    if events.minimum < events.average:
        short = _tally(events, events.minimum, tpr, fpr, fps, votes, count, generator, across)
    recall, told = short.found / short.events, usual.found + usual.false
    precision = usual.found / told if told else 0.0
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    delay = usual.waited / usual.found if usual.found else np.nan
    return Scores(*(np.array(each) for each in (recall, precision, f1, HOUR * usual.false / usual.seconds, delay)))


def _tally(
    events: Events,
    length: float,
    tpr: float,
    fpr: float,
    fps: float,
    votes: int,
    count: int,
    generator: np.random.Generator,
    across: bool,
) -> Tally:
    """Counts over events of one length, in blocks."""
    block = max(1, int(BLOCK / (1 + (length + events.gap) * fps)))
    total = Tally(0, 0, 0, 0.0, 0.0)
    for done in range(0, count, block):
        lengths_E = np.full(min(block, count - done), length, np.float64)
        gaps_E = np.full_like(lengths_E, events.gap)
        looks = simulate_looks(lengths_E, gaps_E, (tpr, fpr), events.correlation, fps, generator)
        total = total.plus(judge(looks, votes, across))
    return total


def simulate_looks(
    lengths_E: Floats,
    gaps_E: Floats,
    rates: tuple[float, float],
    correlation: float,
    fps: float,
    generator: np.random.Generator,
) -> Looks:
    """Looks at events of these lengths, each with the gap that follows it.

    Args:
        lengths_E, gaps_E: seconds.
        rates: true and false positive rate.
        correlation: c.
        fps: looks a second.
        generator: of all draws.
    """
    length_S = np.stack([lengths_E, gaps_E], 1).ravel()
    start_S = np.cumsum(length_S) - length_S
    phase_S = generator.random(len(length_S)) / fps
    number_S = np.maximum(np.ceil((length_S - phase_S) * fps), 0).astype(np.int64)
    stretch_N = np.repeat(np.arange(len(length_S)), number_S)
    order_N = np.arange(len(stretch_N)) - np.repeat(np.cumsum(number_S) - number_S, number_S)
    time_N = start_S[stretch_N] + phase_S[stretch_N] + order_N / fps
    drawn_N = generator.random(len(stretch_N)) < np.where(stretch_N % 2 == 0, *rates)
    fresh_N = (order_N == 0) | (generator.random(len(stretch_N)) >= correlation)
    hit_N = drawn_N[_latest(fresh_N)]
    return Looks(time_N, stretch_N, hit_N, start_S, float(length_S.sum()))


def judge(looks: Looks, votes: int, across: bool = False) -> Tally:
    """Counts what is reported after so many hits in a row; a gap's reports count once.

    Args:
        looks: to be judged.
        votes: hits in a row, from 1.
        across: let a run go on over the border of an event.
    """
    numbers_N = np.arange(len(looks.hit_N))
    first_N = np.diff(looks.stretch_N, prepend=-1) != 0
    ended_N = np.where(looks.hit_N, -1, numbers_N)  # where the run before a look ended
    if not across:
        ended_N = np.maximum(ended_N, np.where(first_N, numbers_N - 1, -1))
    reported = np.flatnonzero(numbers_N - np.maximum.accumulate(ended_N) >= votes)
    stretches, where = np.unique(looks.stretch_N[reported], return_index=True)
    of_events = stretches % 2 == 0
    waited = looks.time_N[reported[where[of_events]]] - looks.start_S[stretches[of_events]]
    found = int(of_events.sum())
    return Tally(len(looks.start_S) // 2, found, len(stretches) - found, looks.seconds, float(waited.sum()))


def _latest(flags_N: Flags) -> Counts:
    """For each position the last one up to it that is set; the first is."""
    return np.maximum.accumulate(np.where(flags_N, np.arange(len(flags_N)), 0))
