"""The door through which flows run their tasks.

What: a `Runner` runs one task, or several of a kind at once, and gives back what they return. A flow's body is written
once (`tamis.flows.work`) and handed a runner. `Direct`, here, runs tasks in this process; the other one, on a Prefect
server, stands in `tamis.flows.flows`.
Direct: one task at a time in the caller's thread, or `workers` at once on threads. A task is tried again as on a
server. The first error ends the flow; tasks that have not begun are left out.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Protocol

from tamis.flows.tasks import PAUSE, RETRIES, P, R, Task, worth_retrying


class Runner(Protocol):
    """Runs tasks."""

    @property
    def width(self) -> int:
        """Tasks at once."""
        ...

    @property
    def apart(self) -> bool:
        """Whether tasks at once have a process each."""
        ...

    def call(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a task; what it raises at the last try comes out as it is."""
        ...

    def each(self, task: Task[..., R], calls: Sequence[Mapping[str, Any]], /) -> list[R]:
        """Run a task once for each of the given arguments; the answers in their order."""
        ...


class Direct:
    """Runs tasks in this process.

    Args:
        workers: tasks at once.
        pause: seconds before a task is tried again.
    """

    def __init__(self, workers: int = 1, *, pause: float = PAUSE) -> None:
        self._workers, self._pause = workers, pause

    @property
    def width(self) -> int:
        return self._workers

    @property
    def apart(self) -> bool:
        return False

    def call(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(RETRIES if task.retried else 0):
            try:
                return task.body(*args, **kwargs)
            except Exception as error:
                if not worth_retrying(error):
                    raise
            time.sleep(self._pause)
        return task.body(*args, **kwargs)

    def each(self, task: Task[..., R], calls: Sequence[Mapping[str, Any]], /) -> list[R]:
        if self._workers == 1 or len(calls) < 2:
            return [self.call(task, **arguments) for arguments in calls]
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="tamis-task")
        try:
            futures = [pool.submit(self.call, task, **arguments) for arguments in calls]
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [f for f in futures if f.done() and f.exception() is not None]
            return [future.result() for future in failed or futures]
        finally:
            # A Ctrl-C waits for nobody: tamis.flows.interrupts ends what still runs.
            pool.shutdown(wait=False, cancel_futures=True)
