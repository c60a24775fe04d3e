"""Who may ask: no other site, no other name, no method that changes something, and beyond loopback a token."""

import socket
from collections.abc import Iterator

import httpx
import pytest
from pagekit import Served, serving

from tamis.flows.web.guard import COOKIE
from tamis.flows.web.serving import take
from tamis.store import Store

TOKEN = "0123456789abcdefABCDEF"


@pytest.fixture(scope="module")
def locked(shown: Store) -> Iterator[Served]:
    with serving(shown, TOKEN) as served:
        yield served


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/selections/some-0@1", "/sql?q=select+1", "/login", "/static/app.js"])
def test_nothing_is_changed(page: Served, method: str, path: str) -> None:
    assert httpx.request(method, page.url + path, timeout=30).status_code == 405


def test_reading_leaves_the_store_as_it_was(page: Served) -> None:
    def versions() -> dict[str, int]:
        return Store.open(page.store.root.url).tables.versions()

    before = versions()
    for path in ("/", "/selections/some-0@1", "/costs", "/sql?q=select+1", "/datasets/digits@1"):
        assert page.get(path).status_code == 200
    assert versions() == before


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "", "[::1"]
)
def test_a_name_that_was_bound_to_loopback_is_refused(page: Served, host: str) -> None:
    """DNS rebinding: the browser sends the name of the foreign page."""
    found = page.get("/selections.json", headers={"host": host})
    assert found.status_code == 421
    assert found.text.count("127.0.0.1") - host.count("127.0.0.1") == 1
    assert "some-0" not in found.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8265", "LOCALHOST:1", "[::1]:80"])
def test_names_of_loopback_are_served(page: Served, host: str) -> None:
    assert page.get("/sql", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403), ({"origin": "http://127.0.0.1:1"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 200),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
    ],
)  # fmt: skip
def test_other_sites_may_link_and_nothing_else(page: Served, headers: dict[str, str], status: int) -> None:
    assert page.get("/sql", headers=headers).status_code == status


def test_what_a_browser_may_do_with_a_page(page: Served) -> None:
    for path in ("/", "/nothing", "/selections.json", "/static/style.css", "/images/digits@1/0"):
        headers = page.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_pages_hold_no_script_or_style_of_their_own_and_name_no_other_host(page: Served) -> None:
    text = page.get("/selections/some-0@1").text
    assert text.count("<script") == text.count('<script src="/static/')
    assert "<style" not in text
    assert "http://" not in text.replace(page.url, "")
    assert "https://" not in text


def test_without_the_token_nothing_of_the_store_is_shown(locked: Served) -> None:
    for path in ("/", "/selections.json", "/images/digits@1/0", "/sql?q=select+1", "/nothing"):
        found = locked.get(path)
        assert found.status_code == 401
        assert "some-0" not in found.text
    assert locked.get("/static/style.css").status_code == 200
    for wrong in ("", TOKEN[:-1], TOKEN + "0", TOKEN.lower(), "é"):
        assert locked.get("/login", params={"token": wrong}).status_code == 401
        bearer = {"authorization": f"Bearer {wrong or 'x'}".encode()}
        assert httpx.get(locked.url, headers=bearer, timeout=30).status_code == 401


def test_the_token_becomes_a_cookie(locked: Served) -> None:
    with httpx.Client(base_url=locked.url, timeout=30) as client:
        found = client.get("/login", params={"token": TOKEN})
        assert (found.status_code, found.headers["location"]) == (303, "/")
        cookie = found.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert client.cookies[COOKIE] == TOKEN
        assert client.get("/selections.json").status_code == 200
        # With a token, any name of the machine will do; a foreign page has no cookie under its own name.
        assert client.get("/sql", headers={"host": "box.local:8265", "cookie": f"{COOKIE}={TOKEN}"}).status_code == 200
    assert httpx.get(f"{locked.url}/sql", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30).status_code == 200


def test_beyond_loopback_a_token_is_drawn() -> None:
    for host, asks in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)):
        place = take(host, 0)
        place.listening.close()
        assert (place.token is not None) == asks
        assert (place.hosts == ()) == asks
        assert ("/login?token=" in place.url) == asks
    first, second = (take("0.0.0.0", 0) for _ in range(2))
    first.listening.close()
    second.listening.close()
    assert first.token != second.token
    assert len(first.token or "") == 32


def test_a_websocket_is_not_answered(page: Served) -> None:
    with socket.create_connection(page.url.removeprefix("http://").split(":"), timeout=30) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")  # fmt: skip
        assert b"101" not in wire.recv(64)
