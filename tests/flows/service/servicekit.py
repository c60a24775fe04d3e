"""A service in a process of its own, and what is left of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from terminal import HEARING

# A method of one's own that waits while the file `hold` is there, so that a run is caught at its work.
HOLDING = """
import time
from pathlib import Path

def select(inputs, *, k, generator):
    end = time.monotonic() + 120
    Path("begun").touch()
    while Path("hold").exists() and time.monotonic() < end:
        time.sleep(0.05)
    from tamis.curation.contract import Choice
    import numpy as np
    return Choice(np.arange(k), np.ones(k, dtype=np.float32))
"""


@contextmanager
def service(folder: Path, *options: str, server: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """`tamis serve` in a folder with a tamis.toml, its state in that folder too; its log is service.log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(folder / "state")}
    environment["PREFECT_RUNNER_POLL_FREQUENCY"] = "2"
    environment.pop("PREFECT_API_URL", None)
    environment.pop("PREFECT_LOGGING_LEVEL", None)  # that of these tests
    if server is not None:
        environment["PREFECT_API_URL"] = server
    command = [*HEARING, sys.executable, "-m", "tamis.flows.cli", "serve", *options]
    with (
        (folder / "service.log").open("a") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, text=True, env=environment, cwd=folder, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def said(folder: Path) -> str:
    return (folder / "service.log").read_text()


def until(process: subprocess.Popen[str] | None, folder: Path, reached: Callable[[], Any], seconds: float = 180) -> Any:
    """What `reached` gives, once it gives something. Fails where the service ends, or after some time."""
    deadline = time.monotonic() + seconds
    while not (answer := reached()):
        assert process is None or process.poll() is None, said(folder)
        assert time.monotonic() < deadline, f"not in {seconds} s:\n{said(folder)}"
        time.sleep(0.1)
    return answer


def below(process: int) -> set[int]:
    """The processes that a process has started, and those that these have."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = set[int](), {process}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def lives(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def ends(process: subprocess.Popen[str], how: signal.Signals, seconds: float = 30) -> int:
    """The exit code of a service that a signal ends."""
    process.send_signal(how)
    return process.wait(seconds)
