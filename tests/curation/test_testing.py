"""Every check of the conformance suite refuses a method that breaks its promise, and the message says which."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tamis.curation import Choice, ContractError, Inputs, Method
from tamis.curation.ranking import top_k
from tamis.curation.testing import CHECKS, check_choice, check_method

ONES = np.ones(3, np.float32)


def highest(inputs: Inputs, *, k: int, upside_down: bool = False, generator: np.random.Generator) -> Choice:
    """The highest mean scores among candidates without NaN and infinities."""
    scores_N = inputs.scores("highest").mean(axis=0) * (-1 if upside_down else 1)
    usable = np.flatnonzero(np.isfinite(inputs.scores("highest")).all(axis=0))
    if isinstance(k, int) and k > len(usable) and k <= inputs.n:
        from tamis.curation import CurationError

        raise CurationError(f"{k} asked for, the others are NaN or infinite")
    best = top_k(scores_N[usable], k) if len(usable) else top_k(np.ones(1), k)
    return Choice(usable[best], np.ones(len(best), np.float32), scores_N[usable[best]], inputs.n - len(usable))


def method(select: Callable[..., Any], **more: Any) -> Method:
    return Method("mine", 1, "a method of a test", select, **{"needs": frozenset({"scores"}), **more})


def changed(change: Callable[[Inputs, Choice], Choice | None]) -> Callable[..., Any]:
    """`highest`, and something wrong with it."""

    def select(inputs: Inputs, *, k: int, generator: np.random.Generator) -> Any:
        choice = highest(inputs, k=k, generator=generator)
        return change(inputs, choice) or choice

    return select


def anything(inputs: Inputs, *, k: int, generator: np.random.Generator) -> Choice:
    return Choice(np.arange(k) % inputs.n, np.ones(k, np.float32))


def by_position(inputs: Inputs, choice: Choice) -> Choice:
    return Choice(np.arange(len(choice.samples)), choice.weights, None, choice.excluded)


def by_global_state(inputs: Inputs, choice: Choice) -> Choice:
    return Choice(choice.samples, np.random.rand(len(choice.samples)).astype(np.float32), choice.scores)


def writes(inputs: Inputs, choice: Choice) -> None:
    inputs.scores("it")[0, 0] = 0.5


def other_rounds(inputs: Inputs, *, k: int, upside_down: bool, generator: np.random.Generator) -> Iterator[Choice]:
    while True:
        yield Choice(np.arange(k), np.ones(k, np.float32))


def positional(inputs: Inputs, k: int, power: float = 1.0, *, generator: np.random.Generator) -> Choice:
    return highest(inputs, k=k, generator=generator)


def test_a_method_that_keeps_its_promises_passes() -> None:
    check_method(method(highest))


@pytest.mark.parametrize(
    ("check", "broken", "words"),
    [
        (
            "sizes",
            method(changed(lambda _, c: Choice(c.samples[:-1], c.weights[:-1]))),
            r"samples int64 \[1\]",
        ),
        ("sizes", method(changed(lambda _, c: Choice(c.samples, c.weights / 0))), "finite weights"),
        ("budgets", method(anything), "promised a BudgetError for k = 0"),
        ("same answer", method(changed(by_global_state)), "global random state"),
        ("inputs kept", method(changed(writes)), "leave its inputs as they were"),
        ("order", method(changed(by_position)), "candidates in another order"),
        ("not finite", method(anything), "3 samples left out; found 0"),
        ("needs", method(highest, needs=frozenset({"scores", "labels"})), "CurationError for inputs without labels"),
        ("rounds", method(highest, rounds=other_rounds), "begin with its one choice"),
    ],
)
def test_a_broken_promise_is_named(check: str, broken: Method, words: str) -> None:
    with np.errstate(divide="ignore"), pytest.raises(ContractError, match=words):
        CHECKS[check](broken)


def test_a_parameter_that_is_not_keyword_only_is_refused() -> None:
    with pytest.raises(ValueError, match="parameter power of mine is positional or keyword"):
        check_method(method(positional))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ([0, 1, 2], "returned a list; expected a tamis.curation.Choice"),
        (Choice(np.array([0, 1, 1]), ONES), "each sample once; found 1 twice"),
        (Choice(np.array([0, 1, 9]), ONES), "samples of 0 to 8; found 0 to 9"),
        (Choice(np.array([0.0, 1, 2]), ONES), r"samples int64 \[3\]; found float64 \[3\]"),
        (Choice(np.arange(3), np.ones(3)), r"weights float32 \[3\]; found float64 \[3\]"),
        (Choice(np.arange(3), ONES, np.full(3, np.nan)), "finite scores"),
    ],
)
def test_a_choice_that_is_none_is_refused(choice: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_choice(choice, n=9, k=3, of="mine")
