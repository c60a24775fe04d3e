"""The process of a Prefect server of ours; see `tamis.flows.server.process`, which starts it.

    python -m tamis.flows.server.serving HOME PARENT SOCKET temporary|lasting

It serves Prefect's API on the socket that it was given, and ends when its standard input does or the process PARENT has
ended. The folder HOME of a temporary server goes with it.
"""

import os
import shutil
import signal
import socket
import sys
import time
from functools import partial

from tamis.flows.server.parent import when_ended

_TRIES, _PAUSE = 100, 0.02  # at the folder; s


def serve(home: str, parent: int, listening: int, *, lasting: bool) -> None:
    """Serve until the parent has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with its parent, and would leave its folder behind
    when_ended(parent, partial(_end, None if lasting else home), hear=True)
    import uvicorn  # takes seconds, with what follows: the parent may end meanwhile
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app, factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])


def _end(home: str | None) -> None:
    for _ in range(_TRIES if home is not None else 0):  # the server still writes: a file that comes between stays
        shutil.rmtree(str(home), ignore_errors=True)
        if not os.path.lexists(str(home)):
            break
        time.sleep(_PAUSE)
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), lasting=sys.argv[4] == "lasting")
