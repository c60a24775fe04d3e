"""A method of one's own, "module:function": found in the current folder or among what is installed, and held to the
contract.

What: `find_method` gives a method by the name of one of ours or of one's own. The latter is a function
`select(inputs, *, k, <parameters>, generator) -> Choice`, or a `tamis.curation.Method`, which has a version and says
what it needs beside labels. What it returns is checked before it is published.
How: its key has the digest of its source file, found without running it. What that file imports in turn is not covered.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

from tamis.curation.contract import Choice, Inputs, Method
from tamis.curation.errors import CurationError
from tamis.curation.methods import get_method
from tamis.curation.parameters import parameters
from tamis.curation.testing import check_choice
from tamis.training.errors import UnknownOwnMethod
from tamis.training.models.own import METHOD, digest, failing, find

_TAKEN = frozenset({
    "dataset", "budget", "name", "seed", "force", "runner", "scores", "features", "measure", "rounds", "every",
    "beside_random", "store", "run", "as_json", "json", "verbose", "help", "code",
})  # fmt: skip


def find_method(name: str) -> tuple[Method, str | None]:
    """A method by its name in `METHODS` or as "module:function", and the digest of its source if it is one's own.

    Raises:
        UnknownMethodError: no method of ours.
        UnknownOwnMethod: it cannot be imported, or is neither a function nor a Method.
        MethodFailed: its module raised when it was imported.
        CurationError: its parameters are none that a method can have.
    """
    if ":" not in name:
        return get_method(name), None
    method = _checked(_method(name, find(name, METHOD)))
    clash = sorted(_TAKEN & set(parameters(method)))
    if clash:
        raise CurationError(f"method {name} has a parameter {', '.join(clash)}, which is reserved: rename it")
    return method, digest(name, METHOD)


def _method(name: str, found: object) -> Method:
    if isinstance(found, Method):
        return replace(found, name=name)
    if not callable(found):
        raise UnknownOwnMethod(
            f"{name!r} is a {type(found).__name__}; expected a function select(inputs, *, k, generator), or a "
            "tamis.curation.Method."
        )
    lines = [*(found.__doc__ or "").strip().splitlines(), f"a method of your own, {name}"]
    return Method(name, 1, lines[0].rstrip("."), cast("Callable[..., Choice]", found))


def _checked(method: Method) -> Method:
    """The same method, whose choices are checked and whose errors have its name."""
    return replace(
        method, select=_checked_select(method), rounds=None if method.rounds is None else _checked_rounds(method)
    )


def _checked_select(method: Method) -> Callable[..., Choice]:
    @functools.wraps(method.select)
    def select(inputs: Inputs, *, k: int, **given: Any) -> Choice:
        with failing(method.name, CurationError, kind=METHOD):
            choice = method.select(inputs, k=k, **given)
        return check_choice(choice, n=inputs.n, k=k, of=method.name)

    return select


def _checked_rounds(method: Method) -> Callable[..., Iterator[Choice]]:
    def rounds(inputs: Inputs, *, k: int, **given: Any) -> Iterator[Choice]:
        assert method.rounds is not None
        with failing(method.name, CurationError, kind=METHOD):
            for choice in method.rounds(inputs, k=k, **given):
                yield check_choice(choice, n=inputs.n, k=k, of=method.name)

    return rounds
