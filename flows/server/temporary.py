"""A Prefect server for the life of this process, where none is configured.

What: `temporary_server()` starts it, once a process, and returns its address.
How: a process that runs `tamis.flows.server.serving`, away from everything of the user's: its own home and database in
a fresh temporary folder, none of the user's Prefect settings, a session of its own (a Ctrl-C at the terminal does not
reach it), on a port of the loopback that was free. So a Prefect database of another version never matters, and any
number of commands run at once.
Ends: with this process, however that ended: it hears the end of its standard input. It removes its folder itself; one
that was left behind (a power cut) is removed by the next that starts, told by its lock.
Cost: 5 s of CPU, most of it Prefect's imports; the first of a version of Prefect 14 s, as it makes the database that
later ones start with (`tamis.flows.server.first_database`).
"""

import atexit
import contextlib
import fcntl
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tamis.flows.errors import ServerFailed
from tamis.flows.server import first_database

_PREFIX = "tamis-prefect-"
_OWN = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",  # as Prefect's own temporary servers: nothing that serves schedules
    "PREFECT__SERVER_FINAL": "1",
    "DO_NOT_TRACK": "1",
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOCK, _LOG = "lock", "server.log"
_FRESH = 60.0  # s
_started: "list[_Server]" = []


class _Server:
    """A running server: its process, and the address of its API."""

    def __init__(self, process: subprocess.Popen[bytes], home: Path, port: int, given: bool) -> None:
        self.process, self.home, self.port = process, home, port
        self.given = given  # its database, by an earlier server
        self.url = f"http://127.0.0.1:{port}/api"

    def stop(self) -> None:
        """End the server, as the end of this process would, and at once: nothing in it is of use to anybody."""
        assert self.process.stdin is not None
        self.process.kill()
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def temporary_server() -> str:
    """The address of this process's temporary server, e.g. "http://127.0.0.1:41235/api"; started by the first call.

    Prefect is told of it by PREFECT_API_URL, and proxies of the environment are not asked for it.

    Raises:
        ServerFailed: it ended, or did not answer in PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.
    """
    if not _started:
        seconds = float(os.environ.get("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS") or 180)
        server = _start()
        atexit.register(server.stop)
        try:
            _wait(server, seconds)
        except BaseException:
            server.stop()
            raise
        if not server.given:
            first_database.keep(server.home)
        _started.append(server)
        _tell_prefect(server.url)
    return _started[0].url


def is_running() -> bool:
    """Whether this process has started one."""
    return bool(_started)


def is_temporary(url: str) -> bool:
    """Whether an address is that of this process's temporary server."""
    return any(server.url == url for server in _started)


def _start() -> _Server:
    _sweep()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | _OWN
    environment |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / first_database.NAME}",
    }
    with socket.socket() as listening, (home / _LOCK).open("wb") as lock, (home / _LOG).open("wb") as log:
        given = first_database.give(home)
        fcntl.flock(lock, fcntl.LOCK_EX)  # held by the server, which inherits the open file, until it has ended
        listening.bind(("127.0.0.1", 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "tamis.flows.server.serving", str(home), str(os.getpid()), str(listening.fileno())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=home,  # settings of Prefect lie in working folders, too
            env=environment,
            pass_fds=(listening.fileno(), lock.fileno()),
            start_new_session=True,
        )
        return _Server(process, home, listening.getsockname()[1], given)


def _sweep() -> None:
    """Remove the folders of servers that could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, in use (the lock), or gone by now
            if time.time() - folder.stat().st_mtime > _FRESH:  # a younger one may not be locked yet
                with (folder / _LOCK).open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)


def _wait(server: _Server, seconds: float) -> None:
    """Return when the server answers.

    Raises:
        ServerFailed: it has ended, or the time is over.
    """
    end = time.monotonic() + seconds
    while not _answers(server.port):
        code = server.process.poll()
        if code is not None or time.monotonic() > end:
            said = _last_line(server.home / _LOG)
            first_database.forget()  # in case that was the reason
            how = f"it did not answer in {seconds:g} s" if code is None else f"it ended with exit code {code}"
            raise ServerFailed(
                f"The temporary Prefect server did not start: {how}{said}. Run the command again, allow more time with "
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or start your own server with `prefect server "
                "start` and set PREFECT_API_URL=http://127.0.0.1:4200/api."
            )
        time.sleep(0.1)


def _answers(port: int) -> bool:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=5)  # which knows of no proxy
    try:
        asking.request("GET", "/api/health")
        return asking.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asking.close()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return f" ({said[-1][:300]})" if said else ""


def _tell_prefect(url: str) -> None:
    os.environ["PREFECT_API_URL"] = url
    _spare_loopback()
    if "prefect.context" in sys.modules:  # loaded already: it has read its settings
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _spare_loopback() -> None:
    """Keep what is on this machine from being asked for through a proxy.

    Where a proxy's address is of a kind that Prefect's HTTP client refuses (SOCKS), it would not even be made: such a
    variable is taken out of this process's environment.
    """
    import httpx

    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if "127.0.0.1" not in spared and spared.strip() != "*":
        spared = ",".join(filter(None, (spared, "127.0.0.1")))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = spared
    for name in [name for name in os.environ if name.lower() in _PROXIES and os.environ[name]]:
        try:
            httpx.HTTPTransport(proxy=httpx.Proxy(_with_scheme(os.environ[name]))).close()
        except (ValueError, TypeError, ImportError, httpx.InvalidURL):
            del os.environ[name]


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"
