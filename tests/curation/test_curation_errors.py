"""The error classes: what they inherit, what they say, and that they survive pickling."""

import pickle

import pytest

from tamis.curation import METHODS, BudgetError, CurationError, NonFiniteError, UnknownMethodError, get_method

ERRORS = [
    CurationError("a reason"),
    BudgetError("a reason"),
    NonFiniteError("scores", 7, 9, [1, 2]),
    UnknownMethodError("magic", ["random", "uncertainty"]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_survives_pickling(error: CurationError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- made in the line itself
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_is_a_curation_error_and_a_value_error(error: CurationError) -> None:
    assert isinstance(error, CurationError)
    assert isinstance(error, ValueError)


def test_non_finite_values_are_counted_and_the_first_named() -> None:
    error = NonFiniteError("scores", 7, 9, [1, 2])
    assert (error.count, error.total, error.samples) == (7, 9, (1, 2))
    assert str(error).startswith("7 of 9 scores are NaN or infinite (samples 1, 2, ...); expected finite")
    assert "(samples 4);" in str(NonFiniteError("scores", 1, 9, [4]))


def test_an_unknown_method_is_a_key_error_that_lists_what_there_is() -> None:
    with pytest.raises(KeyError) as caught:
        get_method("magic")
    assert isinstance(caught.value, UnknownMethodError)
    assert str(caught.value) == f"unknown method 'magic'; there are: {', '.join(METHODS)}"
    assert "; did you mean uncertainty? There are: random" in str(
        UnknownMethodError("uncertanty", ["random", "uncertainty"])
    )
