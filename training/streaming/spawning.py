"""How worker processes are started: forks of a clean process, which need nothing of the program's main module.

What: `worker_context` is a multiprocessing context, for this package's workers and for a DataLoader of one's own
(`multiprocessing_context=worker_context()`).
How: a fork server loads torch and this package once; workers are forks of it, never of a process in which threads of
other libraries hold locks (Prefect's, an object store's), which a plain fork would copy locked. Python would have each
worker import the main module again, which runs a script that lacks `if __name__ == "__main__"` a second time, and fails
where the program came from stdin, `-c` or a notebook. Here that is done only for a process that is handed something
which is defined in the main module, such as a collate function.
Cost: 2 to 4 s for the first workers of a process, while the server loads torch, a tenth of a second for later ones.
"""

import io
import os
import signal
from functools import cache
from multiprocessing import connection, forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar

from tamis.training.errors import WorkerDied

PATIENCE = 600.0  # s without a sign of life after which a worker is given up

_LOADED = ["tamis.training.streaming.stream"]  # by the fork server
_MAIN = ("init_main_from_name", "init_main_from_path")


@cache
def worker_context() -> "WorkerContext":
    """A fork server for workers, running, with what they need loaded.

    It is the one of this process: other processes that are started by it are deaf to Ctrl-C too, and what was to be
    loaded by `set_forkserver_preload` is not, unless the server was running already.

    Raises:
        WorkerDied: the server could not be started.
    """
    made = WorkerContext()
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
    idle.join(PATIENCE)
    if idle.exitcode is None:
        idle.kill()
        raise _silent()
    return made


class _Popen(popen_forkserver.Popen):
    """As the standard library's, but for the main module, and with a limit on waiting."""

    def _launch(self, process_obj: Any) -> None:
        set_spawning_popen(self)
        try:
            data = _pickled(process_obj)
        finally:
            set_spawning_popen(None)
        self.sentinel, written = forkserver.connect_to_new_process(self._fds)  # type: ignore[attr-defined]  # stubs lack it
        # The worker takes the other end of this one for a sign that this process lives.
        kept = os.dup(written)
        self.finalizer = util.Finalize(self, util.close_fds, (kept, self.sentinel))  # type: ignore[attr-defined]  # stubs lack it
        with open(written, "wb", closefd=True) as file:
            file.write(data)
        if not connection.wait([self.sentinel], PATIENCE):
            raise _silent()
        self.pid = forkserver.read_signed(self.sentinel)


def _pickled(process_obj: Any) -> bytes:
    """What a process is told: how to prepare, and what to do."""
    what = io.BytesIO()
    pickler = _Pickler(what)
    pickler.dump(process_obj)
    prepared = spawn.get_preparation_data(process_obj.name)
    if pickler.of_main is None:
        prepared = {name: value for name, value in prepared.items() if name not in _MAIN}
    elif not _can_be_imported(prepared):
        raise WorkerDied(
            f"A worker process cannot be started: it needs {pickler.of_main}, which is defined in the program itself, "
            "and that is not a file which the worker could import (it came from stdin, -c or a notebook). Move it into "
            "a module."
        )
    how = io.BytesIO()
    reduction.dump(prepared, how)
    return how.getvalue() + what.getvalue()


class _Pickler(reduction.ForkingPickler):
    """Notices what is pickled as a name in the main module."""

    of_main: str | None = None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType) and obj.__module__ == "__main__":
            self.of_main = obj.__qualname__
        return NotImplemented


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 - the standard library's name
        return _Popen(process_obj)


class WorkerContext(ForkServerContext):
    """A context whose processes are started without the main module, unless they need it."""

    Process: ClassVar[Any] = _Process


def _can_be_imported(prepared: dict[str, Any]) -> bool:
    return "init_main_from_name" in prepared or Path(prepared.get("init_main_from_path", "")).is_file()


def _silent() -> WorkerDied:
    return WorkerDied(
        f"The server that starts worker processes gave no sign of life for {PATIENCE:.0f} s. Read without workers "
        "(workers=0), or look at what holds it up."
    )
