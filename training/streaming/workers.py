"""Worker processes for a stream: listened to, and gone when the iteration is.

What: `in_workers` has several processes work and gives their results in turn; `tamis.training.streaming.spawning` says
how they are started.
How: each worker has a socket of its own to the main process, so there is no lock or queue that a worker that dies could
leave closed, and nothing lies in /dev/shm. Large batches travel as the descriptor of shared memory, all else through
the socket. A worker works `AHEAD` results ahead of the one that is asked for.
Ends: a worker that dies closes its socket, which is noticed at once; one that gives no sign of life is given up after
`PATIENCE`. A worker leaves Ctrl-C to the main process, and is gone when that is, however it ended.
Cost: about 4 µs a raw sample for the way between processes.
"""

import os
import pickle
import signal
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from multiprocessing import current_process, parent_process
from types import FrameType
from typing import Any, TypeVar

import torch

from tamis.store.errors import TamisError
from tamis.training.errors import WorkerDied
from tamis.training.streaming import spawning
from tamis.training.streaming.sharing import Block
from tamis.training.streaming.spawning import worker_context as worker_context

R = TypeVar("R")
T = TypeVar("T")
Packed = tuple[Any, Block | None]
Job = Callable[[], Iterable[Any]]

AHEAD = 2  # results of a worker that wait for the main process
_HEADER = struct.Struct("<QQ")  # bytes of the message, bytes of the block that comes with it
_TICK = 5.0  # s: waiting is counted in these, so that a job that was stopped and goes on has not waited
_LEAVING = 5.0  # s that a worker may take to end the batch it is at


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


def in_workers(
    jobs: Sequence[Job], pack: Callable[[Any], Packed], unpack: Callable[[Any, Block | None], T]
) -> Generator[T]:
    """What each of some jobs gives in a process of its own, in turn: the first result of each, the second, ...

    Args:
        jobs: picklable; all have the same number of results, or the first ones have one more.
        pack: makes of a result what is pickled, and a block of shared memory.
        unpack: makes the result of that.

    Raises:
        Exception: that a job raised, as it was, with a note of where.
        WorkerDied: a worker was killed, could not be started, or gave no sign of life.
    """
    workers: list[_Worker] = []
    try:
        with _uninterrupted():  # what a worker needs to begin would be gone before it has begun
            for job in jobs:
                workers.append(_Worker(job, pack))
        while True:
            for worker in workers:
                result = worker.receive()
                if result is None:
                    return
                yield unpack(*result)
    finally:
        for worker in workers:
            worker.leave()
        for worker in workers:
            worker.join()


