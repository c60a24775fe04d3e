"""What the event model needs, measured from labelled video.

What: `smooth` mends labels, `measure_events` tells length and frequency of events, `measure_rates` the rates of a model
on single frames and the correlation of its misses, `discordance` how often two candidates disagree.
How: a frame stands for the time until the next one (the last for a median step), so an event of k frames is k steps
long, and looked at by all frames N = k times. The average length is the time inside events over their number, where an
event that the start or end of a video cuts counts half: cutting a video in two changes nothing. The shortest event is
looked for among whole ones, if there are any. P(miss | miss) is counted over neighbouring frames of one event and
converted by c = (P(miss | miss) - p) / (1 - p).
Cost: a few passes over the frames.
Departure: the thesis prints measured P(miss | miss) as if it were c.
Source: A. H. Jiang, thesis, sections 5.2.3 and 5.3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.training.errors import EventsError
from tamis.training.mainstream.events.chain import Counts, Floats
from tamis.training.mainstream.events.model import Events

Flags = NDArray[np.bool_]

ROUNDING = 1e-9  # seconds


@dataclass(frozen=True, eq=False)
class Labelled:
    """Frames of one video, in order.

    Attributes:
        time_N: seconds, increasing; two frames at least.
        event_N: whether each frame lies in an event.

    Raises:
        EventsError: fewer frames, other lengths, times that do not increase, or labels other than true and false.
    """

    time_N: Floats
    event_N: Flags

    def __post_init__(self) -> None:
        time_N, event_N = np.asarray(self.time_N, np.float64), _flags("label", self.event_N)
        if time_N.ndim != 1 or time_N.shape != event_N.shape:
            shapes = f"{time_N.shape} and {event_N.shape}"
            raise EventsError(f"times and labels have shapes {shapes}; expected one of each for every frame")
        if len(time_N) < 2:
            raise EventsError(f"a video has {len(time_N)} frames; expected at least 2, to tell how long a frame lasts")
        step_N = np.diff(time_N)
        if not np.all(fine_N := (step_N > 0) & (step_N < np.inf)):
            where = int(np.argmin(fine_N))
            raise EventsError(f"time goes from {time_N[where]} to {time_N[where + 1]} s; expected increasing seconds")
        object.__setattr__(self, "time_N", time_N)
        object.__setattr__(self, "event_N", event_N)

    @property
    def borders(self) -> Floats:
        """Seconds at which frames start, and at which the last one ends: one more than frames."""
        return np.append(self.time_N, self.time_N[-1] + np.median(np.diff(self.time_N)))


class Measured(NamedTuple):
    """Events of some videos.

    Attributes:
        average, minimum: length in seconds.
        frequency: share of time inside events.
        found: how many events, cut ones too.
        seconds: of all videos.
    """

    average: float
    minimum: float
    frequency: float
    found: int
    seconds: float

    def events(self, correlation: float) -> Events:
        """As the event model takes them."""
        return Events(self.average, self.minimum, self.frequency, correlation)


class Rates(NamedTuple):
    """A model on single frames.

    Attributes:
        tpr, fpr: share of event frames, and of the others, on which it says event; 0 for `fpr` without others.
        accuracy: share of frames on which it is right.
        miss_after_miss: P(miss | miss) over neighbouring frames of an event; NaN if no miss has a neighbour after it.
        correlation: c, clipped to 0 to 1; 0 where it cannot be told (no misses, or nothing but misses).
    """

    tpr: float
    fpr: float
    accuracy: float
    miss_after_miss: float
    correlation: float


def smooth(video: Labelled, fill: float = 0.0, drop: float = 0.0) -> Labelled:
    """Labels without short gaps, and then without short events.

    Args:
        video: as labelled.
        fill: gaps between two events shorter than so many seconds become part of them.
        drop: events shorter than so many seconds that are left then are none.
    """
    for name, seconds in (("fill", fill), ("drop", drop)):
        if not 0 <= seconds < np.inf:
            raise EventsError(f"{name} is {seconds}; expected seconds, from 0")
    first_I, after_I = spans(video.event_N)
    border_M = video.borders
    apart = border_M[first_I[1:]] - border_M[after_I[:-1]] >= fill - ROUNDING
    first_I, after_I = first_I[np.append(True, apart)[: len(first_I)]], after_I[np.append(apart, True)[: len(after_I)]]
    long_I = border_M[after_I] - border_M[first_I] >= drop - ROUNDING
    turns_M = np.zeros(len(border_M), np.int64)
    turns_M[first_I[long_I]], turns_M[after_I[long_I]] = 1, -1
    return replace(video, event_N=np.cumsum(turns_M)[:-1] > 0)


def spans(event_N: Flags) -> tuple[Counts, Counts]:
    """The first frame of each event, and the first one after it."""
    turns_M = np.diff(event_N.astype(np.int64), prepend=0, append=0)
    return np.flatnonzero(turns_M == 1), np.flatnonzero(turns_M == -1)


def measure_events(videos: Sequence[Labelled]) -> Measured:
    """Lengths and frequency of events.

    Raises:
        EventsError: no event in any video.
    """
    lengths, cuts = list[Floats](), list[Counts]()
    for video in videos:
        first_I, after_I = spans(video.event_N)
        lengths.append(video.borders[after_I] - video.borders[first_I])
        cuts.append((first_I == 0).astype(np.int64) + (after_I == len(video.time_N)))
    seconds = float(sum(video.borders[-1] - video.borders[0] for video in videos))
    frames = sum(len(video.time_N) for video in videos)
    if not any(map(len, lengths)):
        found = f"0 events in {frames} frames of {len(videos)} videos ({seconds:.1f} s)"
        raise EventsError(f"{found}; expected at least one frame labelled as event: check the class and the labels")
    length_I, cut_I = np.concatenate(lengths), np.concatenate(cuts)
    number = np.sum(1 - cut_I / 2) or len(length_I)
    average, whole = float(length_I.sum() / number), cut_I == 0
    shortest = float((length_I[whole] if np.any(whole) else length_I).min())
    return Measured(average, min(shortest, average), min(float(length_I.sum() / seconds), 1.0), len(length_I), seconds)


def measure_rates(labels: Sequence[ArrayLike], hits: Sequence[ArrayLike], apart: int = 1) -> Rates:
    """Rates of a model on single frames, and the correlation of its misses.

    Args:
        labels: of each video, whether each frame lies in an event.
        hits: of each video, whether the model says event.
        apart: frames from one look to the next that are compared, for a correlation at a lower rate.

    Raises:
        EventsError: no event frame, other lengths, or values other than true and false.
    """
    if apart < 1:
        raise EventsError(f"looks are {apart} frames apart; expected at least 1")
    event_N, hit_N, stretch_N = _joined(labels, hits)
    events, others = int(event_N.sum()), int((~event_N).sum())
    if not events:
        raise EventsError(f"0 event frames among {others}; expected at least one, to tell a true positive rate")
    miss_N = event_N & ~hit_N
    missed, false = int(miss_N.sum()), int((hit_N & ~event_N).sum())
    before, after = (miss_N[:-apart], miss_N[apart:]) if apart < len(miss_N) else (miss_N[:0], miss_N[:0])
    pairs = before & (stretch_N[: len(before)] == stretch_N[len(stretch_N) - len(after) :])
    again = float((pairs & after).sum() / pairs.sum()) if np.any(pairs) else np.nan
    accuracy = 1 - (missed + false) / (events + others)
    return Rates(1 - missed / events, false / max(others, 1), accuracy, again, correlation_of(again, missed / events))


def correlation_of(miss_after_miss: float, miss: float) -> float:
    """c from P(miss | miss) and the rate of misses, clipped to 0 to 1; 0 where it cannot be told."""
    if not miss < 1 or np.isnan(miss_after_miss):
        return 0.0
    return float(np.clip((miss_after_miss - miss) / (1 - miss), 0, 1))


def discordance(one: ArrayLike, other: ArrayLike) -> float:
    """Share of frames on which two candidates' outputs differ (any values of one shape, one for each frame)."""
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape or not first.size:
        raise EventsError(f"outputs have shapes {first.shape} and {second.shape}; expected one of each for every frame")
    return float(np.mean(first != second))


def _joined(labels: Sequence[ArrayLike], hits: Sequence[ArrayLike]) -> tuple[Flags, Flags, Counts]:
    """Labels and hits of all videos, one after the other, and the number of the stretch that each frame is of."""
    events = [_flags("label", each) for each in labels]
    said = [_flags("output", each) for each in hits]
    counts = [[each.size for each in many] for many in (events, said)]
    if counts[0] != counts[1]:
        raise EventsError(f"labels are of {counts[0]} frames, outputs of {counts[1]}; expected as many for each video")
    empty = np.zeros(0, np.bool_)
    event_N, hit_N = np.concatenate([empty, *events]), np.concatenate([empty, *said])
    turns = [np.diff(each, prepend=~each[:1]) for each in events]
    return event_N, hit_N, np.cumsum(np.concatenate([empty, *turns]), dtype=np.int64)


def _flags(name: str, values: ArrayLike) -> Flags:
    """An array of true and false; 1 and 0 may stand for them."""
    array = np.asarray(values)
    if array.dtype != np.bool_ and not np.all((array == 0) | (array == 1)):
        raise EventsError(f"one {name} is {array[(array != 0) & (array != 1)].flat[0]}; expected true or false")
    return array.astype(np.bool_)
