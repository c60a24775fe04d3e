"""The event model against hand-worked values, its properties, and its borders."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.training.errors import EventsError
from tamis.training.mainstream.events.model import Events, event_scores

SECOND = Events(average=1, minimum=1, frequency=0.5, correlation=0)
TRACKS = Events(average=20 / 30, minimum=20 / 30, frequency=0.1, correlation=0.3)  # 20 frames of 30 a second

unit = st.floats(0, 1)
events = st.builds(
    lambda average, share, frequency, correlation: Events(average, share * average, frequency, correlation),
    st.floats(0.1, 100), st.floats(0.01, 1), st.floats(0.01, 1), unit,
)  # fmt: skip
rates = st.floats(0.05, 30)
votes = st.integers(1, 6)


def test_independent_looks_worked_by_hand() -> None:
    """Two looks at .5: 3 of 4 events are found. Of two looks at the gap, one second too, .9^2 are quiet."""
    scores = event_scores(SECOND, tpr=0.5, fpr=0.1, fps=2)
    assert scores.recall == pytest.approx(0.75)
    assert scores.precision == pytest.approx(0.75 / (0.75 + 0.19))
    assert scores.f1 == pytest.approx(2 * 0.75 * 0.7978723404 / (0.75 + 0.7978723404))
    assert scores.false_alarms == pytest.approx(1800 * 0.19)  # a gap every two seconds
    # Found at the first look (1/2), .25 s after the start on average, or at the second (1/4), half a second later.
    assert scores.delay == pytest.approx((0.5 * 0.25 + 0.25 * 0.75) / 0.75)


def test_misses_come_together() -> None:
    """P(miss | miss) = .2 + .3 .8 = .44; five looks: .2 .44^4."""
    assert event_scores(TRACKS, 0.8, 0.05, 7.5).recall == pytest.approx(1 - 0.2 * 0.44**4)


@pytest.mark.parametrize(("form", "precision"), [("once", 0.553), ("frequency", 0.121)])
def test_weighing_by_frequency_over_a_whole_gap_is_incoherent(
    form: Literal["once", "frequency"], precision: float
) -> None:
    """20 frames, every fourth looked at, tpr .8, tnr .95, c .3, f .1: simulation (the test beside this) gives .553."""
    scores = event_scores(TRACKS, 0.8, 0.05, 7.5, precision=form)
    assert scores.precision == pytest.approx(precision, abs=5e-4)


def test_windows_of_event_length_weighed_by_frequency() -> None:
    """Five looks at a window: .95 .965^4 stay quiet."""
    found, false = 1 - 0.2 * 0.44**4, 1 - 0.95 * 0.965**4
    expected = 0.1 * found / (0.1 * found + 0.9 * false)
    assert event_scores(TRACKS, 0.8, 0.05, 7.5, precision="windows").precision == pytest.approx(expected)


def test_whole_numbers_of_looks_are_mixed() -> None:
    """2.25 looks are two in 3 of 4 cases and three otherwise; the real number is .5^2.25."""
    assert event_scores(SECOND, 0.5, 0, 2.25).recall == pytest.approx(1 - 0.75 * 0.5**2 - 0.25 * 0.5**3)
    assert event_scores(SECOND, 0.5, 0, 2.25, frames="real").recall == pytest.approx(1 - 0.5**2.25)


@pytest.mark.parametrize("frames", ["mixed", "real"])
def test_less_than_one_look_finds_that_share_of_events(frames: str) -> None:
    scores = event_scores(SECOND, 1, 0, 0.25, frames=frames)  # type: ignore[arg-type]
    assert scores.recall == pytest.approx(0.25)
    assert scores.delay == pytest.approx(0.5)  # anywhere in the event


def test_recall_goes_by_the_shortest_event_precision_by_the_average() -> None:
    scores = event_scores(Events(4, 1, 0.5, 0), 0.5, 0.1, 1)
    found, false = 1 - 0.5**4, 1 - 0.9**4
    assert scores.recall == pytest.approx(0.5)
    assert scores.precision == pytest.approx(found / (found + false))
    assert scores.f1 == pytest.approx(2 / (1 / scores.recall + 1 / scores.precision))


def test_two_votes_worked_by_hand() -> None:
    """Three looks at .5 have two hits in a row in 3 of 8 cases: twice at the second look, once at the third."""
    scores = event_scores(SECOND, 0.5, 0, 3, votes=2)
    assert scores.recall == pytest.approx(3 / 8)
    assert scores.delay == pytest.approx((2 / 8 * 1.5 + 1 / 8 * 2.5) / 3 / (3 / 8))


@pytest.mark.parametrize("votes", [1, 2])
def test_borders_are_defined(votes: int) -> None:
    """Accuracy 0 and 1, correlation 0 and 1, no gaps: no warnings (they are errors here), no NaN but the delay."""
    several = [Events(2, 1, f, c) for f in (0.5, 1) for c in (0, 1)]
    grid = np.array([0.0, 1.0])
    scores = event_scores(several, grid[None, :, None, None], grid[:, None], np.array([0.1, 2.5, 3]), votes)
    assert scores.f1.shape == (4, 2, 2, 3)
    for each in scores[:4]:
        assert np.all(np.isfinite(each))
    assert np.array_equal(np.isnan(scores.delay), scores.precision == 0)
    perfect = event_scores(several, 1, 0, 3, votes)
    assert np.all(perfect.f1 == 1)
    assert np.all(perfect.false_alarms == 0)
    nothing = event_scores(several, 0, 0, 3, votes)
    assert np.all(np.stack(nothing[:4]) == 0)
    endless = event_scores(several, 0.5, 1, 3, votes)
    assert np.all(endless.precision[2:] == 1)  # no gap, no false event
    assert np.all(endless.precision[:2] < 1)


def test_dependent_looks_are_worth_one() -> None:
    alike = Events(10, 10, 0.5, 1)
    assert event_scores(alike, 0.7, 0.1, [0.1, 1, 25]).recall == pytest.approx(0.7)
    assert event_scores(alike, 0.7, 0.1, 3, votes=4).recall == pytest.approx(0.7)


def test_long_gaps_are_solved() -> None:
    """A week between events of a second: its 6e6 looks at .001 are sure to be wrong once."""
    rare = Events(1, 1, 1 / (7 * 86_400), 0.2)
    for votes in (1, 3):
        scores = event_scores(rare, 0.9, 0.001 if votes == 1 else 0.01, 10, votes)
        assert scores.false_alarms * 24 * 7 == pytest.approx(1)
    assert event_scores(Events(1, 1, 1e-300, 0), 0.9, 0.1, 1).precision == pytest.approx(0.9 / 1.9)


def test_applications_are_solved_at_once() -> None:
    several = [SECOND, TRACKS, Events(3, 2, 0.9, 0.7)]
    tpr, fps = np.array([[0.5, 0.6], [0.7, 0.8], [0.9, 1]]), np.array([0.5, 7.5])
    together = event_scores(several, tpr[..., None], 0.05, fps, votes=2)
    for i, one in enumerate(several):
        alone = event_scores(one, tpr[i][:, None], 0.05, fps, votes=2)
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-9)


@given(events, unit, unit, unit, rates, votes)
def test_better_frames_make_better_scores(
    one: Events, low: float, high: float, fpr: float, fps: float, votes: int
) -> None:
    low, high = sorted((low, high))
    worse, better = event_scores(one, low, fpr, fps, votes), event_scores(one, high, fpr, fps, votes)
    assert better.recall >= worse.recall - 1e-9
    assert better.precision >= worse.precision - 1e-9
    assert better.false_alarms == pytest.approx(worse.false_alarms)
    careful, careless = event_scores(one, high, low, fps, votes), event_scores(one, high, high, fps, votes)
    assert careful.precision >= careless.precision - 1e-9
    assert careful.false_alarms <= careless.false_alarms + 1e-6


@given(events, unit, unit, rates, rates, votes)
def test_more_looks_find_more_and_alarm_more(
    one: Events, tpr: float, fpr: float, slow: float, fast: float, votes: int
) -> None:
    slow, fast = sorted((slow, fast))
    rare, often = (event_scores(one, tpr, fpr, fps, votes) for fps in (slow, fast))
    assert often.recall >= rare.recall - 1e-9
    assert often.false_alarms >= rare.false_alarms - 1e-6


@given(events, unit, unit, rates, votes)
def test_more_votes_find_less_later(one: Events, tpr: float, fpr: float, fps: float, votes: int) -> None:
    few, many = event_scores(one, tpr, fpr, fps, votes), event_scores(one, tpr, fpr, fps, votes + 1)
    assert many.recall <= few.recall + 1e-9
    assert many.false_alarms <= few.false_alarms + 1e-6
    for scores in (few, many):
        assert all(0 <= each <= 1 + 1e-12 for each in scores[:3])
        assert np.isnan(scores.delay) or 0 <= scores.delay <= one.average * (1 + 1e-9)


@given(events, unit, unit, rates)
def test_one_vote_has_the_closed_form(one: Events, tpr: float, fpr: float, fps: float) -> None:
    """The recursion, which asking for two numbers of votes takes, gives the same for X = 1."""
    closed, solved = event_scores(one, tpr, fpr, fps), event_scores(one, tpr, fpr, fps, [1, 2])
    np.testing.assert_allclose(solved.recall[0], closed.recall, atol=1e-9)
    np.testing.assert_allclose(solved.false_alarms[0], closed.false_alarms, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"average": 0}, "average event length is 0 s; expected"),
        ({"average": np.inf}, "average event length is inf s"),
        ({"minimum": 3}, "minimum event length is 3 s; expected more than 0 s and at most the average, 2 s"),
        ({"minimum": np.nan}, "minimum event length is nan s"),
        ({"frequency": 0}, "event frequency is 0; expected the share of time inside events"),
        ({"frequency": 1.01}, "event frequency is 1.01"),
        ({"correlation": -0.1}, "correlation of misses is -0.1; expected 0 to 1"),
    ],
)
def test_events_that_cannot_be_are_refused(changed: dict[str, float], said: str) -> None:
    with pytest.raises(EventsError, match=said):
        Events(**{"average": 2, "minimum": 1, "frequency": 0.5, "correlation": 0.5, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tpr": [0.5, 1.5]}, "true positive rate is 1.5; expected 0 to 1"),
        ({"fpr": np.nan}, "false positive rate is nan; expected 0 to 1"),
        ({"fps": 0}, "frame rate is 0.0; expected looks a second, above 0"),
        ({"votes": 1.5}, "votes is 1.5; expected a whole number of hits, 1 to 100"),
        ({"votes": 0}, "votes is 0.0; expected"),
        ({"votes": [2, 1e9]}, "votes is 1000000000.0; expected a whole number of hits, 1 to 100"),
        ({"tpr": [0.5, 0.6], "fpr": [0.1, 0.2, 0.3]}, r"shapes .* are \(2,\), \(3,\), .*; expected to broadcast"),
        ({"frames": "whole"}, "frames is 'whole'; expected one of mixed, real"),
        ({"precision": "twice"}, "precision is 'twice'; expected one of once, frequency, windows"),
    ],
)
def test_arguments_out_of_range_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(EventsError, match=said):
        event_scores(SECOND, **{"tpr": 0.5, "fpr": 0.1, "fps": 1, **changed})  # type: ignore[arg-type]
