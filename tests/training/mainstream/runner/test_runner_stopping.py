"""Signals of a run, in this process: they set flags, and are as before when it is over."""

import os
import signal
import threading

import pytest

from tamis.training.mainstream.runner.stopping import controlled


def test_signals_are_heard_as_flags_and_handed_back() -> None:
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in wanted]
    with controlled() as control:
        os.kill(os.getpid(), signal.SIGHUP)
        assert (control.stop, control.reload) == (0, True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert control.stop == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert control.stop == signal.SIGINT
    assert [signal.getsignal(number) for number in wanted] == before


def test_a_second_interrupt_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), controlled() as control:  # noqa: PT012 - both belong to one block
        os.kill(os.getpid(), signal.SIGINT)
        assert control.stop == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with controlled() as control:
            os.kill(os.getpid(), signal.SIGINT)
            assert control.stop == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_hear_nothing() -> None:
    found = list[int]()

    def run() -> None:
        with controlled() as control:
            found.append(control.stop)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert found == [0]
