"""A Prefect server of the service's own, whose schedules outlive it.

What: `persistent_server(home, port)` starts it and keeps it going: one that dies is started again at the same address.
How: as the temporary one (`tamis.flows.server.process`), but with a home that stays, its schedulers and its page, and
leases of concurrency limits in files. A lock on the home, which the server inherits, keeps a second service out; the
file `service.json` in it says where the server is, for `tamis schedule`.
Ends: with this process, also when that is killed. SQLite loses nothing that was committed.
Cost: 6 s of CPU to start, 250 MB, some per cent of a core while nothing runs.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tamis.flows.errors import DeploymentTaken
from tamis.flows.server.process import LOCK, LOOPBACK, Server, launch, patience

STATE = "service.json"
_TRIES, _PAUSE = 20, 0.2  # at the lock; s
_OWN = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
}


class Persistent:
    """The server of a home that is locked for this process.

    Attributes:
        url: of its API; the same while the service runs.
        home: its folder.
    """

    def __init__(self, home: Path, lock: BinaryIO, port: int) -> None:
        self.home, self._lock, self._port = home, lock, port
        self._server = self._launch()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def process(self) -> int:
        """Its process id."""
        return self._server.process.pid

    def wait(self) -> None:
        """Return when it answers.

        Raises:
            ServerFailed: it does not start.
        """
        self._server.wait(patience())

    def renew(self) -> bool:
        """Start it again where it has ended; whether it had."""
        if self._server.process.poll() is None:
            return False
        self._server.stop()
        self._server = self._launch()
        return True

    def stop(self) -> None:
        """End it."""
        self._server.stop()

    def _launch(self) -> Server:
        with _listen(self._port) as listening:
            port = listening.getsockname()[1]
            page = {
                "PREFECT_UI_API_URL": f"http://{LOOPBACK}:{port}/api",
                "PREFECT_UI_URL": f"http://{LOOPBACK}:{port}",
            }
            self._port = port
            return launch(self.home, listening, self._lock, _OWN | page, lasting=True)


@contextmanager
def persistent_server(home: Path, port: int | None, said: dict[str, Any]) -> Generator[Persistent]:
    """Within: the home's server answers, and belongs to this process.

    Args:
        home: its folder, made where it is missing.
        port: on the loopback; None: that of the last time where it is free, else any.
        said: what `state(home)` tells others, beside address and process.

    Raises:
        DeploymentTaken: another service has the home, or the port.
        ServerFailed: it does not start.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / LOCK).open("ab") as lock:
        _hold(home, lock)
        made = Persistent(home, lock, _port(home) if port is None else port)
        try:
            made.wait()
            _tell(home, {"url": made.url, "process": os.getpid(), **said})
            yield made
        finally:
            made.stop()


def default_home() -> Path:
    """Where a service keeps its server, unless it says otherwise."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "tamis" / "service"


def state(home: Path) -> dict[str, Any] | None:
    """What the service that has the home tells others; None where none runs."""
    try:
        with (home / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _told(home)


def _hold(home: Path, lock: BinaryIO) -> None:
    for _ in range(_TRIES):  # the server of a service that was killed ends within two seconds
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE)
    else:
        other = _told(home) or {}
        who = f"process {other['process']}, {other.get('file', 'of Python')}" if "process" in other else "starting"
        raise DeploymentTaken(
            f"Another service ({who}) has the server in {home}. Add the deployments to its file, stop it, or give this "
            'one a server of its own: home = "FOLDER" under [server].'
        )


def _told(home: Path) -> dict[str, Any] | None:
    try:
        return json.loads((home / STATE).read_text())
    except (FileNotFoundError, ValueError):
        return None


def _tell(home: Path, said: dict[str, Any]) -> None:
    part = home / f"{STATE}.part"
    part.write_text(json.dumps(said))
    part.replace(home / STATE)


def _port(home: Path) -> int:
    """That of the last time, so that addresses of runs stay; 0, any, where it is taken."""
    url = (_told(home) or {}).get("url", "")
    port = url.removesuffix("/api").rpartition(":")[2]
    if not port.isdecimal():
        return 0
    try:
        _listen(int(port)).close()
    except DeploymentTaken:
        return 0
    return int(port)


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of connections that have just ended
        listening.bind((LOOPBACK, port))
    except OSError as error:
        listening.close()
        raise DeploymentTaken(
            f"Port {port} of the Prefect server is in use ({error.strerror}): give another port under [server], or "
            "none for one that is free."
        ) from error
    return listening
