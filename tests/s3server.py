"""A server that speaks S3, on loopback: `python s3server.py` prints its port, and serves until it is killed.

The protocol is moto's. Around it: what a network does to people. `POST /-/faults` takes JSON and sets, for all requests
that follow, `latency` (s before each answer), and for those whose method and path match, for so many `times`: `status`
(answered in place of the truth), `reset` (no answer, the connection is gone), `silent` (none, and it stays), each with
`applied` where the request is carried out all the same, `cut` (bytes of the body after which the connection is gone),
`drip` (s before each `piece` of so many bytes of the body, 1 by default) or `junk` (bytes that mean nothing, in place
of the body). `GET /-/counts` says how many requests and body bytes were answered, by method; `POST /-/counts` sets them
to nothing.
"""

import json
import logging
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Environ = dict[str, Any]
Start = Callable[..., Any]

KINDS = {"status", "reset", "silent", "cut", "drip", "junk"}
JUNK, WHEN = bytes(range(50)), "Wed, 25 Nov 2026 10:00:00 GMT"


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay, as on a real server

    def log(self, *_: Any, **__: Any) -> None:
        """Nothing: the tests look at counts."""


class Faulty:
    """moto behind a network."""

    def __init__(self) -> None:
        self._real = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._writes = threading.Lock()
        self._faults: dict[str, Any] = {}
        self._requests, self._bytes = Counter[str](), Counter[str]()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/-/"):
            return self._control(method, path, environ, start)
        with self._lock:
            faults = dict(self._faults)
            matches = (
                method in faults.get("method", method).split("|")
                and re.search(faults.get("path", ""), path) is not None
            )
            hit = matches and bool(KINDS & faults.keys()) and faults.get("times", 0) > 0
            if hit:
                self._faults["times"] -= 1
            self._requests[method] += 1
        time.sleep(faults.get("latency", 0))
        if not hit:
            return self._counted(method, self._answer(environ, start))
        if faults.get("applied"):
            b"".join(self._answer(environ, lambda *_: None))
        if "status" in faults:
            start(f"{faults['status']} Fault", [("Content-Length", "0")])
            return [b""]
        if "reset" in faults or "silent" in faults:
            return self._nothing(environ, faults)
        if "junk" in faults:
            start("200 OK", [("Content-Length", str(len(JUNK))), ("ETag", '"x"'), ("Last-Modified", WHEN)])
            return [JUNK]
        body = self._answer(environ, start)
        return self._cut(body, faults["cut"]) if "cut" in faults else self._drip(body, faults)

    def _nothing(self, environ: Environ, faults: dict[str, Any]) -> Iterable[bytes]:
        if "silent" in faults:
            if not faults.get("applied"):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            select.select([environ["werkzeug.socket"]], [], [], 60)  # until whoever asks has gone
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError

    def _answer(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._real(environ, start)
        with self._writes:  # moto looks whether a name is taken and takes it in two steps; S3 does so in one
            return self._real(environ, start)

    def _control(self, method: str, path: str, environ: Environ, start: Start) -> Iterable[bytes]:
        with self._lock:
            if path == "/-/faults":
                self._faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            elif method == "POST":
                self._requests.clear()
                self._bytes.clear()
            answer = json.dumps({"requests": self._requests, "bytes": self._bytes}).encode()
        start("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]

    def _counted(self, method: str, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            with self._lock:
                self._bytes[method] += len(piece)
            yield piece

    def _cut(self, body: Iterable[bytes], after: int) -> Iterator[bytes]:
        yield b"".join(body)[:after]
        raise ConnectionResetError

    def _drip(self, body: Iterable[bytes], faults: dict[str, Any]) -> Iterator[bytes]:
        whole, size = b"".join(body), faults.get("piece", 1)
        for begin in range(0, len(whole), size):
            time.sleep(faults["drip"])
            yield whole[begin : begin + size]


def main() -> None:
    logging.disable(logging.CRITICAL)
    server = make_server("127.0.0.1", 0, Faulty(), threaded=True, request_handler=Quiet)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
