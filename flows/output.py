"""What the commands print: tables for people, JSON for programs. Answers go to stdout, everything else to stderr."""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click
import pyarrow as pa
from rich.console import Console
from rich.table import Table

_EPOCHS = 20  # of which a run's accuracy on the way is shown


def emit(answer: object, as_json: bool, show: Callable[[], None]) -> None:
    """Print an answer as JSON, or let `show` print it for people."""
    if as_json:
        click.echo(json.dumps(answer, default=str, indent=2))
    else:
        show()


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, title: str | None = None) -> None:
    """Print rows as a table; says so when there are none."""
    listed = list(rows)
    names = list(columns or (listed[0].keys() if listed else ()))
    if not listed:
        click.echo("(none)" if not title else f"{title}: (none)")
        return
    shown = Table(title=title, title_justify="left", header_style="bold")
    numeric = {
        n: all(isinstance(r.get(n), int | float | None) and not isinstance(r.get(n), bool) for r in listed)
        for n in names
    }
    for name in names:
        shown.add_column(name, justify="right" if numeric[name] else "left", overflow="fold")
    for row in listed:
        shown.add_row(*(text(row.get(name)) for name in names))
    console().print(shown)


def facts(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {text(value)}")


def run_facts(pairs: Mapping[str, Any]) -> None:
    """Print what is known of a run; what was measured on the way as a table of its own, the last epochs of it."""
    metrics = dict(pairs["metrics"])
    history: list[dict[str, Any]] = metrics.pop("history", [])
    facts({**pairs, "metrics": metrics})
    if history:
        some = f" (the last {_EPOCHS} of {len(history)} measurements)" if len(history) > _EPOCHS else ""
        names = ["epoch", *(name for name in history[0] if name != "epoch")]
        table(history[-_EPOCHS:], names, f"On the way{some}")


def console() -> Console:
    """A console for stdout that does not squeeze tables when it is not a terminal."""
    made = Console(highlight=False, markup=False)
    return made if made.is_terminal else Console(highlight=False, markup=False, width=200)


def note(message: str) -> None:
    """Say something beside the answer."""
    click.echo(message, err=True)


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


def write_table(answer: pa.Table, form: str, out: str | None) -> None:
    """An Arrow table as csv, json (one array) or parquet, to stdout or to a file."""
    with click.open_file(out or "-", "wb") as file:
        if form == "csv":
            import pyarrow.csv

            pyarrow.csv.write_csv(answer, file)
        elif form == "json":
            file.write(json.dumps(answer.to_pylist(), default=str, indent=2).encode() + b"\n")
        else:
            import pyarrow.parquet

            pyarrow.parquet.write_table(answer, file)
