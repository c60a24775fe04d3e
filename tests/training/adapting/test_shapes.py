"""Proposals as functions: the order of constraints, by hand."""

import numpy as np
import pytest

from tamis.curation.errors import CurationError
from tamis.curation.selective.priority import POINTS, Priority
from tamis.training.adapting.shapes import Shape


def test_the_four_values_are_those_at_the_shares_of_the_thesis() -> None:
    made = Shape("linear").priority((0.2, 0.5, 1.0, 0.4))
    assert made == Priority.linear((0.2, 0.5, 1.0, 0.4))
    assert made(POINTS).tolist() == [0.2, 0.5, 1.0, 0.4]
    assert made(0.65) == pytest.approx(0.75)
    assert Shape("cubic").priority((0.2, 0.5, 1.0, 0.4)).kind == "cubic"


@pytest.mark.parametrize(("form", "dimensions"), [("linear", 4), ("cubic", 4), ("beta", 2), ("steps", 10)])
def test_every_point_of_the_cube_but_zero_is_a_function(form: str, dimensions: int) -> None:
    for options in ({}, {"normalise": True}, {"levels": 10}, {"monotone": True}):
        shape = Shape(form, **options)  # type: ignore[arg-type]  # a form
        assert shape.dimensions == (1 if form == "beta" and options == {"monotone": True} else dimensions)
        for corner in (0.3, 1.0):
            values = shape.priority((corner,) * shape.dimensions)(np.linspace(0, 1, 11))
            assert values.min() >= 0
            assert values.max() <= 1


def test_beta_goes_from_flat_to_a_peak() -> None:
    assert Shape("beta").priority((0.0, 0.0)) == Priority.beta(1, 1)
    assert Shape("beta").priority((1.0, 0.5)).values == pytest.approx((10, 10**0.5))
    rising = Shape("beta", monotone=True).priority((0.5,))
    assert rising.values == pytest.approx((10**0.5, 1))
    assert np.all(np.diff(rising(np.linspace(0, 1, 50))) > 0)


def test_monotone_then_normalised_then_at_levels() -> None:
    """(.1, .4, .2, .6): the fall pools to (.1, .3, .3, .6); over .6 (1/6, .5, .5, 1); levels 0, .25, ... give .25."""
    proposal = (0.1, 0.4, 0.2, 0.6)
    assert Shape("linear", monotone=True).priority(proposal).values == pytest.approx((0.1, 0.3, 0.3, 0.6))
    both = Shape("linear", normalise=True, monotone=True).priority(proposal)
    assert both.values == pytest.approx((1 / 6, 0.5, 0.5, 1))
    coarse = Shape("linear", normalise=True, levels=5).priority((0.25, 0.5, 0.5, 0.75))
    assert coarse.values == (0.25, 0.75, 0.75, 1.0)  # 1/3, 2/3, 2/3, 1


def test_zero_everywhere_is_refused() -> None:
    for options in ({}, {"normalise": True}, {"levels": 2}):
        with pytest.raises(CurationError, match="nothing would be selected"):
            Shape("linear", **options).priority((0.0, 0.0, 0.0, 0.0))
    with pytest.raises(CurationError):
        Shape("steps", levels=2).priority((0.4,) * 10)  # all nearer to 0
