"""What the commands print: tables for people, JSON for programs. Answers go to stdout, everything else to stderr.

Everything from data passes `tamis.flows.escapes` on its way to a terminal.
"""

import contextlib
import datetime as dt
import json
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from tamis.flows.escapes import shown, shown_lines
from tamis.flows.failures import quiet_pipe

if TYPE_CHECKING:
    from tamis.store.sql.query import Asked

_EPOCHS = 20  # of which a run's accuracy during training is shown
_NARROWEST = 12  # letters that a column keeps before rows are shown one below the other


def emit(answer: object, as_json: bool, show: Callable[[], None]) -> None:
    """Print an answer as JSON, or let `show` print it for people."""
    if as_json:
        say(json.dumps(plain(answer), indent=2, allow_nan=False))
    else:
        show()


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities are texts, NumPy's numbers are numbers, all else is text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value).replace("nan", "NaN").replace("inf", "Infinity")
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {k if isinstance(k, str | int | float | None) else str(k): plain(v) for k, v in pairs.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in cast("Iterable[Any]", value)]
    import numpy as np

    return plain(value.item()) if isinstance(value, np.generic) else str(value)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, title: str | None = None) -> None:
    """Print rows as a table; says so when there are none."""
    listed = list(rows)
    names = list(columns or (listed[0].keys() if listed else ()))
    grid(names, [[row.get(name) for name in names] for row in listed], title)


def grid(names: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print rows of values in the order of the columns' names, of which one may come twice.

    Where the terminal is too narrow for a table that can be read, rows stand one below the other.
    """
    if not rows:
        say("(none)" if not title else f"{title}: (none)")
        return
    heads = [shown(name) for name in names]
    cells = [[shown(text(value)) for value in row] for row in rows]
    natural = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    least = [min(width, _NARROWEST) for width in natural]
    room = _room()
    if room is not None and _width(least) > room:
        _print_records(heads, cells, title)
        return
    made = Table(title=title and shown(title), title_justify="left", header_style="bold")
    for i, head in enumerate(heads):
        numeric = all(isinstance(r[i], int | float | None) and not isinstance(r[i], bool) for r in rows)
        made.add_column(head, justify="right" if numeric else "left", overflow="fold", min_width=least[i])
    for row in cells:
        made.add_row(*row)
    wanted = max(_width(natural), cell_len(title or ""))
    _print(made, wanted if room is None else min(wanted, room))


def facts(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        say(f"{shown(name):<{width}}  {shown(text(value))}")


def run_facts(pairs: Mapping[str, Any]) -> None:
    """Print what is known of a run; what was evaluated during training as a table of its own, the last epochs of it."""
    metrics = dict(pairs["metrics"])
    history: list[dict[str, Any]] = metrics.pop("history", [])
    facts({**pairs, "metrics": metrics})
    if history:
        some = f" (the last {_EPOCHS} of {len(history)} measurements)" if len(history) > _EPOCHS else ""
        names = ["epoch", *(name for name in history[0] if name != "epoch")]
        table(history[-_EPOCHS:], names, f"Evaluations during training{some}")


def say(message: str) -> None:
    """Print lines of an answer."""
    _send(shown_lines(message) + "\n")


def repeatedly(show: Callable[[], None], seconds: float) -> None:
    """Print on a terminal, again and again in the same place, until Ctrl-C.

    Args:
        show: prints what is to be seen.
        seconds: from one time to the next.

    Raises:
        click.UsageError: there is no terminal.
    """
    if not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal.")
    with contextlib.suppress(KeyboardInterrupt), Console().screen():
        while True:
            click.clear()
            show()
            time.sleep(seconds)
    show()  # what was seen last stays


def _send(made: str) -> None:
    with _quietly():
        click.echo(made, nl=False)


@contextlib.contextmanager
def _quietly() -> Generator[None]:
    """Where the reader of our output has gone away, as `head` does, the command is done."""
    try:
        yield
    except BrokenPipeError:
        quiet_pipe()
        raise click.exceptions.Exit(0) from None


def note(message: str) -> None:
    """Say something beside the answer."""
    click.echo(shown_lines(message), err=True)


def text(value: Any) -> str:
    """A value for people: short floats, times to the second, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}={text(v)}" for k, v in value.items())
    return str(value)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def chosen_form(form: str | None, as_json: bool, out: str | None) -> str | None:
    """The form in which an answer is written, of `--format`, `--json` and the file's suffix; None where none is named.

    Raises:
        click.UsageError: they contradict each other.
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} are mutually exclusive.")
    if out is not None and form == "table":
        raise click.UsageError("--format table cannot be written to a file: use csv, json or parquet.")
    suffix = Path(out or "").suffix.lower().removeprefix(".")
    return "json" if as_json else form or (suffix if suffix in ("csv", "json", "parquet") else None)


def write_answer(asked: "Asked", form: str, out: str | None) -> None:
    """An answer as csv, json (one array) or parquet, to stdout or to a file, which shows the whole of it or nothing."""
    from tamis.store.sql.answers import write

    if out is not None:
        with _replacing(Path(out)) as file:
            write(asked, form, file)
        return
    to_terminal = sys.stdout.isatty()
    if to_terminal and form == "parquet":
        raise click.UsageError("Parquet cannot be printed: use --out FILE or a pipe.")
    with _quietly(), click.open_file("-", "wb") as opened:
        stdout = cast("BinaryIO", opened)
        write(asked, form, cast("BinaryIO", _Shown(stdout)) if to_terminal else stdout)
        stdout.flush()


def write_text(text: str, out: str | None) -> None:
    """A text to stdout, or to a file, which shows the whole of it or nothing."""
    if out is None:
        _send(f"{text}\n")
        return
    with _replacing(Path(out)) as file:
        file.write(f"{text}\n".encode())


class _Shown:
    """A terminal that is not steered by what is written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: Any) -> int:
        return self._stream.write(shown_lines(bytes(data).decode(errors="replace")).encode())


@contextlib.contextmanager
def _replacing(path: Path) -> Generator[BinaryIO]:
    if path.exists() and not path.is_file():  # a pipe, a device
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _room() -> int | None:
    """The width of the terminal; None where there is none, and lines may be of any length."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return max(shutil.get_terminal_size().columns, 1)
    return None


def _width(columns: Sequence[int]) -> int:
    """Letters that a table with columns of these widths takes, with its lines and spaces."""
    return sum(columns) + 3 * len(columns) + 1


def _print(made: Table, width: int) -> None:
    # Data is no markup, and :dog: in a key is no picture.
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(made)
    _send(captured.get())


def _print_records(names: Sequence[str], rows: Sequence[Sequence[str]], title: str | None) -> None:
    """Rows one below the other, a line for each value."""
    width = max(map(cell_len, names))
    lines = [shown(title)] if title else []
    for number, row in enumerate(rows, 1):
        lines.append(f"-- {number} --")
        lines += [f"{name}{' ' * (width - cell_len(name))}  {value}" for name, value in zip(names, row, strict=True)]
    _send("\n".join([*lines, ""]))
