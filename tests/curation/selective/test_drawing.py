"""Bernoulli draws."""

import numpy as np
import pytest

from tamis.curation.selective.drawing import draw


def test_draws_by_probability() -> None:
    generator = np.random.default_rng(0)
    drawn = np.mean([draw(np.array([0, 0.2, 0.9, 1, np.nan]), generator) for _ in range(4000)], axis=0)
    assert drawn[[0, 3, 4]].tolist() == [0, 1, 0]
    assert drawn[1:3] == pytest.approx([0.2, 0.9], abs=0.03)


def test_one_number_a_sample_whatever_it_is() -> None:
    """A NaN leaves the draws of the others as they were."""
    some = np.full(50, 0.5)
    one, other = draw(some, np.random.default_rng(5)), draw(np.where(np.arange(50) == 7, np.nan, some),
                                                            np.random.default_rng(5))  # fmt: skip
    assert (np.delete(one, 7) == np.delete(other, 7)).all()
