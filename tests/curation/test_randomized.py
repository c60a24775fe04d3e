"""Random: uniform, without replacement, nested, with quotas."""

import numpy as np
import pytest

from tamis.curation.choice import Inputs
from tamis.curation.errors import BudgetError, CurationError
from tamis.curation.randomized import random, select_random


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_golden_samples() -> None:
    # A change here is a change of every stored random selection: raise the method's version with it.
    assert random(1000, k=8, generator=generator()).tolist() == [530, 26, 308, 799, 77, 171, 252, 812]


def test_choices_are_nested_for_one_seed() -> None:
    everything = random(50, k=50, generator=generator(3)).tolist()
    assert sorted(everything) == list(range(50))
    for k in (1, 7, 49):
        assert random(50, k=k, generator=generator(3)).tolist() == everything[:k]


def test_every_sample_and_every_pair_is_equally_likely() -> None:
    draws, source = 20_000, generator(1)
    together = np.zeros((5, 5))
    for _ in range(draws):
        chosen = random(5, k=2, generator=source)
        together[np.ix_(chosen, chosen)] += 1
    # A sample is in 2/5 of the draws and a pair in 1/10; five standard deviations either way.
    assert np.abs(np.diag(together) / draws - 0.4).max() < 5 * np.sqrt(0.24 / draws)
    pairs = together[np.triu_indices(5, 1)]
    assert np.abs(pairs / draws - 0.1).max() < 5 * np.sqrt(0.09 / draws)


def test_the_first_place_is_random_too() -> None:
    source = generator(2)
    first = [int(random(4, k=4, generator=source)[0]) for _ in range(4000)]
    assert np.abs(np.bincount(first) / 4000 - 0.25).max() < 5 * np.sqrt(0.1875 / 4000)


def test_quotas_by_class() -> None:
    labels = np.repeat([4, 9], [30, 10])
    chosen = random(40, k=8, generator=generator(), labels_N=labels, per_class=True)
    assert np.bincount(labels[chosen])[[4, 9]].tolist() == [6, 2]


def test_labels_alone_change_nothing() -> None:
    labels = np.repeat([4, 9], [30, 10])
    plain = random(40, k=8, generator=generator())
    assert random(40, k=8, generator=generator(), labels_N=labels).tolist() == plain.tolist()


def test_quotas_need_labels_for_every_sample() -> None:
    with pytest.raises(CurationError, match="needs labels"):
        random(4, k=2, generator=generator(), per_class=True)
    with pytest.raises(CurationError, match="expected one integer for each"):
        random(4, k=2, generator=generator(), labels_N=np.zeros(3, np.int64), per_class=True)
    with pytest.raises(CurationError, match="needs the labels"):
        select_random(Inputs(4), k=2, per_class=True, generator=generator())


@pytest.mark.parametrize(("n", "k"), [(4, 0), (4, 5), (4, -1), (0, 1), (0, 0)])
def test_a_budget_out_of_range_is_refused(n: int, k: int) -> None:
    with pytest.raises(BudgetError, match="expected"):
        random(n, k=k, generator=generator())


def test_the_method_chooses_what_the_function_does_and_does_not_rank() -> None:
    choice = select_random(Inputs(40), k=8, generator=generator(5))
    assert choice.samples.tolist() == random(40, k=8, generator=generator(5)).tolist()
    assert choice.weights.tolist() == [1.0] * 8
    assert choice.scores is None
