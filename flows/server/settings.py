"""Settings of Prefect and of PyTorch's threads, given before either is imported. What the user has set stays as it is.

Where Prefect is asked for and no server is configured, a temporary one serves for the life of the process
(`tamis.flows.server.temporary`). One that is configured is asked whether it is there before anything starts: Prefect
would try for minutes.
"""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tamis.flows.errors import ServerUnreachable

_DEFAULTS = {
    # PyTorch's threads: sleep at a barrier rather than spin, which crawls on a shared machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
_FILES = ("pyproject.toml", ".env")  # in the working folder: settings of Prefect may be in each, beside prefect.toml
_PATIENCE = 5.0  # s
_EXPECTED = (
    "expected the API of a Prefect server, such as http://127.0.0.1:4200/api. Correct PREFECT_API_URL, or run without "
    "a server (--runner direct)."
)


def prepare(verbose: bool = False) -> None:
    """Set what is not set yet. Call before anything imports Prefect.

    Args:
        verbose: show Prefect's own log. Otherwise only tamis speaks: its errors name what was wrong and what to do.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")


def server_url() -> str | None:
    """The address of the Prefect server that is configured: by PREFECT_API_URL, or by a profile or file of Prefect's.

    The temporary server of this process is none: None.

    Raises:
        ServerUnreachable: what is configured is no address.
    """
    from tamis.flows.server.temporary import is_temporary

    url = os.environ.get("PREFECT_API_URL") or _configured()
    return None if url is None or is_temporary(url) else url


def has_server() -> bool:
    """Whether a Prefect server is configured."""
    return server_url() is not None


@contextmanager
def on_server() -> Generator[None]:
    """Within: flows find a Prefect server, the configured one or a temporary one.

    Raises:
        ServerUnreachable: the configured one is not there, or goes away.
        ServerFailed: the temporary one does not start.
    """
    url = server_url()
    if url is None:
        start_temporary()
    else:
        check_server(url)
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        if not _asked(error).startswith(url or os.environ["PREFECT_API_URL"]):
            raise  # a model's download, say
        raise unreachable(url or os.environ["PREFECT_API_URL"], error) from error


def start_temporary() -> str:
    """The address of this process's temporary server, which is started where it is not there yet."""
    from tamis.flows.server.temporary import is_running, temporary_server

    if not is_running():
        print("Starting a temporary Prefect server (takes a few seconds) ...", file=sys.stderr, flush=True)
    return temporary_server()


def _asked(error: Any) -> str:
    try:
        return str(error.request.url)
    except RuntimeError:  # it was not made yet
        return ""


def check_server(url: str) -> None:
    """Ask a Prefect server whether it is there, in the way in which Prefect will.

    Raises:
        ServerUnreachable: it does not answer in 5 s, or something else than Prefect's API does.
    """
    import httpx

    try:
        status = httpx.get(f"{url.rstrip('/')}/health", timeout=_PATIENCE, follow_redirects=True).status_code
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, TypeError) as error:
        raise ServerUnreachable(f"{shown(url)} is not the address of a server: {_EXPECTED}") from error
    except (httpx.HTTPError, ValueError, ImportError) as error:  # the last two: a proxy that httpx cannot use
        raise unreachable(url, error) from error
    if status == 404 or status >= 500:
        raise ServerUnreachable(f"{shown(url)} answers with HTTP status {status}: {_EXPECTED}")


def unreachable(url: str, error: BaseException) -> ServerUnreachable:
    """The error for a configured server that does not answer."""
    return ServerUnreachable(
        f"The Prefect server at {shown(url)} does not answer ({type(error).__name__}: {error}). Start it with `prefect "
        "server start`, correct PREFECT_API_URL, or run without a server (--runner direct)."
    )


def shown(url: str) -> str:
    """A URL as it may be shown: without user name, password and query."""
    import httpx

    try:
        plain = str(httpx.URL(url).copy_with(username="", password="", query=None, fragment=None))
    except (httpx.InvalidURL, TypeError):
        plain = "@"
    return "The address in PREFECT_API_URL" if "@" in plain or not plain else plain


def is_loopback(url: str) -> bool:
    """Whether an address leads back to the machine that asks for it."""
    import httpx

    host = httpx.URL(url).host
    return host in ("localhost", "::1") or host.startswith("127.")


def _configured() -> str | None:
    """What Prefect has been told beside PREFECT_API_URL."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    if "prefect.context" not in sys.modules and not (
        (home / "profiles.toml").is_file() or Path("prefect.toml").is_file() or any(map(_mentions, _FILES))
    ):
        return None  # nothing to ask Prefect about, which takes a second to import
    prepare()
    from prefect.settings import get_current_settings

    settings: Any = get_current_settings()
    return settings.api.url


def _mentions(file: str) -> bool:
    try:
        return "prefect" in Path(file).read_text(errors="replace").lower()
    except OSError:
        return False
