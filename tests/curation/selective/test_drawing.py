"""Bernoulli draws, and training batches that are filled by them."""

import numpy as np
import pytest

from tamis.curation import CurationError
from tamis.curation.selective.drawing import draw
from tamis.curation.selective.filling import Filling


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


def test_full_batches_in_the_order_of_arrival() -> None:
    generator, filling = np.random.default_rng(0), Filling(16)
    images, labels, sizes, expected = [], [], [], []
    for batch in range(30):
        chosen, numbers = generator.random(generator.integers(1, 60)) < 0.4, None
        numbers = np.arange(len(chosen)) + 100 * batch
        expected += numbers[chosen].tolist()
        for image, label in filling.put(chosen, numbers[:, None] * np.ones((1, 3), np.int64), numbers):
            images += image.tolist()
            labels += label.tolist()
            sizes.append(len(label))
    assert set(sizes) == {16}
    assert len(filling) == len(expected) % 16
    left = filling.rest()[1].tolist()
    assert labels + left == expected
    assert [image[2] for image in images] == labels
    assert len(filling) == 0


def test_filling_refuses_what_does_not_fit() -> None:
    with pytest.raises(CurationError, match="at least 1"):
        Filling(0)
    filling, yes = Filling(4), np.array([True])
    assert filling.rest() == ()
    list(filling.put(yes, np.zeros((1, 3), np.uint8)))
    with pytest.raises(CurationError, match="take the rest first"):
        list(filling.put(yes, np.zeros((1, 2), np.uint8)))
    filling.rest()
    assert next(filling.put(np.ones(4, bool), np.zeros((4, 2), np.uint8)))[0].shape == (4, 2)
