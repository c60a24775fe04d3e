"""How a command says what went wrong: one line for people, one JSON object with `--json`, both on stderr.

Errors that tamis raises on purpose say what to do. Any other, of a library or of the user's own model, is told with its
class, never swallowed; `--verbose`, or TAMIS_DEBUG=1, shows where it came from.
"""

import errno
import json
import os
import re
import sys
import traceback
from dataclasses import dataclass, field
from typing import Any

import click

from tamis.flows.escapes import shown_lines
from tamis.store.errors import TamisError, is_full

INTERRUPTED = "Interrupted. Finished work is saved; run the command again to resume."
_BACKTRACE = re.compile(r"\n+(?:stack backtrace:\n)? *0: ")  # that a library in Rust puts into its message
_LONGEST = 1000  # characters of a foreign message
_ADVICE = {
    errno.EACCES: "check who may read and write it and its folder",
    errno.EPERM: "check who may read and write it and its folder",
    errno.EROFS: "it lies on a read-only medium: choose another place, or mount it for writing",
    errno.ENOENT: "correct the path, or make what is missing",
    errno.EMFILE: "raise the limit of open files (`ulimit -n 4096`) and run the command again",
    errno.ENFILE: "close other programs and run the command again",
    errno.EIO: "the medium is failing: check it before anything is written again",
}


@dataclass
class Reporter:
    """Says how a command ended, once.

    Attributes:
        as_json: one JSON object a report.
        traced: with the traceback.
    """

    as_json: bool = False
    traced: bool = False
    _said: bool = field(default=False, init=False)

    def failed(self, error: BaseException) -> None:
        """Report an error."""
        self._say(type(error).__name__, explained(error), error if self.traced else None)

    def interrupted(self) -> None:
        """Report a Ctrl-C."""
        self._say("Interrupted", INTERRUPTED, None)

    def _say(self, name: str, message: str, error: BaseException | None) -> None:
        if self._said:
            return
        self._said = True
        trace = "".join(traceback.format_exception(error)) if error is not None else None
        if self.as_json:
            said = {"error": name, "message": message} | ({"traceback": trace} if trace else {})
            click.echo(json.dumps(said), err=True)
        else:
            head = "" if name == "Interrupted" else "Error: "
            click.echo(shown_lines(f"{trace or ''}{head}{message}"), err=True)


def wants_trace(arguments: list[str]) -> bool:
    """Whether the user asked to see where errors come from."""
    return "--verbose" in arguments or os.environ.get("TAMIS_DEBUG", "0") not in ("", "0")


def explained(error: BaseException) -> str:
    """An error in words: what was wrong, and what to do."""
    from tamis.curation.errors import CurationError  # not above: the package brings NumPy and every method

    if isinstance(error, TamisError | CurationError):
        return _BACKTRACE.split(str(error))[0].strip()
    if isinstance(error, click.ClickException):
        return error.format_message()
    if type(error).__name__ == "ValidationError":
        return _fields(error)
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    name, text = type(error).__name__, " ".join(_BACKTRACE.split(str(error))[0].split())[:_LONGEST]
    refused = re.search(r"\(os error ([0-9]+)\)", text)  # as libraries in Rust say it
    if refused is not None and int(refused[1]) in _ADVICE:
        return f"{text}: {_ADVICE[int(refused[1])]}."
    return (
        f"{name}{': ' if text else ''}{text}{'' if text.endswith('.') else '.'} This comes from a library or from code "
        "of yours, and tamis does not know it: run the command with --verbose, or TAMIS_DEBUG=1, to see where."
    )


def _of_system(error: OSError) -> str:
    """What the operating system refused."""
    if is_full(error):
        where = f" ({error.filename})" if error.filename else ""
        return f"No space left{where}: make room and run the same command again."
    names = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    advice = _ADVICE.get(error.errno or 0)
    what = f"{names}: {error.strerror or error}" if names else f"{error.strerror or error}"
    return f"{what}{': ' + advice if advice else ''}."


def _fields(error: BaseException) -> str:
    """A pydantic error as one line a field."""
    found: Any = getattr(error, "errors", None)
    title = getattr(error, "title", "")
    fields: Any = found() if callable(found) else []
    lines = [f"{'.'.join(map(str, e['loc'])) or title}: {_refused(e['msg'], e.get('input'))}" for e in fields]
    return "\n".join(lines) or str(error)


def _refused(message: str, given: Any) -> str:
    """What pydantic says of a value, and the value, where that is short: no table of other fields."""
    told = message.removeprefix("Value error, ")
    return told if isinstance(given, dict | list | tuple) else f"{told} (given: {given!r})"


def quiet_pipe() -> None:
    """The reader of our output went away, as `head` does: nothing more is written to it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
