"""The bounded queue between the thread that reads frames and the thread that computes.

How: a live source never waits: where the queue is full, its oldest frame is dropped and counted, so that results are of
the newest. A file waits, and no frame is lost. The reader gives a sign with all it does, so a source that stalls is
told from one whose frames nobody wants.
"""

import threading
from collections import deque
from time import monotonic
from typing import Generic, TypeVar

from tamis.training.errors import SourceStalled

T = TypeVar("T")
_NAP = 1.0  # s after which who waits looks again, whatever signs there were


class FrameQueue(Generic[T]):
    """At most `size` frames.

    Args:
        size: frames that may wait.
        drops: whether the oldest is dropped where a reader would have to wait.

    Attributes:
        dropped: frames so far.
    """

    def __init__(self, size: int, *, drops: bool) -> None:
        self._size, self._drops = size, drops
        self._waiting = deque[T]()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._sign = monotonic()
        self.dropped = 0

    def put(self, frame: T) -> bool:
        """Hand a frame over; False where nobody takes any more."""
        with self._changed:
            while not self._drops and len(self._waiting) >= self._size and not self._closed:
                self._changed.wait(_NAP)
            if self._closed:
                return False
            if len(self._waiting) >= self._size:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(frame)
            self._sign = monotonic()
            self._changed.notify_all()
            return True

    def sign(self) -> bool:
        """Say that the source is alive; False where nobody takes frames any more."""
        self._sign = monotonic()
        return not self._closed

    def end(self, error: BaseException | None = None) -> None:
        """No more frames come; `error` is what ended the source, if it did not end by itself."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """No more frames are taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether the source has ended and every frame was taken."""
        with self._changed:
            return self._ended and not self._waiting

    def get(self, patience: float, stall: float) -> T | None:
        """The oldest frame; None where none came, or none will come (`over`).

        Args:
            patience: seconds to wait.
            stall: seconds that a source may give no sign.

        Raises:
            SourceStalled: it did.
            BaseException: what ended the source, once every frame before was taken.
        """
        with self._changed:
            if not self._waiting and not self._ended:
                self._changed.wait(patience)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            silent = monotonic() - self._sign
        if not self._ended and silent > stall:
            raise SourceStalled(
                f"The source gave no frame for {silent:.1f} s, {stall:g} s being allowed: check the camera and the "
                "connection, or allow more (--stall-timeout)."
            )
        return None
