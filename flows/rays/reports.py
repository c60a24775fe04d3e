"""How far tasks on a cluster are, for the bars of the process that waits for them.

What: a worker sends what it has done to an actor, at the most once a second and without waiting; the driver asks the
actor each second (`gathered`), and shows one bar for all tasks of a kind.
How: counts are absolute and kept by task, so a task that runs again does not count twice. Nothing rests on a report:
where the actor is gone, work goes on.
Cost: a process on the cluster while bars are shown; none where they are not.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import ray
from ray.exceptions import RayError

from tamis.flows.progress import Advance, gauge, shown

EVERY = 1.0  # s
_NAME = "progress"  # in the driver's own namespace

Counts = dict[str, tuple[float, float]]  # of each kind: done, in all


class Tally:
    """What the tasks of one driver have told; an actor."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[float, float]] = {}

    def tell(self, task: str, what: str, done: float, total: float) -> None:
        """A task has done so much of what it was asked for."""
        self._told[task, what] = done, total

    def counts(self) -> Counts:
        """All tasks together."""
        found: Counts = {}
        for (_, what), (done, total) in self._told.items():
            before = found.get(what, (0.0, 0.0))
            found[what] = before[0] + done, before[1] + total
        return found


def sender(task: str) -> Callable[[str, float], Advance]:
    """What `tamis.flows.progress` tells a worker's counts to, in place of a terminal.

    Args:
        task: tells tasks apart, and is the same where one runs again.
    """
    try:
        tally = ray.get_actor(_NAME)
    except (ValueError, RayError):  # nobody looks
        return lambda _what, _total: lambda _step: None

    def track(what: str, total: float) -> Advance:
        done, told = 0.0, -EVERY

        def advance(step: float) -> None:
            nonlocal done, told
            done += step
            if done >= total or time.monotonic() - told >= EVERY:
                told = time.monotonic()
                tally.tell.remote(task, what, done, total)

        tally.tell.remote(task, what, done, total)
        return advance

    return track


@contextlib.contextmanager
def gathered() -> Generator[None]:
    """Within: bars show what tasks on the cluster tell, if bars are shown at all."""
    if not shown():
        yield
        return
    tally: Any = ray.remote(num_cpus=0)(Tally).options(name=_NAME).remote()
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(tally, ended), name="tamis-progress", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join(2 * EVERY)


def _watch(tally: Any, ended: threading.Event) -> None:
    bars: dict[str, Callable[[float, float], None]] = {}
    over = False
    while not over:
        over = ended.wait(EVERY)
        with contextlib.suppress(RayError, TimeoutError):
            show(ray.get(tally.counts.remote(), timeout=EVERY), bars)


def show(counts: Counts, bars: dict[str, Callable[[float, float], None]]) -> None:
    """Move the bars, and make those that are not there yet."""
    for what, told in counts.items():
        if what not in bars:
            bars[what] = gauge(what)
        bars[what](*told)
