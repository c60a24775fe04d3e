"""A process that ends with the one that started it, however that ended: a server, or a run of a service."""

import os
import select
import sys
import threading
import time
from collections.abc import Callable

LOOK = 1.0  # s
SERVICE = "TAMIS_SERVICE"  # the process id of the service, in the environment of its runs


def when_ended(parent: int, then: Callable[[], None], *, hear: bool = False) -> None:
    """Watch the parent on a thread of its own, and call `then` when it has ended.

    Args:
        parent: its process id.
        then: ends this process.
        hear: standard input is a pipe of the parent's, to which nothing is written: its end is that of the parent.
            A fork of the parent may still hold it, so that the process id is looked at as well.
    """

    def watch() -> None:
        while os.getppid() == parent:
            if not hear:
                time.sleep(LOOK)
            elif select.select([sys.stdin], [], [], LOOK)[0]:
                break
        then()

    threading.Thread(target=watch, name="tamis-parent", daemon=True).start()


def end_with_service() -> None:
    """Where this process is a run of a service: end when that has ended, with all that this one has started."""
    from tamis.flows.interrupts import end_now

    service = os.environ.get(SERVICE, "")
    if not service.isdecimal() or "PREFECT__FLOW_RUN_ID" not in os.environ:
        return
    if os.getppid() != int(service):  # it ended while this one was importing
        end_now()
    when_ended(int(service), end_now)
