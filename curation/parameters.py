"""A method's own parameters, read from the annotations of its function.

What: `parameters` gives them as `Parameter`s, which the command line, the documentation and the key of a selection are
made from; `recorded` is what enters that key.
How: a parameter is keyword-only and has a default. Its annotation is bool, int, float, str or a `Literal` of texts,
each of them perhaps `| None`; `Annotated` adds what a type cannot say:

    lam: Annotated[float, Between(least=0)] = 0.5           a range
    spare: Annotated[float, ADDED] = 0.05                   it came after selections were made without it
    memory: Annotated[int | None, RESOURCE] = None          it does not change the answer: no parameter at all

`k` and `generator`, which every method takes, are not among them.
"""

import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tamis.curation.contract import Method
from tamis.curation.errors import CurationError

_EVERY_METHOD = ("k", "generator")
_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Between:
    """A range of numbers; NaN and infinities are never in it.

    Attributes:
        least, most: the ends, where they belong to it.
        above, below: the ends, where they do not.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        inside = self.least <= value <= self.most and self.above < value < self.below
        return inside and math.isfinite(value)

    def __str__(self) -> str:
        ends = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        return " and ".join(f"{words} {end:g}" for words, end in ends if math.isfinite(end)) or "a finite number"


@dataclass(frozen=True)
class _Mark:
    name: str


ADDED = _Mark("added")
"""Marks a parameter that is recorded only where it differs from its default: earlier selections were made with that."""

RESOURCE = _Mark("resource")
"""Marks what may be used and does not change the answer."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: of the keyword.
        type: bool, int, float or str.
        default: its value where none is given.
        help: its line of the function's docstring, as a sentence.
        choices: the texts that it may be; empty: any value of its type.
        optional: whether None is a value.
        within: the range of a number.
        added: whether it is recorded only where it differs from its default.
    """

    name: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: Any
    help: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False
    within: Between = Between()
    added: bool = False

    def check(self, value: object) -> bool | int | float | str | None:
        """The value as it is recorded: a whole number given for a float is a float.

        Raises:
            CurationError: it is none that the parameter can have.
        """
        if value is None and self.optional:
            return None
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.type or not self._allows(value):
            raise CurationError(f"{self.name} is {value!r}; expected {self.expected}")
        return value

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[self.type]
        if self.choices:
            words = f"one of: {', '.join(self.choices)}"
        elif self.type in (int, float) and self.within != Between():
            words += f", {self.within}"
        return words + (", or none" if self.optional else "")

    def _allows(self, value: object) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return isinstance(value, bool) or (isinstance(value, int | float) and value in self.within)


def parameters(method: Method) -> dict[str, Parameter]:
    """A method's own parameters by name, in the order of its signature.

    Raises:
        CurationError: no `k` or no `generator`, or a parameter of its own that is not keyword-only, has no default, or
            has a type that is none of those above.
    """
    function, found = method.select, dict[str, Parameter]()
    hints, described = _hints(function), _described(function)
    signature = inspect.signature(function).parameters
    for name in _EVERY_METHOD:
        if name not in signature:
            raise CurationError(
                f"method {method.name} takes no {name}; expected select(inputs, *, k, <its own parameters>, generator)"
            )
    for name, given in list(signature.items())[1:]:
        if name in _EVERY_METHOD or RESOURCE in get_args(hints.get(name)):
            continue
        if given.kind is not given.KEYWORD_ONLY or given.default is given.empty:
            raise CurationError(
                f"parameter {name} of {method.name} is {given.kind.description} and has "
                f"{'no' if given.default is given.empty else 'a'} default; expected a keyword-only one with a default"
            )
        found[name] = _parameter(name, hints.get(name, type(given.default)), given.default, described.get(name, ""))
    return found


def recorded(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a selection's key has of a method's parameters: those given, and the defaults of the others.

    Those that came after selections were made without them are in it only where they differ from their defaults.

    Raises:
        CurationError: one that the method does not have, or cannot have this value.
    """
    own = parameters(method)
    unknown = sorted(set(given) - set(own))
    if unknown:
        raise CurationError(
            f"method {method.name} has no parameter {', '.join(unknown)}; it has: {', '.join(own) or 'none'}"
        )
    values = {name: one.check(given.get(name, one.default)) for name, one in own.items()}
    return {name: value for name, value in values.items() if not (own[name].added and value == own[name].default)}


def _parameter(name: str, hint: Any, default: Any, described: str) -> Parameter:
    hint, optional = _without_none(hint)
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        (hint, inside), marks = _without_none(hint), tuple(rest)
        optional |= inside
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    kind = str if choices and all(isinstance(one, str) for one in choices) else hint
    if kind not in _PLAIN:
        raise CurationError(
            f"parameter {name} is annotated {hint}; expected bool, int, float, str or a Literal of texts, or one of "
            "these or None"
        )
    within = next((mark for mark in marks if isinstance(mark, Between)), Between())
    made = Parameter(name, kind, default, described, choices, optional, within, ADDED in marks)
    made.check(default)
    return made


def _without_none(hint: Any) -> tuple[Any, bool]:
    """A type without `| None`, and whether it had that."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    rest = [one for one in get_args(hint) if one is not type(None)]
    return (rest[0], True) if len(rest) == 1 else (hint, False)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise CurationError(f"the annotations of {function.__qualname__} cannot be read: {error}") from error


def _described(function: Callable[..., Any]) -> dict[str, str]:
    """The lines `name: what it is` of the docstring."""
    lines = (line.strip().partition(": ") for line in (function.__doc__ or "").splitlines())
    return {name: f"{text[:1].upper()}{text[1:]}" for name, colon, text in lines if colon and name.isidentifier()}
