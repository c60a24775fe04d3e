"""The process of a temporary Prefect server; see `tamis.flows.server.temporary`, which starts it.

    python -m tamis.flows.server.serving HOME PARENT SOCKET

It serves Prefect's API on the socket that it was given, and ends, its folder HOME removed, when its standard input does
or the process PARENT has ended: a pipe that a fork of the parent still holds says nothing.
"""

import os
import select
import shutil
import signal
import socket
import sys
import threading
import time

_LOOK = 1.0  # s
_TRIES, _PAUSE = 100, 0.02  # at the folder; s


def serve(home: str, parent: int, listening: int) -> None:
    """Serve until the parent has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with its parent, and would leave its folder behind
    threading.Thread(target=_end_with, args=(parent, home), daemon=True).start()
    import uvicorn  # takes seconds, with what follows: the parent may end meanwhile
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app, factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])


def _end_with(parent: int, home: str) -> None:
    while os.getppid() == parent:
        heard, _, _ = select.select([sys.stdin], [], [], _LOOK)
        if heard:  # nothing is ever written to it: this is its end
            break
    for _ in range(_TRIES):  # the server still writes: a file that comes between leaves its folder behind
        shutil.rmtree(home, ignore_errors=True)
        if not os.path.lexists(home):
            break
        time.sleep(_PAUSE)
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
