"""Events, rates and correlations from labels: cases worked by hand, and what a simulation was made of."""

import numpy as np
import pytest

from tamis.training.errors import EventsError
from tamis.training.mainstream.events.measuring import (
    Labelled,
    correlation_of,
    discordance,
    measure_events,
    measure_rates,
    smooth,
)
from tamis.training.mainstream.events.model import Events
from tamis.training.mainstream.events.simulation import simulate_looks


def _video(labels: str, fps: float = 10) -> Labelled:
    """One frame a character; x is an event."""
    flags = np.array([each == "x" for each in labels])
    return Labelled(np.arange(len(labels)) / fps, flags)


def _text(video: Labelled) -> str:
    return "".join("x" if each else "." for each in video.event_N)


def test_lengths_and_frequency_by_hand() -> None:
    told = measure_events([_video("..xxxx..xx"), _video("x...xx....")])
    # Whole: .4 and .2 s. Cut by an end: .2 and .1 s, which count half each. 9 of 20 frames.
    assert told.average == pytest.approx(0.9 / 3)
    assert told.minimum == pytest.approx(0.2)
    assert told.frequency == pytest.approx(9 / 20)
    assert told.found == 4
    assert told.seconds == pytest.approx(2)
    assert told.events(0.3) == Events(told.average, told.minimum, told.frequency, 0.3)


def test_cutting_a_video_changes_no_average() -> None:
    labels = "..xxxx...xxx...xxxxxx...."
    whole, parts = measure_events([_video(labels)]), measure_events([_video(labels[:17]), _video(labels[17:])])
    assert parts.average == pytest.approx(whole.average)
    assert parts.frequency == pytest.approx(whole.frequency)
    assert parts.found == whole.found + 1


def test_nothing_but_an_event() -> None:
    told = measure_events([_video("xxxxx")])
    assert told[:4] == (pytest.approx(0.5), pytest.approx(0.5), 1, 1)
    assert told.events(0).gap == 0


def test_a_frame_stands_for_the_time_to_the_next() -> None:
    """The third frame was dropped: the event lasts until the frame after that; the last frame for a median step."""
    video = Labelled(np.array([0, 1, 3, 4, 5.0]), np.array([False, True, False, False, False]))
    told = measure_events([video])
    assert told.average == pytest.approx(2)
    assert told.frequency == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("fill", "drop", "expected"),
    [
        (0, 0, "x..xx...xxx.x..."),
        (0.2, 0, "x..xx...xxxxx..."),
        (0.3, 0, "xxxxx...xxxxx..."),
        (0, 0.2, "...xx...xxx....."),
        (0.2, 0.3, "........xxxxx..."),
        (0.4, 0.5, "xxxxxxxxxxxxx..."),
        (0, 9, "................"),
    ],
)
def test_short_gaps_are_filled_then_short_events_dropped(fill: float, drop: float, expected: str) -> None:
    video = _video("x..xx...xxx.x...")
    assert _text(smooth(video, fill, drop)) == expected
    assert _text(video) == "x..xx...xxx.x..."


@pytest.mark.parametrize("labels", ["", "......", "xxxxxx"])
def test_nothing_to_smooth(labels: str) -> None:
    if labels:
        assert _text(smooth(_video(labels), 1, 0.5)) == labels
    else:
        with pytest.raises(EventsError, match="a video has 0 frames; expected at least 2"):
            _video(labels)


def test_rates_by_hand() -> None:
    labels = [[0, 1, 1, 1, 1, 0, 1, 1], [1, 1, 0, 0]]
    hits = [[1, 0, 0, 1, 0, 0, 1, 1], [0, 0, 1, 0]]
    told = measure_rates(labels, hits)
    assert told.tpr == pytest.approx(3 / 8)
    assert told.fpr == pytest.approx(2 / 4)
    assert told.accuracy == pytest.approx(5 / 12)
    # Misses with a neighbour after them in the same event: three, of which two are followed by a miss.
    assert told.miss_after_miss == pytest.approx(2 / 3)
    assert told.correlation == pytest.approx((2 / 3 - 5 / 8) / (3 / 8))
    assert measure_rates(labels, hits, apart=2).miss_after_miss == pytest.approx(1 / 2)
    assert np.isnan(measure_rates(labels, hits, apart=20).miss_after_miss)


def test_correlations_that_cannot_be_told_are_0() -> None:
    event = [[1, 1, 1, 1]]
    assert measure_rates(event, event)[:3] == (1, 0, 1)
    assert measure_rates(event, event).correlation == 0
    none = measure_rates(event, [[0, 0, 0, 0]])
    assert (none.tpr, none.miss_after_miss, none.correlation) == (0, 1, 0)
    assert measure_rates([[0, 1, 0, 1]], [[0, 0, 0, 1]]).correlation == 0  # events of one frame
    assert correlation_of(0.1, 0.4) == 0  # misses that shun one another
    assert correlation_of(1, 0.4) == 1


@pytest.mark.parametrize("c", [0.0, 0.17, 0.8])
def test_the_correlation_of_a_simulation_is_found_again(c: float) -> None:
    generator = np.random.default_rng(0)
    looks = simulate_looks(np.full(3000, 2.0), np.full(3000, 3.0), (0.7, 0.1), c, 5, generator)
    told = measure_rates([looks.labels], [looks.hit_N])
    assert told.correlation == pytest.approx(c, abs=0.025)
    assert told.tpr == pytest.approx(0.7, abs=0.02)
    assert told.fpr == pytest.approx(0.1, abs=0.01)


def test_discordance_is_the_share_of_frames_that_differ() -> None:
    assert discordance([1, 0, 1, 1], [1, 1, 1, 0]) == 0.5
    assert discordance([3, 2], [3, 2]) == 0
    with pytest.raises(EventsError, match=r"shapes \(2,\) and \(3,\)"):
        discordance([1, 0], [1, 0, 1])


def test_bad_labels_are_refused() -> None:
    with pytest.raises(EventsError, match=r"0 events in 10 frames of 2 videos \(1.0 s\); expected at least one frame"):
        measure_events([_video("....."), _video(".....")])
    with pytest.raises(EventsError, match="0 event frames among 3; expected at least one"):
        measure_rates([[0, 0, 0]], [[0, 1, 0]])
    with pytest.raises(EventsError, match=r"labels are of \[3\] frames, outputs of \[2\]; expected as many"):
        measure_rates([[0, 0, 1]], [[0, 1]])
    with pytest.raises(EventsError, match="one output is 2; expected true or false"):
        measure_rates([[0, 0, 1]], [[0, 1, 2]])
    with pytest.raises(EventsError, match="looks are 0 frames apart; expected at least 1"):
        measure_rates([[1]], [[1]], apart=0)
    with pytest.raises(EventsError, match="fill is -1; expected seconds, from 0"):
        smooth(_video("..x"), fill=-1)
    with pytest.raises(EventsError, match=r"shapes \(3,\) and \(2,\); expected one of each"):
        Labelled(np.arange(3.0), np.array([True, False]))
    with pytest.raises(EventsError, match=r"time goes from 1.0 to 1.0 s; expected increasing seconds"):
        Labelled(np.array([0, 1, 1, 2.0]), np.zeros(4, bool))
    with pytest.raises(EventsError, match=r"time goes from 1.0 to nan s"):
        Labelled(np.array([0, 1, np.nan]), np.zeros(3, bool))
