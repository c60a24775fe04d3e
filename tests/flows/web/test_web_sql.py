"""SQL in the page: limited in rows and seconds, ended when nobody waits for it, and read-only."""

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pagekit import Served

from tamis.flows.web import asking
from tamis.flows.web.asking import LEFT, answer
from tamis.flows.web.errors import Busy, TookTooLong
from tamis.store import Store

# Minutes of work that a sum cannot be told without.
SLOW = "select sum(sin(a.range * b.range)) as s from range(200000) a, range(200000) b"


def test_an_answer(page: Served) -> None:
    query = "select name, version, size::hugeint as size, [1, null] as list, null as gone from selections order by name"
    found = page.get("/sql.json", params={"q": query}).json()
    assert found["columns"] == ["name", "version", "size", "list", "gone"]
    assert found["rows"][0] == ["odd", 1, "2", "[1, NULL]", None]
    assert found["more"] is False
    shown = page.get("/sql", params={"q": query}).text
    assert '<td class="n">1</td>' in shown


def test_rows_are_limited(page: Served) -> None:
    found = page.get("/sql.json", params={"q": "select range as r from range(100000000)"}).json()
    assert [row[0] for row in found["rows"]] == [*range(200)]
    assert found["more"] is True
    assert len(page.get("/sql.json", params={"q": "from range(9)", "rows": 3}).json()["rows"]) == 3
    assert page.get("/sql", params={"q": "select 1", "rows": 10**7}).status_code == 400


def test_values_are_cut_and_escaped(page: Served) -> None:
    query = "select repeat('<b>', 1000000) as \"<i>\", '</textarea><script>alert(1)</script>' as b"
    shown = page.get("/sql", params={"q": query})
    assert shown.status_code == 200
    assert len(shown.text) < 60_000
    assert "<script>alert" not in shown.text
    assert "<i>" not in shown.text
    assert len(page.get("/sql.json", params={"q": query}).json()["rows"][0][0]) == 2000


@pytest.mark.parametrize(
    "query",
    ["copy selections to 'there.csv'", f"select * from read_text('{__file__}')", "attach 'other.duckdb'",
     "drop view selections", "set threads = 1", "install httpfs", "select 1; select 2", "pragma database_list",
     f"select * from '{__file__}'", "create table t as select 1", "call pragma_version()", "export database 'there'",
     "select * from read_parquet('/proc/self/environ')", "insert into selections select * from selections"],
)  # fmt: skip
def test_hostile_statements_are_refused(page: Served, query: str) -> None:
    found = page.get("/sql.json", params={"q": query})
    assert found.status_code in (400, 403)
    assert found.json()["error"] in ("QueryRefused", "QueryError")
    shown = page.get("/sql", params={"q": query})
    assert shown.status_code == found.status_code
    assert "<textarea" in shown.text  # what was asked is there to be put right


def test_a_query_too_long_to_be_one(page: Served) -> None:
    assert page.get("/sql", params={"q": "select 1 -- " + "x" * 30_000}).status_code == 400


@pytest.mark.parametrize("query", [SLOW, f"explain analyze {SLOW}", f"summarize {SLOW}"])
def test_a_slow_query_is_ended(shown: Store, query: str) -> None:
    """Also where DuckDB works before it gives an answer to read."""
    with pytest.raises(TookTooLong, match=r"ended after 0\.3 s"):
        answer(shown, query, seconds=0.3)
    assert answer(shown, "select 1 as one") == [{"one": 1}]


def test_a_slow_query_in_the_page(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.flows.web.views.sql.SECONDS", 0.3)
    found = page.get("/sql", params={"q": SLOW})
    assert found.status_code == 504
    assert "tamis sql" in found.text


def test_a_query_that_nobody_waits_for_is_ended(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.flows.web.views.sql.SECONDS", 250.0)
    interrupted, limited = threading.Event(), asking.limited

    class Heard:
        def interrupt(self) -> None:
            interrupted.set()

    @contextmanager
    def watched(seconds: float, left: threading.Event | None) -> Generator[Callable[[Any], None]]:
        with limited(seconds, left) as begun:
            begun(Heard())
            yield begun

    monkeypatch.setattr(asking, "limited", watched)
    with socket.create_connection(page.url.removeprefix("http://").split(":")) as wire:
        wire.sendall(f"GET /sql?q={quote(SLOW)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(0.5)
        assert not interrupted.is_set()
    assert interrupted.wait(60)
    monkeypatch.undo()
    assert page.get("/sql.json", params={"q": "select 1"}).status_code == 200


def test_what_has_left_is_heard(shown: Store) -> None:
    left = threading.Event()
    token = LEFT.set(left)
    try:
        left.set()
        with pytest.raises(TookTooLong):
            answer(shown, SLOW, seconds=250)
    finally:
        LEFT.reset(token)


def test_places_are_limited(shown: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PATIENCE", 0.1)
    full = threading.BoundedSemaphore(1)
    with full, pytest.raises(Busy, match="Try again"), asking.asked(shown, "select 1", places=full):
        pass
    with asking.asked(shown, "select 1", places=full):
        pass


def test_a_link_of_another_site_shows_a_query_and_does_not_run_it(page: Served) -> None:
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    found = page.get("/sql", params={"q": "select 41 + 1 as answer"}, headers=foreign)
    assert "select 41 + 1" in found.text
    assert "press Run" in found.text
    assert ">42<" not in found.text
    assert ">42<" in page.get("/sql", params={"q": "select 41 + 1 as answer"}).text


def test_pages_are_answered_while_queries_run(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries of readers have places of their own."""
    monkeypatch.setattr("tamis.flows.web.views.sql.SECONDS", 3.0)
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.get(f"{page.url}/sql", params={"q": SLOW}, timeout=60).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert page.get("/selections.json").status_code == 200
    for thread in threads:
        thread.join()
    assert set(statuses) <= {503, 504}