class _Worker:
    """The main process's side of a worker."""

    def __init__(self, job: Job, pack: Callable[[Any], Packed]) -> None:
        if current_process().daemon:
            raise WorkerDied("A worker process cannot start workers: use workers=0 in a DataLoader's workers.")
        self._socket, other = socket.socketpair()
        self._socket.settimeout(_TICK)
        try:
            self._process = _started(other, job, pack)
        except (OSError, EOFError) as error:
            self._socket.close()
            raise WorkerDied(
                f"A worker process cannot be started: {error}. Use fewer workers, or none (workers=0)."
            ) from error
        except BaseException:
            self._socket.close()
            raise
        finally:
            other.close()  # the worker alone has it now, so that it closes when the worker ends

    def receive(self) -> tuple[Any, Block | None] | None:
        """The next result; None after the last one."""
        try:
            size, shared, descriptors = self._header()
            if shared and not descriptors:
                raise WorkerDied(
                    f"A batch of worker process {self._process.pid} cannot be received: this process has too many open "
                    "files. Raise the limit (ulimit -n), or close files."
                )
            block = Block.received(descriptors[0], shared) if descriptors else None
            kind, content = pickle.loads(self._exactly(size))  # noqa: S301 - of our own worker
        except (EOFError, ConnectionError) as error:
            raise self._died() from error
        if kind == "end":
            return None
        if kind == "error":
            raise content
        with suppress(OSError):  # it may have ended by now, with all that it had to say in the socket
            self._socket.send(b"+")
        return content, block

    def leave(self) -> None:
        """Tell the worker that no more is wanted."""
        self._socket.close()

    def join(self) -> None:
        """Wait until the worker has ended; one that is in the midst of something for long is killed."""
        self._process.join(_LEAVING)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(_LEAVING)
        if self._process.exitcode is not None:
            self._process.close()

    def _header(self) -> tuple[int, int, list[int]]:
        data, descriptors, _, _ = self._patiently(lambda: socket.recv_fds(self._socket, _HEADER.size, 1))
        if not data:
            raise EOFError
        size, shared = _HEADER.unpack(data + self._exactly(_HEADER.size - len(data)))
        return size, shared, descriptors

    def _exactly(self, size: int) -> bytearray:
        found = bytearray(size)
        view, filled = memoryview(found), 0
        while filled < size:
            count = self._patiently(lambda: self._socket.recv_into(view[filled:]))  # noqa: B023 - called at once
            if not count:
                raise EOFError
            filled += count
        return found

    def _patiently(self, read: Callable[[], R]) -> R:
        for _ in range(max(1, int(spawning.PATIENCE / _TICK))):
            with suppress(TimeoutError):
                return read()
        raise WorkerDied(
            f"Worker process {self._process.pid} of the stream gave no sign of life for {spawning.PATIENCE:.0f} s. "
            "Check what its shards are stored on, and resume from the last state."
        )

    def _died(self) -> WorkerDied:
        self._process.join(_LEAVING)
        code = self._process.exitcode
        by_itself = code is not None and 0 <= code < 255  # 255 is what the server's own end looks like
        why = (
            "it failed before it could say why here; its own message is above"
            if by_itself
            else "it was killed, or the machine ran out of memory"
        )
        return WorkerDied(
            f"A worker process of the stream died (process {self._process.pid}, exit code {code}): {why}. Resume from "
            "the last state, with fewer workers if it was memory."
        )


def _started(other: socket.socket, job: Job, pack: Callable[[Any], Packed]) -> Any:
    for again in (True, False):
        process = worker_context().Process(target=_serve, args=(other, job, pack), daemon=True)
        try:
            process.start()
        except (EOFError, ConnectionError):  # the server was killed just now: the next one asked for is another
            if not again:
                raise
        else:
            return process
    raise AssertionError("unreachable: the last try answers or raises")


def _serve(other: socket.socket, job: Job, pack: Callable[[Any], Packed]) -> None:
    """A worker: every result of the job, as long as somebody wants it."""
    attend()
    torch.set_num_threads(1)
    with other, suppress(ConnectionError), closing(_answers(job, pack)) as answers:
        asked = AHEAD
        for kind, content, block in answers:
            _send(other, (kind, content), block)
            asked -= 1
            if not asked:
                asked = len(other.recv(AHEAD))
            if not asked:
                return


def _answers(job: Job, pack: Callable[[Any], Packed]) -> Generator[tuple[str, Any, Block | None]]:
    try:
        for result in job():
            yield "result", *pack(result)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is to be raised in the main process
        yield "error", _portable(error), None
    else:
        yield "end", None, None


def _send(other: socket.socket, message: tuple[str, Any], block: Block | None) -> None:
    data = pickle.dumps(message, protocol=5)
    header = _HEADER.pack(len(data), 0 if block is None else len(block.tensor))
    socket.send_fds(other, [header], [] if block is None else [block.descriptor()])
    other.sendall(data)
    if block is not None:
        block.close()


def _portable(error: Exception) -> Exception:
    """An error that another process can raise: itself, and for one that is not tamis' own where it came from."""
    if not isinstance(error, TamisError):
        error.add_note(f"In a worker process of the stream:\n{''.join(traceback.format_exception(error)).rstrip()}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, ImportError):
        return WorkerDied(f"A worker process of the stream failed: {type(error).__name__}: {error}")
    return error


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
