"""The event model: what a model's accuracy on single frames is worth for events, at the rate it is run at.

What: `event_scores` tells recall, precision and F1 of events, false alarms an hour and the mean delay of detections.
How: an event of d seconds looked at f times a second gets N = d f looks: floor(N) or one more, the latter in frac(N) of
all cases (looks fall at any phase). Misses are a chain (`tamis.training.mainstream.events.chain`). Of one event and the
gap after it, R events are found and F false events reported, a gap's once: precision = R / (R + F). R and F go by the
average length; the recall that is reported, and F1, by the minimum length. Each event and each gap counts its own hits.
Cost: NumPy on the broadcast shape; with voting, a recursion as well (`tamis.training.mainstream.events.voting`).
Defined at the borders: without false events (f = 1, fpr = 0) precision is 1 where R > 0; where nothing is ever reported
(R = F = 0) precision and F1 are 0, and the delay of no event at all (R = 0) is NaN.
Departures: the thesis rounds nothing and weighs precision by the share of time inside events: `frames="real"`,
`precision="frequency"`; its authors' code compares windows of event length: `precision="windows"`. Simulation agrees
with the defaults (docs/explanation/mainstream.md).
Source: A. H. Jiang, thesis, section 5.2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tamis.training.errors import EventsError
from tamis.training.mainstream.events.chain import Floats, Misses, Single

HOUR = 3600.0  # seconds

Frames = Literal["mixed", "real"]
Precision = Literal["once", "frequency", "windows"]


@dataclass(frozen=True)
class Events:
    """Events of one application.

    Attributes:
        average: average length of an event in seconds.
        minimum: length of the shortest one in seconds, at most the average.
        frequency: share of time inside events, above 0; 1 says that there are no gaps, and so no false events.
        correlation: c of misses in consecutive looks at an event, 0 (independent) to 1 (all alike).

    Raises:
        EventsError: a number out of its range.
    """

    average: float
    minimum: float
    frequency: float
    correlation: float

    def __post_init__(self) -> None:
        if not 0 < self.average < np.inf:
            raise EventsError(f"average event length is {self.average} s; expected a number of seconds above 0")
        if not 0 < self.minimum <= self.average:
            expected = f"more than 0 s and at most the average, {self.average} s"
            raise EventsError(f"minimum event length is {self.minimum} s; expected {expected}")
        if not 0 < self.frequency <= 1:
            expected = "the share of time inside events, above 0 and at most 1"
            raise EventsError(f"event frequency is {self.frequency}; expected {expected}")
        if not 0 <= self.correlation <= 1:
            raise EventsError(f"correlation of misses is {self.correlation}; expected 0 to 1")

    @property
    def gap(self) -> float:
        """Average seconds between events, L (1 - f) / f."""
        return self.average * (1 - self.frequency) / self.frequency


class Scores(NamedTuple):
    """What to expect of an application; arrays of one shape.

    Attributes:
        recall: share of events of the minimum length that are found.
        precision: share of reported events that are events, by the average length.
        f1: harmonic mean of these two.
        false_alarms: false events an hour.
        delay: mean seconds from an event's start to the look that reports it, over events of the average length that
            are found; NaN where none is.
    """

    recall: Floats
    precision: Floats
    f1: Floats
    false_alarms: Floats
    delay: Floats


def event_scores(
    events: Events | Sequence[Events],
    tpr: ArrayLike,
    fpr: ArrayLike,
    fps: ArrayLike,
    votes: ArrayLike = 1,
    *,
    frames: Frames = "mixed",
    precision: Precision = "once",
) -> Scores:
    """Scores of events from the rates on single frames. `tpr`, `fpr`, `fps` and `votes` broadcast.

    Keep the axis of `fps` apart from the others (`tpr[:, None]`, `fps[None, :]`): voting is then solved once for all
    rates.

    Args:
        events: of one application; or of E applications at once, to which the first axis of the arrays then belongs.
        tpr: true positive rate of single frames, 0 to 1.
        fpr: false positive rate of single frames, 0 to 1.
        fps: looks a second, above 0.
        votes: consecutive hits that report an event, from 1.
        frames: "mixed" takes the two whole numbers of looks next to N; "real" a real number of looks (below the first
            that can report anything it is mixed, and so is the delay).
        precision: "once" counts a gap's false event once; "frequency" weighs as the thesis does,
            f R / (f R + (1 - f) F); "windows" as its authors' code, with F of a window of the average length.

    Raises:
        EventsError: a number out of its range, or shapes that do not broadcast.
    """
    given = _checked(events, tpr, fpr, fps, votes)
    hits = chain_of(1 - given.tpr, given.correlation, given.votes)
    false = chain_of(1 - given.fpr, given.correlation, given.votes)
    recall = 1 - _missed(hits, given.minimum * given.fps, given.votes, frames)
    found = 1 - _missed(hits, given.average * given.fps, given.votes, frames)
    alarms = 1 - _missed(false, given.gap * given.fps, given.votes, frames)
    share = given.frequency
    if precision == "once":
        right = _ratio(found, found + alarms)
    else:
        window = (
            1 - _missed(false, given.average * given.fps, given.votes, frames) if precision == "windows" else alarms
        )
        right = _ratio(share * found, share * found + (1 - share) * window)
    f1 = _ratio(2 * recall * right, recall + right)
    hourly = HOUR * share / given.average * alarms
    delay = _delay(hits, given.average * given.fps, given.fps)
    return Scores(*(np.array(each) for each in np.broadcast_arrays(recall, right, f1, hourly, delay)))


class _Given(NamedTuple):
    """Checked arguments, as arrays that broadcast."""

    average: Floats
    minimum: Floats
    frequency: Floats
    correlation: Floats
    tpr: Floats
    fpr: Floats
    fps: Floats
    votes: Floats

    @property
    def gap(self) -> Floats:
        return self.average * (1 - self.frequency) / self.frequency


def _checked(
    events: Events | Sequence[Events], tpr: ArrayLike, fpr: ArrayLike, fps: ArrayLike, votes: ArrayLike
) -> _Given:
    """The arguments as arrays, every number within its range."""
    arrays = [np.asarray(each, np.float64) for each in (tpr, fpr, fps, votes)]
    _within("true positive rate", arrays[0], (arrays[0] >= 0) & (arrays[0] <= 1), "0 to 1")
    _within("false positive rate", arrays[1], (arrays[1] >= 0) & (arrays[1] <= 1), "0 to 1")
    _within("frame rate", arrays[2], (arrays[2] > 0) & (arrays[2] < np.inf), "looks a second, above 0")
    whole = (arrays[3] >= 1) & (arrays[3] < np.inf)
    _within("votes", arrays[3], whole & (np.floor(arrays[3]) == arrays[3]), "a whole number of hits, from 1")
    axes = max(1, *(each.ndim for each in arrays))
    several = [events] if isinstance(events, Events) else list(events)
    numbers = np.array([(e.average, e.minimum, e.frequency, e.correlation) for e in several], np.float64).reshape(-1, 4)
    told = [column.reshape(() if isinstance(events, Events) else (-1, *[1] * (axes - 1))) for column in numbers.T]
    try:
        np.broadcast_shapes(*(each.shape for each in (*told, *arrays)))
    except ValueError:
        shapes = ", ".join(str(each.shape) for each in arrays)
        of = "" if isinstance(events, Events) else f" with the {len(several)} applications on their first axis"
        raise EventsError(f"shapes of tpr, fpr, fps and votes are {shapes}; expected to broadcast{of}") from None
    return _Given(*told, *arrays)


def _within(name: str, values: Floats, fine: np.ndarray, expected: str) -> None:
    """Refuses the first value that is not fine."""
    if not np.all(fine):
        raise EventsError(f"{name} is {values[~fine].flat[0]}; expected {expected}")


def chain_of(miss: Floats, correlation: Floats, votes: Floats) -> Misses:
    """The chain of misses under voting."""
    if np.any(votes > 1):
        raise EventsError(f"votes is {votes.max():g}; expected 1, the only number there is a formula for yet")
    return Single(miss, correlation)


def _missed(chain: Misses, looks: Floats, votes: Floats, frames: Frames) -> Floats:
    """Chance that nothing is found in a real number of looks on average."""
    floor = np.floor(looks)
    part, whole = looks - floor, floor.astype(np.int64)
    fewer, more = chain.missed(whole), chain.missed(whole + 1)
    mixed = (1 - part) * fewer + part * more
    if frames == "mixed":
        return mixed
    return np.where(floor < votes, mixed, fewer ** (1 - part) * more**part)


def _delay(chain: Misses, looks: Floats, fps: Floats) -> Floats:
    """Mean seconds to the look that reports an event, given that one does.

    The first look falls evenly within a period: within its first frac(N) if there is one look more, else after that.
    The look that reports is on average number sum_k k (D_k - D_(k-1)) = n D_n - sum_(k<n) D_k, D_k = 1 - missed(k).
    """
    floor = np.floor(looks)
    part, whole = looks - floor, floor.astype(np.int64)
    found, periods = np.zeros(()), np.zeros(())
    for number, chance, first in ((whole, 1 - part, (1 + part) / 2), (whole + 1, part, part / 2)):
        here = 1 - chain.missed(number)
        looked = number * here - (number - chain.missed_before(number))
        found = found + chance * here
        periods = periods + chance * (looked + (first - 1) * here)
    return np.where(found > 0, _ratio(periods, found * fps), np.nan)


def _ratio(over: Floats, under: Floats) -> Floats:
    """over / under, 0 where both are 0."""
    return over / np.where(under > 0, under, 1.0)
