"""Pursuits in processes of their own: many problems at a time on a CPU.

What: `Pursuers` starts processes that solve problems as `tamis.curation.omp.solver.pursue` does; `pursue` on it gives
them problems, and their answers in order.
When: Grad-Match by class on several cores. A pursuit is thousands of small products: threads of one process would wait
for the interpreter, and threads of BLAS for each other.
How: a process is a new interpreter that loads NumPy and this package only, never the program's main module, and it
computes on one core. Problems and answers go through its pipes as JSON and plain numbers: nothing is unpickled. A
problem that a process does not answer (it raised, was killed, or could not be started) is solved here, so that its
error is raised where it was asked for, and its answer is not lost.
Ends: a process is killed by `close`, and ends when its input does, that is with this process, however that ended, once
it has solved what it is at. Ctrl-C is left to this process.
Cost: a quarter of a second to start, beside whatever this process does then; 4 N D bytes in this process and in that
one for each problem under way, and a copy of them through a pipe: 5 ms for 10 MB.
Legend: N rows, D numbers a row.
"""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError
from tamis.curation.omp.problem import Problem, Pursued
from tamis.curation.omp.solver import pursue

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_COMMAND = ("-P", "-c", "from tamis.curation.omp.processes import serve; serve()")


class Pursuers:
    """Processes that solve pursuits; a context manager.

    Args:
        count: of processes, at least 1.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"count is {count}: expected at least 1 process.")
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="tamis-pursuers")  # each waits for one process
        self._processes = [_start() for _ in range(count)]
        self._closed = False
        self._idle = SimpleQueue[subprocess.Popen[bytes] | None]()
        for process in self._processes:
            self._idle.put(process)

    def pursue(
        self,
        problems: Iterable[Problem],
        *,
        lam: float = 0.5,
        tolerance: float = 0.0,
        spare: float = 0.0,
        memory: int | None = None,
    ) -> Iterator[Pursued]:
        """Solve problems, as many at a time as there are processes.

        Args:
            problems: taken one by one, never more than one beyond as many as there are processes.
            lam, tolerance, spare, memory: as for `tamis.curation.omp.solver.pursue`; `memory` is for each problem.

        Returns:
            An answer for each problem, in their order: the one that `pursue` gives where BLAS has one thread.

        Raises:
            CurationError: what `pursue` raises.
            concurrent.futures.CancelledError: the processes were closed.
        """
        keywords = {"lam": lam, "tolerance": tolerance, "spare": spare, "memory": memory}
        waiting = deque[Future[Pursued]]()
        try:
            for problem in problems:
                waiting.append(self._submit(problem, keywords))
                if len(waiting) > len(self._processes):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()

    def close(self) -> None:
        """End the processes, also those that are at work: what they were asked is cancelled.

        A pursuit that is being solved here, in the place of a process that was killed, is waited for.
        """
        self._closed = True
        for process in self._processes:
            if process is not None:
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            if process is not None:
                process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _submit(self, problem: Problem, keywords: dict[str, Any]) -> Future[Pursued]:
        try:
            return self._pool.submit(self._solve, problem, keywords)
        except RuntimeError as error:
            if not self._closed:
                raise
            raise CancelledError("the pursuers were closed") from error

    def _solve(self, problem: Problem, keywords: dict[str, Any]) -> Pursued:
        process = self._idle.get()
        found: Pursued | None = None
        try:
            found = None if process is None else _ask(process, problem, keywords)
        finally:
            self._idle.put(process)
        if self._closed:
            raise CancelledError("the pursuers were closed")
        return found or pursue(problem.rows_ND, problem.target_D, k=problem.k, **keywords)


def serve() -> None:
    """What a process does: solve what comes in until nothing does."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while head := source.readline():
        asked = json.loads(head)
        n, d = asked.pop("shape")
        rows, target = _read(source, n * d, np.float32).reshape(n, d), _read(source, d, np.float64)
        try:
            found = pursue(rows, target, **asked)
        except CurationError:  # is raised where the problem was asked for, by solving it there
            _write(sink, {"solved": False})
            continue
        told = {"solved": True, "rows": len(found.rows), "picks": len(found.objectives)}
        told |= {"objective": found.objective, "stopped": found.stopped}
        _write(sink, told, found.rows, found.weights, found.objectives)


def _start() -> "subprocess.Popen[bytes] | None":
    try:
        return subprocess.Popen(
            [sys.executable, *_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,
        )
    except OSError:
        return None


def _ask(process: "subprocess.Popen[bytes]", problem: Problem, keywords: dict[str, Any]) -> Pursued | None:
    """A process's answer; None where it has none."""
    if process.poll() is not None:
        return None
    assert process.stdin is not None
    assert process.stdout is not None
    rows, target = np.asarray(problem.rows_ND), np.asarray(problem.target_D)
    if rows.ndim != 2 or target.shape != rows.shape[1:] or rows.dtype.kind != "f" or target.dtype.kind not in "fiu":
        return None  # what is wrong is said by who solves it
    with np.errstate(over="ignore"):
        rows, target = np.ascontiguousarray(rows, np.float32), np.ascontiguousarray(target, np.float64)
    try:
        asked = {"shape": rows.shape, "k": problem.k, **keywords}
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in asked.items()}
        _write(process.stdin, plain, rows, target)
        head = json.loads(process.stdout.readline() or b'{"solved": false}')
        if not head["solved"]:
            return None
        numbers = _read(process.stdout, head["rows"], np.int64), _read(process.stdout, head["rows"], np.float64)
        return Pursued(*numbers, head["objective"], _read(process.stdout, head["picks"], np.float64), head["stopped"])
    except (OSError, EOFError, ValueError):  # it was killed
        process.kill()
        return None


def _write(sink: IO[bytes], head: dict[str, Any], *numbers: NDArray[Any]) -> None:
    sink.write(json.dumps(head).encode() + b"\n")
    for each in numbers:
        sink.write(each.data.cast("B") if each.size else b"")
    sink.flush()


def _read(source: IO[bytes], count: int, kind: type[Any]) -> NDArray[Any]:
    out = np.empty(count, kind)
    filled, view = 0, out.data.cast("B") if count else memoryview(b"")
    while filled < len(view):
        got = source.readinto(view[filled:])  # type: ignore[attr-defined]  # both ends are buffered binary files
        if not got:
            raise EOFError("the other end has closed the pipe")
        filled += got
    return out
