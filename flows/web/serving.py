"""Serving the page: the port, the token, and the end.

How: the port is taken before anything is loaded, so that a second server on it is told at once. Beyond loopback a token
is asked for; one that is not given is drawn. Libraries that decode images are loaded behind the first page.
"""

import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from tamis.flows.web.errors import BadQuestion, PortTaken
from tamis.flows.web.guard import LOOPBACK

if TYPE_CHECKING:
    from tamis.store import Store

_SHORTEST = 16  # characters of a token
_END = 3  # s that open requests are waited for


@dataclass(frozen=True)
class Place:
    """Where the page is served.

    Attributes:
        host, port: that it listens on.
        token: that is asked for; None for none.
        listening: the socket.
    """

    host: str
    port: int
    token: str | None
    listening: socket.socket

    @property
    def url(self) -> str:
        """The address for a browser; with the token, where one is asked for."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        shown = f"[{host}]" if ":" in host else host
        login = "" if self.token is None else f"login?token={self.token}"
        return f"http://{shown}:{self.port}/{login}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names under which it is served; () for any."""
        return tuple(dict.fromkeys((*LOOPBACK, self.host))) if self.token is None else ()


def take(host: str, port: int, token: str | None = None) -> Place:
    """Listen.

    Args:
        host: an address of this machine, or its name.
        port: 0 for any that is free.
        token: that is asked for; beyond loopback one is drawn where none is given.

    Raises:
        PortTaken: another program listens there, or the address is not this machine's.
        BadQuestion: the token is too short, or has odd characters.
    """
    if token is not None and not (len(token) >= _SHORTEST and token.isascii() and token.isalnum()):
        raise BadQuestion(f"A token has at least {_SHORTEST} letters and digits; leave it out, and one is drawn.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family)  # an address of IPv6 has more
    except OSError as error:
        raise PortTaken(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. Another `tamis ui` may be running: open "
            f"http://{host}:{port}/, or choose another port with --port (0: any that is free)."
        ) from error
    # asyncio asks for this where it makes the socket itself; without it an answer waits 40 ms for the reader's word.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    drawn = token if token is not None or _is_loopback(str(address[0])) else secrets.token_hex(16)
    return Place(host, listening.getsockname()[1], drawn, listening)


def serve(store: "Store", place: Place, *, prefect: str | None = None, ready: Callable[[], None] | None = None) -> None:
    """Serve until the process is told to end.

    Args:
        store: an open store.
        place: where.
        prefect: address of Prefect's page; None where there is none.
        ready: is called when the page can be opened.
    """
    import uvicorn

    from tamis.flows.web.app import application

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            threading.Thread(target=_load, daemon=True).start()
            if ready is not None and self.started:
                ready()

    app = application(store, token=place.token, hosts=place.hosts, prefect=prefect)
    config = uvicorn.Config(
        app, log_level="warning", lifespan="off", timeout_graceful_shutdown=_END, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    with closing(place.listening):
        Server(config).run(sockets=[place.listening])


def _load() -> None:
    for name in ("decoding.decode", "streaming.readers", "reports.speedup"):
        import_module(f"tamis.training.{name}")


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
