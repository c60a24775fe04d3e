"""How long is waited for a server: an operation has one patience for all its requests together.

What: `patiently` does one request, or some, in a thread of its own and waits for it no longer than the operation may;
`operation` makes several of them share one patience.
How: the clients below limit the silence of a connection and the tries of a request, by themselves; but a server that
gives a byte a second is not silent, and ten requests that each take what one may take are too long together. A thread
that is waited for no longer ends by its client's own limits, and its answer is dropped. While this waits, Ctrl-C is
heard.
Cost: 60 µs a request.
"""

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from tamis.store.errors import StoreUnreachable
from tamis.store.roots.options import SLOWEST, Options, seconds
from tamis.store.roots.urls import is_remote, shown

FREE = 1.0  # s that a request takes from nobody's patience: many quick ones are no sign of trouble
T = TypeVar("T")
P = ParamSpec("P")
S = TypeVar("S", bound="_Rooted")


class _Rooted(Protocol):
    _root: Any  # a Root, whose module knows this one


class Patience:
    """What is left of the time that an operation may wait, in s."""

    def __init__(self, whole: float) -> None:
        self.whole = self.left = whole

    def renew(self) -> None:
        """Much has arrived: it begins anew."""
        self.left = self.whole


_patience = contextvars.ContextVar["Patience | None"]("patience", default=None)
_waited_for = contextvars.ContextVar("waited_for", default=False)


@contextlib.contextmanager
def operation(options: Options) -> Generator[None]:
    """What is asked of servers in here, by this thread, has one patience together (option `patience`, 60 s)."""
    token = _patience.set(patience_left(options))
    try:
        yield
    finally:
        _patience.reset(token)


def one_patience(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method of what keeps its root as `_root`: all requests of a call have one patience together."""

    @functools.wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        with operation(self._root.options):  # pyright: ignore[reportPrivateUsage]  # of the same package
            return method(self, *args, **kwargs)

    return call


def patience_left(options: Options) -> Patience:
    """The patience of the operation that this is part of, or a new one."""
    return _patience.get() or Patience(seconds("patience", options))


def patiently(
    url: str,
    options: Options,
    work: Callable[[], T],
    *,
    size: int = 0,
    patience: Patience | None = None,
    probe: Callable[[], object] | None = None,
) -> T:
    """What `work` answers, if it does so in the time that the operation has left.

    Args:
        url: what is asked, for messages.
        options: storage options.
        work: asks the server. It may still be going on when this has given up.
        size: bytes that one request moves; they may take `SLOWEST` on top.
        patience: the operation's, where it is not that of the context.
        probe: called now and then while this waits; what it raises ends the waiting.

    Raises:
        StoreUnreachable: it took too long.
    """
    if not is_remote(url) or _waited_for.get():  # nothing to wait for, or somebody waits already, for all of this
        return work()
    given = patience or patience_left(options)
    started, limit = monotonic(), given.left + size / SLOWEST
    try:
        return _in_time(url, work, limit, given.whole, probe)
    finally:
        given.left = max(0.0, min(given.left, limit - max(0.0, monotonic() - started - FREE)))


def late(url: str, waited: float) -> StoreUnreachable:
    """What is said of a server that took too long."""
    return StoreUnreachable(
        f"{shown(url)} cannot be reached: the server took the requests of one operation and did not complete them "
        f"within {waited:.3g} s. Check the server and the network and run the same command again: what was published "
        "before is whole. The storage option patience (or TAMIS_PATIENCE=2m) sets another limit."
    )


def _in_time(
    url: str, work: Callable[[], T], limit: float, whole: float, probe: Callable[[], object] | None = None
) -> T:
    answers: list[T] = []
    faults: list[BaseException] = []

    def run() -> None:
        _waited_for.set(True)
        try:
            answers.append(work())
        except BaseException as fault:  # noqa: BLE001  it is raised where it is waited for
            faults.append(fault)
        done.set()

    done, context = threading.Event(), contextvars.copy_context()
    if limit <= 0:
        raise late(url, whole)
    # A daemon: a process that has given up ends without it.
    threading.Thread(target=context.run, args=(run,), name="object-store-request", daemon=True).start()
    end = monotonic() + min(limit, threading.TIMEOUT_MAX)
    while not done.wait(max(0.0, min(end - monotonic(), whole / 2 if probe else threading.TIMEOUT_MAX))):
        if monotonic() >= end:
            raise late(url, limit)
        if probe:
            probe()
    if faults:
        raise faults[0]
    return answers[0]
