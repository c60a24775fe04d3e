"""Questions to a store that end: after so many rows, so many seconds, or when nobody waits for them.

What: `answer` asks DuckDB one reading statement and gives its first rows as plain values.
How: a thread watches the time and interrupts the query's own connection, again and again: an interruption that comes
between two steps of a query is forgotten by the next one. So many questions run at a time, and others wait for a place.
Cost: what `Store.query` costs, a thread, and memory for the rows asked for.
"""

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from tamis.flows.web.errors import Busy, TookTooLong
from tamis.store.errors import TamisError
from tamis.store.roots.waiting import operation

if TYPE_CHECKING:
    from tamis.store import Store
    from tamis.store.sql.query import Asked

Row = dict[str, Any]
Params = Mapping[str, Any] | Sequence[Any] | None
SECONDS = 10.0  # a question's time
MEMORY = 2 << 30  # bytes, at most
_LOOK = 0.05  # s between two looks at the time
PAGES, OWN = threading.BoundedSemaphore(4), threading.BoundedSemaphore(2)  # places: of pages, of a reader's own SQL
_PATIENCE = 5.0  # s for a place
LEFT: ContextVar[threading.Event | None] = ContextVar("left", default=None)


def answer(
    store: "Store",
    query: str,
    params: Params = None,
    *,
    rows: int = 10_000,
    seconds: float = SECONDS,
) -> list[Row]:
    """The first rows of an answer.

    Args:
        store: an open store.
        query: SQL.
        params: values of its parameters.
        rows: at most.
        seconds: that it may take.

    Raises:
        TookTooLong: it took longer, or the event in `LEFT` was set: nobody waits for the answer any more.
        Busy: others took all places for some seconds.
        QueryRefused, QueryError: as `Store.ask`.
    """
    from tamis.store.sql.query import batches

    found: list[Row] = []
    with asked(store, query, params, seconds=seconds) as one:
        _, read = batches(one, min(rows, 10_000))
        for batch in read:
            found += batch.slice(0, rows - len(found)).to_pylist()
            if len(found) >= rows:
                break
    return found


@contextmanager
def asked(
    store: "Store",
    query: str,
    params: Params = None,
    *,
    seconds: float = SECONDS,
    places: threading.BoundedSemaphore = PAGES,
) -> Generator["Asked"]:
    """Within: an answer that is read, and that is interrupted when its time is over; see `answer`."""
    from tamis.store.sql.files import memory_limit
    from tamis.store.sql.query import ask

    with _a_place(places), limited(seconds, LEFT.get()) as begun, operation(store.root.options):
        memory = min(memory_limit(), MEMORY)
        yield ask(store.tables, store.root, query, params, memory=memory, begun=begun)


@contextmanager
def _a_place(places: threading.BoundedSemaphore) -> Generator[None]:
    if not places.acquire(timeout=_PATIENCE):
        raise Busy(f"Other queries have taken all places for {_PATIENCE:g} s. Try again in a moment.")
    try:
        yield
    finally:
        places.release()


class Interruptible(Protocol):
    """What can be interrupted from another thread."""

    def interrupt(self) -> None: ...


@contextmanager
def limited(seconds: float, left: threading.Event | None) -> Generator[Callable[[Interruptible], None]]:
    """Within: what is handed to the function is interrupted when the time is over, or when `left` is set.

    Raises:
        TookTooLong: in place of the error that the interruption made.
    """
    connections: list[Interruptible] = []
    until, over, late = time.monotonic() + seconds, threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK):
            if time.monotonic() > until or (left is not None and left.is_set()):
                late.set()
                for connection in connections:
                    connection.interrupt()

    threading.Thread(target=watch, name="tamis-limit", daemon=True).start()
    try:
        yield connections.append
    except TamisError as error:
        if late.is_set():
            raise TookTooLong(
                f"The query was ended after {seconds:g} s, which is all the time that it may take here. Ask for less, "
                "or ask with `tamis sql`, which has no limit."
            ) from error
        raise
    finally:
        over.set()
