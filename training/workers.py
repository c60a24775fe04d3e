"""Worker processes for a stream: started, listened to, and gone when the iteration is.

What: `in_workers` reads and decodes in processes and gives their batches in order; `worker_context` is how they are
started, also for a DataLoader of one's own (`multiprocessing_context=worker_context()`).
How: torch's DataLoader, whose workers are started by a fork server: they are forks of a clean process, never of one in
which threads of other libraries hold locks (Prefect's, an object store's), which a plain fork would copy locked. The
server loads torch and this package once, for all workers to come.
Ends: a worker leaves Ctrl-C to the main process, and is gone when that is, however it ended: torch's own watch looks at
the parent, which is the fork server and not the main process.
Cost: 2 to 4 s for the first workers of a process, while the server loads torch, a tenth of a second for later ones;
about 4 µs a raw sample for the way between processes.
"""

import os
import signal
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import FrameType
from typing import Any, TypeVar

from torch.utils.data import DataLoader, IterableDataset

from tamis.store.errors import TamisError
from tamis.training.errors import WorkerDied

T = TypeVar("T")

_LOADED = ["__main__", "tamis.training.stream"]  # by the fork server; the first is what Python would load by itself


@cache
def worker_context() -> ForkServerContext:
    """A fork server for workers, running, with what they need loaded.

    It is the one of this process: other processes that are started by it are deaf to Ctrl-C too, and what was to be
    loaded by `set_forkserver_preload` is not, unless the server was running already.
    """
    made = get_context("forkserver")
    made.set_forkserver_preload(_LOADED)
    resource_tracker.ensure_running()  # or the server would start it, and that ends with Ctrl-C let through
    # A Ctrl-C meets the server, and workers that are being born, in the midst of imports: each would print a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    idle = made.Process()  # has begun and ended once the server has loaded all
    idle.start()
    idle.join()
    return made


class Environment:
    """This process's environment variables, which take effect where they are unpickled.

    The fork server has those of its start, and so have workers: credentials that were set later they would not know.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _adopt, (dict(os.environ),)


def _adopt(variables: dict[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)


@cache
def attend() -> None:
    """In a worker: leave Ctrl-C to the main process, and end when that has ended."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, name="tamis-parent", daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to hear of anything


def errors_too(items: Iterable[T]) -> Generator[T | TamisError]:
    """The items, and at their end what was raised: a DataLoader would make a worker's traceback its message."""
    try:
        yield from items
    except TamisError as error:
        yield error


def in_workers(dataset: IterableDataset[Any], workers: int) -> Generator[Any]:
    """What a dataset yields in each of some worker processes, in turn.

    Args:
        dataset: its iteration shares the work out by `get_worker_info`, and goes through `errors_too`.
        workers: processes.

    Raises:
        TamisError: that the dataset raised, as it was.
        WorkerDied: one was killed, by the user or for want of memory.
    """
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=worker_context())
    batches: Any = None
    try:
        with _uninterrupted():  # what a worker needs to begin would be gone before it has begun
            batches = iter(loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:  # the last two: its shared memory cannot be fetched
                if str(error).startswith("Caught ") or not (dead := _dead(batches._workers)):
                    raise
                raise WorkerDied(
                    f"A worker process of the stream died ({dead}): it was killed, or the machine ran out of memory. "
                    "Go on from the last state, with fewer workers if it was memory."
                ) from error
            if isinstance(batch, TamisError):
                raise batch
            yield batch
    finally:
        if batches is not None:
            batches._shutdown_workers()  # now, and not when the last traceback that holds the loader is gone


def _dead(workers: Iterable[ForkServerProcess]) -> str:
    """The workers that ended otherwise than they should, in words; some may be just about to."""
    for worker in workers:
        worker.join(timeout=1)
    return ", ".join(f"process {w.pid}, exit code {w.exitcode}" for w in workers if w.exitcode)


@contextmanager
def _uninterrupted() -> Generator[None]:
    """Ctrl-C is heard after the block."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *signal_and_frame: heard.append(signal_and_frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            before(*heard[0])
