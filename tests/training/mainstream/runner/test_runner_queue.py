"""The queue: the oldest frame goes where a source cannot wait; a file waits; silence is told."""

import threading
import time

import pytest

from tamis.training.errors import RunnerError, SourceStalled
from tamis.training.mainstream.runner.queue import FrameQueue


def test_a_live_source_loses_its_oldest_frames_and_they_are_counted() -> None:
    queue = FrameQueue[int](3, drops=True)
    assert all(queue.put(i) for i in range(10))
    queue.end()
    taken = [queue.get(0, 1) for _ in range(3)]
    assert (taken, queue.dropped, queue.over, queue.get(0, 1)) == ([7, 8, 9], 7, True, None)


def test_a_file_waits_and_loses_nothing() -> None:
    queue, taken = FrameQueue[int](2, drops=False), list[int]()

    def read() -> None:
        for i in range(50):
            assert queue.put(i)
        queue.end()

    reader = threading.Thread(target=read)
    reader.start()
    while not queue.over:
        frame = queue.get(5, 60)
        if frame is not None:
            taken.append(frame)
    reader.join(10)
    assert (taken, queue.dropped) == (list(range(50)), 0)


def test_closing_releases_a_reader_that_waits() -> None:
    queue, said = FrameQueue[int](1, drops=False), list[bool]()
    reader = threading.Thread(target=lambda: said.extend([queue.put(0), queue.put(1)]))
    reader.start()
    queue.close()
    reader.join(10)
    assert not reader.is_alive()
    assert said[-1] is False
    assert not queue.sign()


def test_an_error_comes_after_the_frames_before_it() -> None:
    queue = FrameQueue[int](4, drops=False)
    queue.put(1)
    queue.end(RunnerError("gone"))
    assert queue.get(0, 1) == 1
    with pytest.raises(RunnerError, match="gone"):
        queue.get(0, 1)


def test_silence_is_told_and_signs_are_heard() -> None:
    queue = FrameQueue[int](1, drops=True)
    time.sleep(0.01)
    with pytest.raises(SourceStalled, match=r"gave no frame for .* \(--stall-timeout\)"):
        queue.get(0.001, 0.01)
    assert queue.sign()
    assert queue.get(0.001, 60) is None
