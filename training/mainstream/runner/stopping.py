"""Signals of a run: Ctrl-C and SIGTERM end it after the frame in hand, SIGHUP loads the plan anew.

How: handlers set flags only. A second Ctrl-C ends the command as it ends any other. While a run stops, what otherwise
ends a command a second after a Ctrl-C (`tamis.flows.interrupts`, through Python's wake-up descriptor) is silenced: what
is left to write may take longer.
"""

import contextlib
import signal
import threading
from collections.abc import Generator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Control:
    """What a run is told from outside.

    Attributes:
        stop: number of the signal that ends it; 0 for none.
        reload: whether the plan is to be loaded anew.
    """

    stop: int = 0
    reload: bool = False


@contextlib.contextmanager
def controlled() -> Generator[Control]:
    """Within: signals go to the control. In other threads than the main one, which hears none, nothing changes."""
    control = Control()
    if threading.current_thread() is not threading.main_thread():
        yield control
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if control.stop == signal.SIGINT == number:
            signal.default_int_handler(number, frame)
        control.stop = number

    def reload(_number: int, _frame: FrameType | None) -> None:
        control.reload = True

    wanted = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: reload}
    before = {number: signal.getsignal(number) for number in wanted}
    wakeup = signal.set_wakeup_fd(-1)
    try:
        for number, handler in wanted.items():
            if before[number] is not signal.SIG_IGN or number == signal.SIGHUP:
                signal.signal(number, handler)
        yield control
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
