"""Schedules exchanged while they run.

What: `Reloader` watches a plan's file. When its content changes, or when it is told to, the new schedule is loaded
beside the one that runs, in a thread; the run takes it between two frames. A plan that cannot be read or loaded is
refused, and told once.
Cost: the file is read once a second at most; loading takes time from what runs, and no frame from it.
"""

import hashlib
import threading
from pathlib import Path
from time import monotonic

from tamis.store.errors import TamisError
from tamis.training.mainstream.runner.deploying import Deployer, Schedule
from tamis.training.mainstream.scheduling.plan import read_plan

_EVERY = 1.0  # s


class Reloader:
    """Watches a plan.

    Args:
        path: the plan's file.
        deployer: loads plans.
        every: seconds from one look at the file to the next.

    Attributes:
        refused: how many plans were.
    """

    def __init__(self, path: Path, deployer: Deployer, *, every: float = _EVERY) -> None:
        self._path, self._deployer, self._every = path, deployer, every
        self._seen, self._looked = _digest(path), monotonic()
        self._thread: threading.Thread | None = None
        self._made: Schedule | str | None = None
        self._asked = False
        self.refused = 0

    def ask(self) -> None:
        """Load the plan whether it has changed or not."""
        self._asked = True

    def poll(self) -> Schedule | str | None:
        """A new schedule, or why there is none, once; None where nothing has changed."""
        if self._thread is not None:
            return None if self._thread.is_alive() else self._taken()
        if not self._asked and monotonic() - self._looked < self._every:
            return None
        asked, self._asked, self._looked = self._asked, False, monotonic()
        digest = _digest(self._path)
        if not asked and digest in (None, self._seen):
            return None
        self._seen = digest
        self._thread = threading.Thread(target=self._load, name="tamis-plan", daemon=True)
        self._thread.start()
        return None

    def _taken(self) -> Schedule | str | None:
        made, self._made, self._thread = self._made, None, None
        self.refused += isinstance(made, str)
        return made

    def _load(self) -> None:
        try:
            self._made = self._deployer.deploy(read_plan(self._path))
        except (TamisError, OSError, RuntimeError) as error:  # what a store, a file or torch refuse
            self._made = " ".join(str(error).split())


def _digest(path: Path) -> str | None:
    """Of the file; None while there is none, as where an editor is about to write it."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
