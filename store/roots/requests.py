"""Requests to an object store: each with its limits, its retries, and one clear error in place of a library's.

Small files come by one request. Large ones arrive in pieces, each in the time that an operation may wait, and a
connection that breaks is taken up where it broke: silence is limited, not duration.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from tamis.store.errors import StoreNotFound, StoreUnreachable, TamisError
from tamis.store.roots.objects import client, reaching, reason
from tamis.store.roots.options import Options, seconds
from tamis.store.roots.urls import shown
from tamis.store.roots.waiting import Patience, patience_left, patiently

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

PIECE = 1 << 20  # bytes that must arrive within the patience of an operation
_TRIES = 5  # broken connections in a row, or lost uploads, without any progress
# Few parts at a time: those on the way share a connection's speed, and each has its limit.
_PART, _PARTS = 5 << 20, 2
T = TypeVar("T")


def head(url: str, path: str, options: Options, *, named: str = "") -> "ObjectMeta":
    """Size and time of an object, which is called `named`, or as the store, in messages.

    Raises:
        FileNotFoundError: there is none.
    """
    with reaching(named or url):
        return patiently(named or url, options, lambda: obstore.head(client(url, options), path))


def get(url: str, path: str, options: Options) -> bytes | None:
    """A whole object, or None where there is none."""
    try:
        return b"".join(pieces(url, path, options)[1])
    except StoreNotFound:
        raise
    except FileNotFoundError:
        return None


def pieces(url: str, path: str, options: Options, *, named: str = "") -> tuple[int, Iterator[bytes]]:
    """An object's size, and its bytes in pieces of at least `PIECE`, the last one less.

    Args:
        url: of the bucket or prefix.
        path: of the object in it.
        options: storage options.
        named: what the object is called in messages; by default as the store.

    Raises:
        FileNotFoundError: there is none.
        StoreUnreachable: a piece does not arrive in time, or the object was replaced meanwhile.
    """
    with reaching(named or url):
        download = _Download(url, path, options, named or url)
        return download.size, download.pieces()


class _Download:
    """One object on its way."""

    def __init__(self, url: str, path: str, options: Options, named: str) -> None:
        self._url, self._path, self._options, self._named = url, path, options, named
        self._patience, self._got = patience_left(options), 0
        # The first piece comes in the same breath: most objects are small.
        self._etag, self.size, self._first = self._wait(self._begin)

    def _begin(self) -> tuple[str | None, int, bytes]:
        self._open({})
        return self._answer.meta.get("e_tag"), int(self._answer.meta["size"]), self._next()

    def pieces(self) -> Iterator[bytes]:
        piece, broken = self._first, 0
        while True:
            if piece:
                self._got, broken = self._got + len(piece), 0
                if len(piece) >= PIECE:
                    self._patience.renew()
                yield piece
            if self._got >= self.size:
                return
            with reaching(self._named):
                piece, broken = self._more(broken)

    def _more(self, broken: int) -> tuple[bytes, int]:
        try:
            piece = self._wait(self._next)
            if piece:
                return piece, 0
            error: Exception = ConnectionError("the connection closed before the object was complete")
        except (BaseError, OSError) as fault:
            if isinstance(fault, TamisError):
                raise
            error = fault
        if broken + 1 >= _TRIES:
            raise StoreUnreachable(
                f"{shown(self._named)} cannot be reached: {reason(error)}. Check the server and the network and run "
                "the same command again."
            ) from error
        # The same object, or none.
        match = {"if_match": self._etag} if self._etag else {}
        try:
            self._wait(lambda: self._open({"range": {"offset": self._got}, **match}))
        except PreconditionError as error:
            raise StoreUnreachable(
                f"{shown(self._named)} was replaced while it was read. Run the same command again."
            ) from error
        return b"", broken + 1

    def _open(self, how: dict[str, Any]) -> None:
        found = obstore.get(client(self._url, self._options), self._path, options=cast("Any", how) or None)
        self._answer, self._stream = found, iter(found.stream(PIECE))

    def _next(self) -> bytes:
        return bytes(next(self._stream, b""))

    def _wait(self, work: Callable[[], T]) -> T:
        return patiently(self._named, self._options, work, patience=self._patience)


def put(url: str, path: str, data: bytes | Path, options: Options) -> None:
    """Write an object, replacing what was there."""
    size = _size(data)
    for number in range(_TRIES):
        try:
            with reaching(url):
                return patiently(
                    url,
                    options,
                    lambda: _put(client(url, options, sending=min(size, _PART * _PARTS)), path, data),
                    size=size,
                    probe=partial(_still_there, url, path, size, options),
                )
        except StoreNotFound:
            raise
        except FileNotFoundError:
            # The answer that completes an upload in parts got lost: asked again, the server knows of no such upload.
            if number + 1 == _TRIES:
                raise
    raise AssertionError("unreachable: the last try answers or raises")


def _put(objects: "ObjectStore", path: str, data: bytes | Path) -> None:
    obstore.put(objects, path, data, mode="overwrite", chunk_size=_PART, max_concurrency=_PARTS)


def put_new(url: str, path: str, data: bytes | Path, options: Options) -> bool:
    """Write an object unless there is one of that name; whether this call wrote it, as far as the answer tells.

    Where the answer to a write gets lost and it is said again, it is beaten by itself, and this says False: who must
    know compares what is there.
    """
    size = _size(data)
    try:
        with reaching(url):
            # One request: put-if-absent is not available for multipart uploads.
            patiently(
                url,
                options,
                lambda: obstore.put(client(url, options, sending=size), path, data, mode="create", use_multipart=False),
                size=size,
                probe=partial(_still_there, url, path, size, options),
            )
    except AlreadyExistsError:
        return False
    return True


def _still_there(url: str, path: str, size: int, options: Options) -> None:
    """While something large is sent, nothing is heard of a server: it is asked for something small."""
    whole = seconds("patience", options)
    try:
        patiently(url, options, lambda: obstore.head(client(url, options), path), patience=Patience(whole))
    except FileNotFoundError:
        return
    except (BaseError, OSError) as error:
        raise StoreUnreachable(
            f"{shown(url)} cannot be reached: the server answers nothing any more while {size} bytes are sent to it "
            f"({reason(error)}). Check the server and the network and run the same command again."
        ) from error


def delete(url: str, path: str, options: Options) -> None:
    """Remove an object; nothing happens where there is none."""
    try:
        with reaching(url):
            patiently(url, options, lambda: obstore.delete(client(url, options), path))
    except StoreNotFound:
        raise
    except FileNotFoundError:
        return


def names(url: str, prefix: str | None, options: Options, after: str | None = None) -> Iterator["ObjectMeta"]:
    """The objects below a prefix whose path comes behind `after`, a page of the listing at a time."""
    with reaching(url):
        pages = iter(obstore.list(client(url, options), prefix, offset=after))
        while page := patiently(url, options, lambda: next(pages, None)):
            yield from page


def _size(data: bytes | Path) -> int:
    return data.stat().st_size if isinstance(data, Path) else len(data)
