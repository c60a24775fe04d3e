"""Who may ask, and what a browser may do with the answers.

What: `Guard` stands before the pages. It refuses requests that could change something (there are none that do, and none
are taken), that come from a page of another site, or that name a host under which the page is not served, which is how
a foreign page reaches a server on loopback (DNS rebinding). Where the page is served beyond loopback it asks for a
token, once; a cookie has it from then on.
How: ASGI, so that an answer is passed on as it is made. Tokens are compared in constant time. The policy that goes with
every page allows no script but our own files, no style but our own, and no other host.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

COOKIE = "tamis-token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_OPEN = ("/login", "/static/")  # without a token: nothing of the store


class Guard:
    """Stands before an application.

    Args:
        app: what is guarded.
        hosts: names under which it is served, without a port; () for any, which takes a token.
        token: that is asked for; None for none.
    """

    def __init__(self, app: Application, hosts: tuple[str, ...], token: str | None) -> None:
        assert hosts or token
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no page of ours speaks anything else

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_encoded(_HEADERS)]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await _answer(headed, *refusal)
        if scope["path"] == "/login" and self._token is not None:
            return await self._login(scope, headed)
        return await self._app(scope, receive, headed)

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._hosts and _name(host) not in self._hosts:
            return 421, (
                f"This page is served as {', '.join(self._hosts)}, not as {host[:100]!r}: open it under one of these, "
                "or name the host with --host."
            )
        if scope["method"] not in ("GET", "HEAD"):
            return 405, f"{scope['method'][:20]} is refused: this page only shows, and takes GET and HEAD alone."
        if _is_foreign(headers, host):
            return 403, "A page of another site asked for this: it is refused. Open the address yourself."
        if self._token is not None and not scope["path"].startswith(_OPEN) and not self._knows(headers):
            return 401, "This page asks for a token: open /login?token=TOKEN with the one that `tamis ui` printed."
        return None

    def _knows(self, headers: dict[str, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        given = headers.get("authorization", "").removeprefix("Bearer ") if cookie is None else cookie.value
        return self._is_token(given)

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    async def _login(self, scope: Message, send: Send) -> None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not self._is_token(given):
            return await _answer(send, 401, "Wrong token: take the address that `tamis ui` printed.")
        cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
        return await _answer(send, 303, "", {"location": "/", "set-cookie": cookie})


def _is_foreign(headers: dict[str, str], host: str) -> bool:
    """Whether a page of another site asks, other than by a link that a person followed."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return True
    if headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    return headers.get("sec-fetch-mode") != "navigate" or headers.get("sec-fetch-dest") != "document"


def _name(host: str) -> str:
    """A host without its port; an address of IPv6 without its brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


async def _answer(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    body = f"{text}\n".encode()
    more = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), "cache-control": "no-store"}
    await send({"type": "http.response.start", "status": status, "headers": _encoded(more | (headers or {}))})
    await send({"type": "http.response.body", "body": body})
