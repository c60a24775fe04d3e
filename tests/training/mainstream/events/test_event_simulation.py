"""Simulation against itself where everything is known, and the event model against simulation.

The full agreement, over 100,000 events, is `tests/benchmarks/bench_mainstream_events.py`.
"""

import numpy as np
import pytest

from tamis.training.errors import EventsError
from tamis.training.mainstream.events.model import Events, event_scores
from tamis.training.mainstream.events.simulation import Looks, judge, simulate, simulate_looks


def test_looks_fall_as_they_should() -> None:
    """Events of 1 s and gaps of 3 s at 2.5 looks a second: two looks or three, every .4 s, at the rates given."""
    looks = simulate_looks(np.full(4000, 1.0), np.full(4000, 3.0), (0.8, 0.1), 0.5, 2.5, np.random.default_rng(0))
    counts = np.bincount(looks.stretch_N)
    assert set(counts[::2]) == {2, 3}
    assert set(counts[1::2]) == {7, 8}
    assert counts[::2].mean() == pytest.approx(2.5, abs=0.03)
    step = np.diff(looks.time_N)
    np.testing.assert_allclose(step[np.diff(looks.stretch_N) == 0], 0.4, atol=1e-9)
    assert np.all(step > 0)
    assert np.array_equal(looks.labels, looks.time_N % 4 < 1)
    assert looks.hit_N[looks.labels].mean() == pytest.approx(0.8, abs=0.015)
    assert looks.hit_N[~looks.labels].mean() == pytest.approx(0.1, abs=0.015)


def test_misses_are_followed_by_misses() -> None:
    """P(miss | miss) = .2 + .5 .8 = .6 within an event."""
    looks = simulate_looks(np.full(20, 1000.0), np.zeros(20), (0.8, 0.1), 0.5, 1, np.random.default_rng(0))
    pairs = ~looks.hit_N[:-1] & (np.diff(looks.stretch_N) == 0)
    assert np.mean(~looks.hit_N[1:][pairs]) == pytest.approx(0.6, abs=0.03)


def test_reports_are_counted_by_hand() -> None:
    """Event, gap, event, gap. Two votes: found at its second look; a run over the border counts only `across`."""
    hits = np.array([1, 1, 1, 1, 0, 1, 1, 0, 1, 1], bool)
    stretches = np.array([0, 0, 1, 1, 1, 1, 2, 2, 3, 3])
    looks = Looks(np.arange(10.0), stretches, hits, np.array([0.0, 2, 6, 8]), 10.0)
    assert judge(looks, 1) == (2, 2, 2, 10.0, 0.0)
    assert judge(looks, 2) == (2, 1, 2, 10.0, 1.0)
    assert judge(looks, 2, across=True) == (2, 2, 2, 10.0, 1.0)
    assert judge(looks, 3) == (2, 0, 0, 10.0, 0.0)


GRID = [
    (Events(0.2, 0.2, 0.5, 0), 0.6, 0.2, 3, 1),
    (Events(1, 0.5, 0.1, 0.9), 0.9, 0.02, 5, 1),
    (Events(20 / 30, 20 / 30, 0.1, 0.3), 0.8, 0.05, 7.5, 1),
    (Events(1, 1, 1, 0.5), 0.5, 0.5, 2.7, 2),
    (Events(2, 1.3, 0.4, 1), 0.7, 0.1, 3.3, 2),
    (Events(3, 2, 0.3, 0.4), 0.7, 0.2, 4.1, 3),
]


@pytest.mark.parametrize(("events", "tpr", "fpr", "fps", "votes"), GRID)
def test_the_model_agrees(events: Events, tpr: float, fpr: float, fps: float, votes: int) -> None:
    """Within four standard errors of a share of 20,000, and of the counts it is made of."""
    generator = np.random.default_rng(1)
    seen = simulate(events, tpr, fpr, fps, votes, count=20_000, generator=generator)
    expected = event_scores(events, tpr, fpr, fps, votes)
    assert seen.recall == pytest.approx(expected.recall, abs=0.0142)
    assert seen.precision == pytest.approx(expected.precision, abs=0.0142)
    assert seen.f1 == pytest.approx(expected.f1, abs=0.0142)
    assert seen.false_alarms == pytest.approx(
        expected.false_alarms, abs=0.0142 * 3600 * events.frequency / events.average
    )
    assert seen.delay == pytest.approx(expected.delay, abs=0.03 * events.average)


def test_once_is_what_happens_and_frequency_over_a_gap_is_not() -> None:
    events = Events(20 / 30, 20 / 30, 0.1, 0.3)
    seen = simulate(events, 0.8, 0.05, 7.5, count=20_000, generator=np.random.default_rng(0))
    assert seen.precision == pytest.approx(0.553, abs=0.01)
    assert abs(seen.precision - event_scores(events, 0.8, 0.05, 7.5, precision="frequency").precision) > 0.4


def test_windows_are_what_happens_where_gaps_are_as_long() -> None:
    """f = .5: a gap is a window of event length, and both forms are one."""
    events = Events(2, 2, 0.5, 0.3)
    once, windows = (event_scores(events, 0.8, 0.05, 3, precision=each) for each in ("once", "windows"))
    assert windows.precision == pytest.approx(once.precision)


def test_blocks_change_nothing_but_the_draws() -> None:
    """A gap of a week fills a block by itself."""
    rare = Events(1, 1, 1 / (7 * 86_400), 0.2)
    seen = simulate(rare, 1, 0.001, 4, count=2, generator=np.random.default_rng(0))
    assert seen.precision == 0.5
    assert seen.false_alarms * 24 * 7 == pytest.approx(1)


def test_nothing_to_simulate_is_refused() -> None:
    with pytest.raises(EventsError, match="0 events to simulate; expected at least 1"):
        simulate(Events(1, 1, 1, 0), 1, 0, 1, count=0, generator=np.random.default_rng(0))
    with pytest.raises(EventsError, match=r"rate is 1.2; expected 0 to 1"):
        simulate(Events(1, 1, 1, 0), 1.2, 0, 1, count=1, generator=np.random.default_rng(0))
