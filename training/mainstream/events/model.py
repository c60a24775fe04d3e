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
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from tamis.training.errors import EventsError
from tamis.training.mainstream.events import checks
from tamis.training.mainstream.events.chain import Floats, Misses, Single
from tamis.training.mainstream.events.voting import Runs

HOUR = 3600.0  # seconds
ENDLESS = 2.0**52  # looks: what a float holds as a whole number

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
        votes: consecutive hits that report an event, 1 to 100.
        frames: "mixed" takes the two whole numbers of looks next to N; "real" a real number of looks (below the first
            that can report anything it is mixed, and so is the delay).
        precision: "once" counts a gap's false event once; "frequency" weighs as the thesis does,
            f R / (f R + (1 - f) F); "windows" as its authors' code, with F of a window of the average length.

    Raises:
        EventsError: a number out of its range, or shapes that do not broadcast.
    """
    _known("frames", frames, get_args(Frames))
    _known("precision", precision, get_args(Precision))
    given = _checked(events, tpr, fpr, fps, votes)
    hits = _chain(given, 1 - given.tpr, given.average)
    false = _chain(given, 1 - given.fpr, np.maximum(given.gap, given.average))
    recall = _Looks(hits, given.minimum * given.fps).found(given.votes, frames)
    average = _Looks(hits, given.average * given.fps)
    found = average.found(given.votes, frames)
    alarms = _Looks(false, given.gap * given.fps).found(given.votes, frames)
    weight, wrong = given.frequency, alarms
    if precision == "windows":
        wrong = _Looks(false, given.average * given.fps).found(given.votes, frames)
    right = _ratio(found, found + alarms)
    if precision != "once":
        right = _ratio(weight * found, weight * found + (1 - weight) * wrong)
    f1 = _ratio(2 * recall * right, recall + right)
    hourly = HOUR * given.frequency / given.average * alarms
    return Scores(*map(np.array, np.broadcast_arrays(recall, right, f1, hourly, average.delay(given.fps))))


class _Given(NamedTuple):
    """Checked arguments, as arrays that broadcast."""

    average: Floats
    minimum: Floats
    gap: Floats
    frequency: Floats
    correlation: Floats
    tpr: Floats
    fpr: Floats
    fps: Floats
    votes: Floats


def _checked(
    events: Events | Sequence[Events], tpr: ArrayLike, fpr: ArrayLike, fps: ArrayLike, votes: ArrayLike
) -> _Given:
    """The arguments as arrays, every number within its range."""
    arrays = [
        checks.shares("true positive rate", tpr),
        checks.shares("false positive rate", fpr),
        checks.frame_rates(fps),
        checks.votes(votes),
    ]
    axes = max(1, *(each.ndim for each in arrays))
    several = [events] if isinstance(events, Events) else list(events)
    rows = [(each.average, each.minimum, each.gap, each.frequency, each.correlation) for each in several]
    shape = () if isinstance(events, Events) else (-1, *[1] * (axes - 1))
    told = [column.reshape(shape) for column in np.array(rows, np.float64).reshape(-1, 5).T]
    try:
        np.broadcast_shapes(*(each.shape for each in (*told, *arrays)))
    except ValueError:
        shapes = ", ".join(str(each.shape) for each in arrays)
        of = "" if isinstance(events, Events) else f" with the {len(several)} applications on their first axis"
        raise EventsError(f"shapes of tpr, fpr, fps and votes are {shapes}; expected to broadcast{of}") from None
    return _Given(*told, *arrays)


def _known(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses a word that is none of them."""
    if value not in choices:
        raise EventsError(f"{name} is {value!r}; expected one of {', '.join(choices)}")


def _chain(given: _Given, miss: Floats, length: Floats) -> Misses:
    """The chain of misses under voting, for looks at up to that many seconds."""
    if np.all(given.votes == 1):
        return Single(miss, given.correlation)
    longest = 1 + int(min(np.max(length * given.fps, initial=0), ENDLESS))
    return Runs(miss, given.correlation, given.votes, longest)


class _Looks:
    """Looks at stretches of a length: their number on average, between two whole ones, and what is missed in these.

    Args:
        chain: of misses.
        number: N, looks on average.
    """

    def __init__(self, chain: Misses, number: Floats) -> None:
        number = np.minimum(number, ENDLESS)
        floor = np.floor(number)
        self._chain, self._part, self._whole = chain, number - floor, floor.astype(np.int64)
        self._fewer, self._more = chain.missed(self._whole), chain.missed(self._whole + 1)

    def found(self, votes: Floats, frames: Frames) -> Floats:
        """Chance that something is found."""
        mixed = self._fewer + self._part * (self._more - self._fewer)
        if frames == "mixed":
            return 1 - mixed
        real = self._fewer ** (1 - self._part) * self._more**self._part
        return 1 - np.where(self._whole < votes, mixed, real)

    def delay(self, fps: Floats) -> Floats:
        """Mean seconds to the look that reports, given that one does.

        The first look falls evenly within a period: within its first frac(N) if there is one look more, else after
        that. The look that reports is on average number sum_k k (D_k - D_(k-1)) = n D_n - sum_(k<n) D_k, where
        D_k = 1 - missed(k).
        """
        part, found_fewer, found_more = self._part, 1 - self._fewer, 1 - self._more
        before = self._chain.missed_before(self._whole) - self._whole  # - sum_(k<n) D_k
        fewer = (self._whole + (part - 1) / 2) * found_fewer + before
        more = (self._whole + part / 2) * found_more + before - found_fewer
        found = (1 - part) * found_fewer + part * found_more
        with_delay = (1 - part) * fewer + part * more
        return np.where(found > 0, _ratio(with_delay, found * fps), np.nan)


def _ratio(over: Floats, under: Floats) -> Floats:
    """over / under, 0 where both are 0."""
    return over / np.where(under > 0, under, 1.0)
