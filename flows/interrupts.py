"""Ctrl-C ends a command at once, whatever it is at.

What: `ending_in_time()` around a command. A Ctrl-C raises KeyboardInterrupt as ever; what is not through with cleaning
up after a second is ended as by a kill. That is as safe as a kill at any other moment: what is in the store is whole.
How: the signal is heard by a thread, through Python's wake-up descriptor, also while the main thread is in a library's
code that does not come back (a query, a write, the hash of a large file) or waits for threads that are.
Ends: with all children, and no work of an exit is waited for.
"""

import contextlib
import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Generator
from io import FileIO
from pathlib import Path

GRACE = 1.0  # s from the signal to the end
_grace = GRACE
CODE = 128 + signal.SIGINT


@contextlib.contextmanager
def ending_in_time(say: Callable[[], None]) -> Generator[None]:
    """Within: a Ctrl-C ends the process in time.

    Args:
        say: tells the user, where the process must be ended: what the end of the block could not do any more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are heard by the main thread alone
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, say), name="tamis-interrupts", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


@contextlib.contextmanager
def unhurried(seconds: float) -> Generator[None]:
    """Within: what cleans up after a Ctrl-C has more time; a second one ends the process at once."""
    global _grace
    _grace = seconds
    try:
        yield
    finally:
        _grace = GRACE


def _watch(reading: int, say: Callable[[], None]) -> None:
    with open(reading, "rb", buffering=0) as signals:
        if not _hears(signals, None):
            return  # the block has ended
        end = time.monotonic() + _grace
        if not _hears(signals, _grace):  # the block may have ended, and the exit hang
            threading.Event().wait(max(0.0, end - time.monotonic()))
    say()
    end_now()


def _hears(signals: FileIO, seconds: float | None) -> bool:
    """Whether a Ctrl-C comes in time, and before the block has ended."""
    end = None if seconds is None else time.monotonic() + seconds
    while select.select([signals], [], [], None if end is None else max(0.0, end - time.monotonic()))[0]:
        heard = signals.read(64)
        if not heard or signal.SIGINT in heard:
            return bool(heard)
    return False


def end_now() -> None:
    """End this process and its children, without the work that Python, Prefect and torch do at an exit."""
    for worker in multiprocessing.active_children():  # of the fork server, and deaf to what ends others
        worker.kill()
    for child in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)  # multiprocessing's tracker ignores it, and cleans up after the others
    os._exit(CODE)


def _children() -> list[int]:
    """The processes that this one has started, where the system lists them in files."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone by now
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.append(int(status.parent.name))
    return found
