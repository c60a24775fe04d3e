"""What is made of hits and misses on held-out samples and on a time line, by hand."""

import numpy as np
import pytest

from tamis.store.datasets.frames import Frames
from tamis.training.mainstream.trainer.evaluating import doubts, judge, pack_hits, unpack_hits
from tamis.training.mainstream.trainer.timeline import pieces_of


def test_rates_count_hits_among_events_and_among_the_others() -> None:
    labels = np.asarray([1, 1, 1, 1, 0, 0, 0, 0, 2, 2])
    predicted = np.asarray([1, 1, 1, 0, 1, 0, 0, 0, 2, 0])  # the last one: a third class taken for a second
    found = judge(predicted, labels, 1)
    assert (found.accuracy, found.tpr, found.fpr) == (0.7, 0.75, pytest.approx(1 / 6))
    assert (found.events, found.others, found.misses) == (4, 6, 1)
    assert found.correlation is None  # not of a video
    assert doubts(found) == []


def test_misses_are_counted_within_pieces_of_video_and_converted() -> None:
    """8 event frames, 4 misses (p = .5); 2 of the 3 that a frame of the piece follows are followed by one."""
    labels = np.asarray([1, 1, 1, 1, 0, 1, 1, 1, 1, 0])
    predicted = np.asarray([0, 0, 0, 1, 0, 1, 1, 1, 0, 0])
    found = judge(predicted, labels, 1, [np.arange(5), np.arange(5, 9)])
    assert found.miss_after_miss == pytest.approx(2 / 3)
    assert found.correlation == pytest.approx((2 / 3 - 1 / 2) / (1 - 1 / 2))


def test_an_accuracy_of_exactly_0_or_1_is_doubted_by_the_rule_of_three() -> None:
    labels = (np.arange(100) < 20).astype(np.int64)
    (said,) = doubts(judge(labels, labels, 1))
    assert "no error on 100 held-out samples" in said
    assert "3.0%" in said  # 3 / 100: the chance of none among 100 at that rate is e^-3, 5 %
    (said,) = doubts(judge(1 - labels, labels, 1))
    assert "no right answer on 100" in said


def test_pieces_end_where_frames_are_missing_and_where_the_camera_changes() -> None:
    camera = np.asarray([0] * 8 + [1] * 3 + [-1], np.int32)
    seconds = np.asarray([0, 1, 2, 5, 6, 3.2, 9, 2.4, 0, 1, 2, np.nan])
    frames = Frames(("a", "b"), ("a", "b"), camera, camera.copy(), seconds)
    assert [piece.tolist() for piece in pieces_of(frames)] == [[0, 1, 2, 7, 5], [3, 4], [8, 9, 10]]
    held = np.asarray([0, 1, 5, 8, 10])  # 10 s after 8 a frame is in another part: two steps of b
    assert [piece.tolist() for piece in pieces_of(frames, held)] == [[0, 1]]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_hits_come_back_as_they_were_packed(count: int) -> None:
    hits = np.random.default_rng(count).random(count) < 0.3
    assert (unpack_hits(pack_hits(hits), count) == hits).all()
