"""A Prefect server for the life of this process, where none is configured.

What: `temporary_server()` starts it, once a process, and returns its address.
How: a process (`tamis.flows.server.process`) with its own home and database in a fresh temporary folder, on a port of
the loopback that was free. So a Prefect database of another version never matters, and any number of commands run at
once.
Ends: with this process, however that ended: it hears the end of its standard input. It removes its folder itself; one
that was left behind (a power cut) is removed by the next that starts, told by its lock.
Cost: 5 s of CPU, most of it Prefect's imports; the first of a version of Prefect 14 s, as it makes the database that
later ones start with (`tamis.flows.server.first_database`).
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from tamis.flows.errors import ServerFailed
from tamis.flows.server import first_database
from tamis.flows.server.process import LOCK, LOOPBACK, Server, launch, patience

_PREFIX = "tamis-prefect-"
_OWN = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",  # as Prefect's own temporary servers: nothing that serves schedules
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_FRESH = 60.0  # s
_started: "list[Server]" = []


def temporary_server() -> str:
    """The address of this process's temporary server, e.g. "http://127.0.0.1:41235/api"; started by the first call.

    Prefect is told of it by PREFECT_API_URL, and proxies of the environment are not asked for it.

    Raises:
        ServerFailed: it ended, or did not answer in PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.
    """
    if not _started:
        seconds, server = patience(), _start()
        atexit.register(server.stop)
        try:
            _wait(server, seconds)
        except BaseException:
            server.stop()
            raise
        if not server.given:
            first_database.keep(server.home)
        _started.append(server)
        tell_prefect(server.url)
    return _started[0].url


def is_running() -> bool:
    """Whether this process has started one."""
    return bool(_started)


def is_temporary(url: str) -> bool:
    """Whether an address is that of this process's temporary server."""
    return any(server.url == url for server in _started)


def _start() -> Server:
    _sweep()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    with socket.socket() as listening, (home / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held by the server, which inherits the open file, until it has ended
        listening.bind((LOOPBACK, 0))
        return launch(home, listening, lock, _OWN)


def _sweep() -> None:
    """Remove the folders of servers that could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, in use (the lock), or gone by now
            if time.time() - folder.stat().st_mtime > _FRESH:  # a younger one may not be locked yet
                with (folder / LOCK).open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)


def _wait(server: Server, seconds: float) -> None:
    try:
        server.wait(seconds)
    except ServerFailed:
        first_database.forget()  # in case that was the reason
        raise


def tell_prefect(url: str) -> None:
    """Have Prefect use a server of this machine, which is asked for through no proxy."""
    os.environ["PREFECT_API_URL"] = url
    _spare_loopback()
    _read_again()


@contextlib.contextmanager
def told_prefect(url: str) -> Generator[None]:
    """Within: Prefect uses a server, as by `tell_prefect`; then what it used before."""
    before = dict(os.environ)
    tell_prefect(url)
    try:
        yield
    finally:
        for name in {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}:
            os.environ.pop(name, None)
            os.environ.update({name: before[name]} if name in before else {})
        _read_again()


def _read_again() -> None:
    """Have Prefect read its settings, where it is loaded and has read them already."""
    if "prefect.context" in sys.modules:
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
