"""A Prefect server as a process of ours: how it is started, asked whether it answers, and ended.

What: `launch(home, listening, lock)` starts `tamis.flows.server.serving` in a home of its own, away from everything of
the user's: none of the user's Prefect settings, a session of its own (a Ctrl-C at the terminal does not reach it), on a
socket that is bound already. `Server.wait` returns when it answers.
Ends: with this process, however that ended: it hears the end of its standard input, and looks whether its parent lives.
"""

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tamis.flows.errors import ServerFailed
from tamis.flows.server import first_database

LOCK, LOG = "lock", "server.log"
LOOPBACK = "127.0.0.1"
_NAMED = re.compile(r"\(?[A-Za-z_.0-9]+(Error|Exception)\)?:? ")  # as tracebacks end
_OWN = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT__SERVER_FINAL": "1",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: of it.
        home: its folder, with its database and log.
        port: of the loopback.
        given: its database was made by an earlier server.
        lasting: its folder stays when it ends.
    """

    process: "subprocess.Popen[bytes]"
    home: Path
    port: int
    given: bool
    lasting: bool = False

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://{LOOPBACK}:{self.port}/api"

    def stop(self) -> None:
        """End the server, as the end of this process would, and at once: SQLite loses nothing that was committed."""
        assert self.process.stdin is not None
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        if not self.lasting:
            shutil.rmtree(self.home, ignore_errors=True)

    def wait(self, seconds: float) -> None:
        """Return when the server answers.

        Raises:
            ServerFailed: it has ended, or the time is over.
        """
        end = time.monotonic() + seconds
        while not answers(self.port):
            code = self.process.poll()
            if code is not None or time.monotonic() > end:
                raise ServerFailed(self._why(code, seconds))
            time.sleep(0.1)

    def _why(self, code: int | None, seconds: float) -> str:
        kind, advice = "temporary", "Run the command again"
        if self.lasting:
            kind, advice = "service's", f"See {self.home / LOG}, run the command again"
        how = f"it did not answer in {seconds:g} s" if code is None else f"it ended with exit code {code}"
        return (
            f"The {kind} Prefect server did not start: {how}{_reason(self.home / LOG)}. {advice}, allow more time "
            "with PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or start your own server with `prefect server "
            "start` and set PREFECT_API_URL=http://127.0.0.1:4200/api."
        )


def launch(
    home: Path, listening: socket.socket, lock: BinaryIO, settings: Mapping[str, str], *, lasting: bool = False
) -> Server:
    """Start a server. The caller closes the socket and the lock, which the server inherits.

    Args:
        home: its folder; a database that is there is used, else a copy of the first one.
        listening: a bound socket.
        lock: an open file, locked.
        settings: of Prefect, beside those that every server of ours has.
        lasting: the folder stays when it ends.
    """
    database = home / first_database.NAME
    given = database.exists() or first_database.give(home)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | _OWN | dict(settings)
    environment |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
    }
    asked = [str(home), str(os.getpid()), str(listening.fileno()), "lasting" if lasting else "temporary"]
    with (home / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tamis.flows.server.serving", *asked],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=home,  # settings of Prefect lie in working folders, too
            env=environment,
            pass_fds=(listening.fileno(), lock.fileno()),
            start_new_session=True,
        )
    return Server(process, home, listening.getsockname()[1], given, lasting)


def patience() -> float:
    """Seconds that a server may take to start."""
    return float(os.environ.get("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS") or 180)


def answers(port: int) -> bool:
    """Whether a server of Prefect's answers at a port of the loopback."""
    asking = http.client.HTTPConnection(LOOPBACK, port, timeout=5)  # which knows of no proxy
    try:
        asking.request("GET", "/api/health")
        return asking.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asking.close()


def _reason(log: Path) -> str:
    """What its log ends with: the last error that has a name, or the last line."""
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    named = [line for line in said if _NAMED.match(line)]
    return f" ({(named or said)[-1][:300]})" if said else ""
