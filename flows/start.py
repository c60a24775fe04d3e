"""What the command `tamis` starts: the command line, whose import takes a moment.

A Ctrl-C before and after a command ends the process at once and without a word, as it ends any program: nothing is
under way then. In between `tamis.flows.interrupts` hears it.
"""

import signal


def main() -> None:
    """Import the command line and run it."""
    heard = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL)  # not where it is ignored
    _end_silently(heard)
    from tamis.flows.cli.app import main as run

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    finally:
        _end_silently(heard)


def _end_silently(heard: bool) -> None:
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
