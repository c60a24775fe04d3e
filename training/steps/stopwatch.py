"""What the parts of training take: forward passes, backward passes.

On a CPU a part's seconds are those of the clock. On a GPU work only has been asked for when a call returns: events are
put around it in the GPU's own queue, and are read when somebody asks, so that nothing waits.
"""

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

import torch

_WAITING = 1_024  # pairs of events that are unread at most


class Stopwatch:
    """Seconds by part.

    Args:
        device: where the parts are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_gpu, self._seconds = device.type == "cuda", dict[str, float]()
        self._events = deque[tuple[str, torch.cuda.Event, torch.cuda.Event]]()

    @contextmanager
    def of(self, part: str) -> Generator[None]:
        """Measure what is done inside."""
        if not self._is_gpu:
            started = perf_counter()
            yield
            self._add(part, perf_counter() - started)
            return
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        yield
        ended.record()
        self._events.append((part, began, ended))
        if len(self._events) > _WAITING:
            self._read()

    def seconds(self) -> dict[str, float]:
        """So far, by part; waits for a GPU."""
        while self._events:
            self._read()
        return dict(self._seconds)

    def _read(self) -> None:
        part, began, ended = self._events.popleft()
        ended.synchronize()
        self._add(part, began.elapsed_time(ended) / 1e3)

    def _add(self, part: str, seconds: float) -> None:
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds
