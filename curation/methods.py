"""The methods of choosing, by name: one explicit dictionary that command line, documentation and tests read.

A method is a function `f(inputs, *, k, <its own parameters>, generator) -> Choice`. Its own parameters are
keyword-only plain JSON values with defaults. They and `k` are its configuration, and exactly that is recorded
with a selection. To add a method: its file, one entry here, its test.

The method card is the docstring of the module that holds the function; each parameter is described on one
line of the function's "Args".
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import UnknownMethodError
from tamis.curation.randomized import (
    select_random,
    select_random_batch_rounds,
    select_random_batches,
    select_random_rounds,
)
from tamis.curation.uncertainty import select_uncertain

__all__ = ["METHODS", "Choice", "Inputs", "Method", "get_method", "parameters"]


@dataclass(frozen=True)
class Method:
    """A way to choose samples.

    Attributes:
        name: what selections, the command line and the documentation call it.
        function: `f(inputs, *, k, <its own parameters>, generator) -> Choice`.
        version: raised whenever the same inputs would give another choice; part of a selection's key.
        needs: which of "scores", "labels" and "correct" it always needs in its inputs. A parameter may need
            more: the function says so when it is missing.
        summary: one line for listings.
        rounds: the same function giving `Choice` after `Choice` without end, where a method can choose anew for each
            round of a selection; its first one is what `function` gives for the same generator.
    """

    name: str
    function: Callable[..., Choice]
    version: int
    needs: frozenset[str]
    summary: str
    rounds: Callable[..., Iterator[Choice]] | None = None


METHODS: dict[str, Method] = {
    "uncertainty": Method(
        name="uncertainty",
        function=select_uncertain,
        version=1,
        needs=frozenset({"scores"}),
        summary="the samples that one or more proxy models are least sure of (Selection via Proxy)",
    ),
    "random": Method(
        name="random",
        function=select_random,
        version=1,
        needs=frozenset(),
        summary="uniformly at random, the baseline",
        rounds=select_random_rounds,
    ),
    "random-pb": Method(
        name="random-pb",
        function=select_random_batches,
        version=1,
        needs=frozenset(),
        summary="whole mini-batches of a fixed partition, at random (RandomPB)",
        rounds=select_random_batch_rounds,
    ),
}


def get_method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        UnknownMethodError: there is none; the message lists what there is.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise UnknownMethodError(name, METHODS) from None


def parameters(method: Method) -> dict[str, Any]:
    """Return a method's own parameters with their defaults, in the order of its signature.

    `k` and `generator`, which every method takes and which have no default, are not among them.
    """
    signature = inspect.signature(method.function)
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("k", "generator")
    }
