"""A method's parameters out of its annotations: types, choices, ranges, what is recorded, and what is refused."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from tamis.curation import METHODS, Choice, CurationError, Inputs, Method, Parameter, parameters, recorded
from tamis.curation.parameters import ADDED, RESOURCE, Between


def choose(
    inputs: Inputs,
    *,
    k: int,
    flag: bool = False,
    rule: Literal["near", "far"] = "near",
    power: Annotated[float, Between(above=0, most=2)] = 1.0,
    least: Annotated[int, Between(least=1)] | None = None,
    later: Annotated[float, ADDED] = 0.5,
    plain=3,
    memory: Annotated[int, RESOURCE] = 7,
    generator: np.random.Generator,
) -> Choice:
    """Choose.

    Args:
        power: of the distance: higher prefers outliers.
    """
    raise NotImplementedError


MINE = Method("mine", 1, "a method of a test", choose)


def of(select: Callable[..., Any]) -> Method:
    return Method("mine", 1, "a method of a test", select)


def test_parameters_are_read_from_annotations() -> None:
    own = parameters(MINE)
    assert list(own) == ["flag", "rule", "power", "least", "later", "plain"]
    assert own["flag"] == Parameter("flag", bool, False)
    assert own["rule"] == Parameter("rule", str, "near", choices=("near", "far"))
    assert own["power"].within == Between(above=0, most=2)
    assert own["power"].help == "Of the distance: higher prefers outliers."
    assert (own["least"].type, own["least"].optional, own["least"].within) == (int, True, Between(least=1))
    assert (own["later"].added, own["plain"].type) == (True, int)


def test_what_came_later_is_recorded_only_where_it_differs() -> None:
    """So the keys of selections that were made without it stay."""
    assert recorded(MINE, {}) == {"flag": False, "rule": "near", "power": 1.0, "least": None, "plain": 3}
    assert recorded(MINE, {"later": 0.5}) == recorded(MINE, {})
    assert recorded(MINE, {"later": 1}) == recorded(MINE, {}) | {"later": 1.0}


def test_a_whole_number_for_a_float_is_recorded_as_a_float() -> None:
    """JSON has 1 and 1.0: one question must not have two keys."""
    assert isinstance(recorded(MINE, {"power": 1})["power"], float)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"power": 0}, "power is 0.0; expected a number, above 0 and at most 2"),
        ({"power": float("nan")}, "power is nan"),
        ({"power": True}, "power is True; expected a number"),
        ({"rule": "middle"}, "rule is 'middle'; expected one of: near, far"),
        ({"flag": 1}, "flag is 1; expected true or false"),
        ({"least": 0}, "least is 0; expected a whole number, at least 1, or none"),
        ({"flag": None}, "flag is None"),
        ({"colour": 1}, "method mine has no parameter colour; it has: flag, rule"),
        ({"memory": 1}, "no parameter memory"),
    ],
)
def test_other_values_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(CurationError, match=words):
        recorded(MINE, given)


def no_default(inputs: Inputs, *, k: int, power: float, generator: Any) -> Any: ...
def no_type(inputs: Inputs, *, k: int, power: list[int] = [], generator: Any) -> Any: ...  # noqa: B006 - refused
def no_such_name(inputs: Inputs, *, k: int, power: "Nothing" = 1, generator: Any) -> Any: ...  # noqa: F821 - refused
def bad_default(inputs: Inputs, *, k: int, power: Annotated[float, Between(least=1)] = 0.0, generator: Any) -> Any: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_default, "power of mine is keyword-only and has no default"),
        (no_type, r"power is annotated list\[int\]; expected bool, int, float, str or a Literal"),
        (no_such_name, "annotations of no_such_name cannot be read: name 'Nothing'"),
        (bad_default, r"power is 0.0; expected a number, at least 1"),
    ],
)
def test_functions_that_cannot_be_read_are_refused(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(CurationError, match=words):
        parameters(of(function))


def test_what_solves_the_problems_of_gradmatch_is_no_parameter() -> None:
    own = parameters(METHODS["gradmatch"])
    assert not {"pursue", "memory", "target"} & set(own)
    assert own["kind"].choices == ("class", "class-gradient", "batch")
    assert recorded(METHODS["gradmatch"], {}) == {"kind": "class-gradient", "lam": 0.5, "batch_size": 128}
