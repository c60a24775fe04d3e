"""The thread that reads: decodes frames, passes over those that nobody wants, fits the others, and hands them over.

How: which frames are wanted is told by the same rule that decides who looks (`tamis.training.mainstream.runner.rates`),
as if none were dropped. `Reading.wanted` is exchanged as a whole when the schedule changes. With pace "real" frames of
a file come at the times that they have; otherwise as they are asked for.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from tamis.training.errors import DecodeError
from tamis.training.mainstream.runner.pictures import Fit, Frame
from tamis.training.mainstream.runner.queue import FrameQueue
from tamis.training.mainstream.runner.rates import Rates
from tamis.training.mainstream.runner.sources import Source

_MOST_SAID = 100  # damages that are told apart
_NAP = 0.2  # s


@dataclass
class Wanted:
    """What a schedule wants of frames.

    Attributes:
        rates: who looks when; the reader's own.
        fits: how each application's base takes images.
    """

    rates: Rates
    fits: Mapping[str, Fit]


class Reading:
    """The thread; it runs once started, and ends with the source or the queue.

    Args:
        source: of frames.
        queue: to hand them to.
        wanted: by the schedule.
        real: whether a file is played at its own pace.

    Attributes:
        wanted: may be exchanged at any time.
        read: frames so far.
        reached: seconds of the source's clock so far.
    """

    def __init__(self, source: Source, queue: FrameQueue[Frame], wanted: Wanted, *, real: bool) -> None:
        self._source, self._queue, self._real = source, queue, real and not source.live
        self.wanted, self.read, self.reached = wanted, 0, 0.0
        self._damaged = 0
        self._began: float | None = None
        self._thread = threading.Thread(target=self._run, name="tamis-frames", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, patience: float) -> None:
        """Take no more frames. A thread that waits for a silent source is left behind."""
        self._queue.close()
        self._thread.join(patience)

    def _run(self) -> None:
        try:
            for frame in self._source.frames():
                if not self._handed_over(frame):
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is to be raised by the thread that computes
            self._queue.end(error)
        else:
            self._queue.end()

    def _handed_over(self, frame: Frame) -> bool:
        """Whether there is anybody to read on for."""
        self.read, self.reached = self.read + 1, float(frame.seconds)
        if not self._queue.sign() or (self._real and not self._waited(float(frame.seconds))):
            return False
        wanted = self.wanted
        due = wanted.rates.due(frame.seconds)
        if not due:
            return True
        try:
            for fit in {wanted.fits[name] for name in due}:
                frame.fitted(fit)
        except DecodeError as error:
            self._damage(frame, error)
            return True
        return self._queue.put(frame)

    def _waited(self, seconds: float) -> bool:
        """Until it is time for a frame; False where nobody takes it any more."""
        self._began = perf_counter() if self._began is None else self._began
        while (left := self._began + seconds - perf_counter()) > 0:
            threading.Event().wait(min(left, _NAP))
            if not self._queue.sign():
                return False
        return True

    def _damage(self, frame: Frame, error: DecodeError) -> None:
        self._damaged += 1
        if self._damaged <= _MOST_SAID:
            self._source.told.damage.append(f"at {float(frame.seconds):.3f} s: {error}")
