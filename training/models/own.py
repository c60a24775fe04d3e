"""A user's own code, "module:function": found, imported, and heard when it fails.

What: `load` imports it, also from the current folder; `source` finds its file without running it; `failing` turns what
it raises into one error with its own frames.
When: for models, methods and scorers that do not come with tamis (`tamis.training.models.registry`,
`tamis.training.selecting.own`, `tamis.training.signals.own`). Loads no torch.
"""

import hashlib
import importlib
import importlib.util
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from tamis.store.errors import TamisError
from tamis.training.errors import (
    MethodFailed,
    ModelFailed,
    ScorerFailed,
    UnknownModelError,
    UnknownOwnMethod,
    UnknownScorer,
)

_FRAMES = 3  # of the user's own that are shown
_LINE = 200  # characters of each line of a message
_OURS = Path(__file__).resolve().parents[2]
_STDLIB = str(Path(os.__file__).parent)
_WINGS = map(_OURS.joinpath, ("curation", "store", "training", "flows"))
_NOT_THEIRS = tuple(f"{folder}{os.sep}" for folder in (*_WINGS, _STDLIB))


@dataclass(frozen=True)
class Kind:
    """What a user's own code is for.

    Attributes:
        word: what messages call it.
        unknown: raised where there is none of a name.
        failed: raised where it raised.
    """

    word: str
    unknown: type[TamisError]
    failed: type[TamisError]


MODEL = Kind("Model", UnknownModelError, ModelFailed)
METHOD = Kind("Method", UnknownOwnMethod, MethodFailed)
SCORER = Kind("Scorer", UnknownScorer, ScorerFailed)


def load(name: str) -> Callable[..., Any]:
    """The function of a name "module:function".

    Raises:
        UnknownModelError: there is no such module or function.
        ModelFailed: the module raised when it was imported.
    """
    function = find(name)
    if not callable(function):
        raise UnknownModelError(f"{name!r} is a {type(function).__name__}: expected a function.")
    return function


def find(name: str, kind: Kind = MODEL) -> Any:
    """What a name "module:thing" stands for.

    Raises:
        kind.unknown: there is no such module, or no such thing in it.
        kind.failed: the module raised when it was imported.
    """
    where, _, what = name.partition(":")
    try:
        with _from_here(where), failing(name, ImportError, kind=kind):
            found = importlib.import_module(where)
        return getattr(found, what)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise kind.unknown(
            f"{name!r} cannot be imported: {error}. Expected module:function, with the module in the current "
            "folder or installed."
        ) from error


def source(name: str) -> Path | None:
    """The file of the module of a name "module:function", which is not run; None where there is none."""
    found = _spec(name)
    path = None if found is None or found.origin is None else Path(found.origin)
    return path if path is not None and path.is_file() else None


def _spec(name: str) -> ModuleSpec | None:
    """Where the module of a name would come from; None where there is none."""
    where = name.partition(":")[0]
    try:
        with _from_here(where), failing(name, ImportError):
            return importlib.util.find_spec(where)
    except (ImportError, ValueError, ModelFailed):  # the last: a package that raises; importing it will say so
        return None


def digest(name: str, kind: Kind) -> str:
    """The sha256 of the file of a name "module:function", for keys. What that file imports is not covered.

    Raises:
        kind.unknown: the module has no source file.
    """
    path = source(name)
    if path is None and _spec(name) is None:
        raise kind.unknown(
            f"{name!r} cannot be imported: there is no module {name.partition(':')[0]!r} in the current folder or "
            "installed. Expected module:function."
        )
    if path is None:
        raise kind.unknown(
            f"{name!r} has no source file, which its key needs: put the {kind.word.lower()} in a .py file."
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def failing(name: str, *passed: type[Exception], kind: Kind = MODEL) -> Generator[None]:
    """Name what a user's own code raises, with its own frames and no others.

    Args:
        name: of the model, method or scorer.
        passed: what is raised as it is.
        kind: what it is for.

    Raises:
        kind.failed: with the error and the last frames that are the user's. Errors without any are raised as they are.
    """
    try:
        yield
    except passed:
        raise
    except Exception as error:
        frames = _own_frames(error, name)
        if isinstance(error, kind.failed) or not frames:
            raise
        raise kind.failed("\n".join([f"{kind.word} {name} failed: {_brief(error)}", *frames])) from error


def _own_frames(error: BaseException, name: str) -> list[str]:
    """The last frames that are neither ours nor a library's, two lines each."""
    package = sys.modules.get(name.partition(":")[0].partition(".")[0])
    roots = tuple(map(str, getattr(package, "__path__", None) or [getattr(package, "__file__", None) or "/dev/null"]))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_theirs(f.filename, roots)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append(traceback.FrameSummary(error.filename, error.lineno or 0, "<module>"))
    lines: list[str] = []
    for frame in frames[-_FRAMES:]:
        text = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}", *([f"    {text[:_LINE]}"] if text else [])]
    return lines


def _is_theirs(filename: str, roots: tuple[str, ...]) -> bool:
    if filename.startswith(roots):
        return True
    parts = Path(filename).parts
    library = "site-packages" in parts or "dist-packages" in parts or filename.startswith("<")
    return not library and not filename.startswith(_NOT_THEIRS)


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:_LINE]}" if lines else type(error).__name__


@contextmanager
def _from_here(module: str) -> Generator[None]:
    """The current folder is looked through as well: first where it has the module, as for `python -m`.

    It stays at the end, for what the user's code imports later.
    """
    here = os.getcwd()
    first = module and PathFinder.find_spec(module.partition(".")[0], [here]) is not None
    if first:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if first:
            sys.path.remove(here)
            if here not in sys.path and "" not in sys.path:
                sys.path.append(here)
