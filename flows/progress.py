"""Progress on a terminal: bars on stderr, silent elsewhere.

Prefect tasks take only plain values, so the display of the process is found here rather than handed through.
"""

import contextlib
import sys
from collections.abc import Callable, Generator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[float], None]

_display: Progress | None = None
_listener: Callable[[str, float], Advance] | None = None


@contextlib.contextmanager
def display(enabled: bool | None = None) -> Generator[None]:
    """Show the bars of everything that is tracked inside.

    Args:
        enabled: None shows them where stderr is a terminal.
    """
    global _display
    shown = sys.stderr.isatty() if enabled is None else enabled
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), disable=not shown)
    with progress:
        _display = progress
        try:
            yield
        finally:
            _display = None


def shown() -> bool:
    """Whether bars show."""
    return _display is not None and not _display.disable


def track(what: str, total: float) -> Advance:
    """A bar; call the answer with how much more is done. Does nothing where nothing is displayed and nobody listens."""
    heard = _listener(what, total) if _listener is not None else None
    if _display is None:
        return heard or (lambda _: None)
    shown, task = _display, _display.add_task(what, total=total)

    def advance(step: float) -> None:
        shown.update(task, advance=step)
        if heard is not None:
            heard(step)

    return advance


@contextlib.contextmanager
def listening(listener: Callable[[str, float], Advance]) -> Generator[None]:
    """Within: everything that is tracked in this process is told to somebody, as `track` is."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def gauge(what: str) -> Callable[[float, float], None]:
    """A bar that is told (done, total) whenever either has changed."""
    if _display is None:
        return lambda _done, _total: None
    shown, task = _display, _display.add_task(what, total=None)
    return lambda done, total: shown.update(task, completed=done, total=total)


def steps(what: str) -> Callable[[int, int], None]:
    """A bar for work that reports (done, total)."""
    bars: list[Advance] = []
    reached = 0

    def report(done: int, total: int) -> None:
        nonlocal reached
        if not bars:
            bars.append(track(what, total))
        bars[0](done - reached)
        reached = done

    return report
