"""Random and RandomPB: uniform, without replacement, nested, with quotas, round after round."""

from itertools import islice

import numpy as np
import pytest

from tamis.curation.contract import Inputs
from tamis.curation.errors import BudgetError, CurationError
from tamis.curation.randomized import (
    fixed_batches,
    random,
    random_batch_rounds,
    random_batches,
    random_rounds,
    select_random,
    select_random_batches,
)


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


def test_rounds_of_random_differ_and_begin_with_random() -> None:
    rounds = list(islice(random_rounds(50, k=5, generator=generator(1)), 40))
    assert rounds[0].tolist() == random(50, k=5, generator=generator(1)).tolist()
    again = list(islice(random_rounds(50, k=5, generator=generator(1)), 40))
    assert all(np.array_equal(a, b) for a, b in zip(rounds, again, strict=True))
    assert len({tuple(samples.tolist()) for samples in rounds}) == 40
    counts = np.bincount(np.concatenate(rounds), minlength=50)
    assert np.abs(counts - 4).max() < 5 * np.sqrt(40 * 0.1 * 0.9)


def test_rounds_of_random_keep_the_quotas() -> None:
    labels = np.repeat([4, 9], [30, 10])
    for samples in islice(random_rounds(40, k=8, generator=generator(), labels_N=labels, per_class=True), 5):
        assert np.bincount(labels[samples])[[4, 9]].tolist() == [6, 2]


class TestRandomPB:
    def test_golden_samples(self) -> None:
        # A change here is a change of every stored random-pb selection: raise the method's version with it.
        samples = random_batches(1000, k=8, batch_size=5, generator=generator())
        assert samples.tolist() == [528, 65, 914, 285, 102, 946, 464, 403]

    @pytest.mark.parametrize(("n", "size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 9, [3]), (2, 1, [1, 1])])
    def test_the_partition_holds_each_sample_once(self, n: int, size: int, sizes: list[int]) -> None:
        batches = fixed_batches(n, batch_size=size, generator=generator())
        assert [len(batch) for batch in batches] == sizes
        assert sorted(np.concatenate(batches).tolist()) == list(range(n))

    @pytest.mark.parametrize("k", [1, 4, 5, 9, 12, 13, 22, 23])
    def test_whole_batches_and_the_last_one_cut(self, k: int) -> None:
        batches = [batch.tolist() for batch in fixed_batches(23, batch_size=4, generator=generator(7))]
        samples = random_batches(23, k=k, batch_size=4, generator=generator(7)).tolist()
        assert len(samples) == len(set(samples)) == k
        while samples:
            (batch,) = (batch for batch in batches if batch[0] == samples[0])
            assert samples[: len(batch)] == batch[: len(samples)]
            samples = samples[len(batch) :]

    def test_choices_are_nested_for_one_seed(self) -> None:
        everything = random_batches(23, k=23, batch_size=4, generator=generator(3)).tolist()
        for k in range(1, 23):
            assert random_batches(23, k=k, batch_size=4, generator=generator(3)).tolist() == everything[:k]

    def test_rounds_choose_among_the_same_batches_alike_often(self) -> None:
        draws = 4000
        batches = fixed_batches(20, batch_size=4, generator=generator(5))
        together = np.zeros((20, 20))
        for samples in islice(random_batch_rounds(20, k=8, batch_size=4, generator=generator(5)), draws):
            together[np.ix_(samples, samples)] += 1
        of = np.empty(20, np.int64)
        for number, batch in enumerate(batches):
            of[batch] = number
        same = of[:, None] == of[None, :]
        # A batch is in 2/5 of the rounds and two batches together in 1/10; five standard deviations either way.
        assert np.abs(together[same] / draws - 0.4).max() < 5 * np.sqrt(0.24 / draws)
        assert np.abs(together[~same] / draws - 0.1).max() < 5 * np.sqrt(0.09 / draws)

    def test_the_method_chooses_what_the_function_does(self) -> None:
        choice = select_random_batches(Inputs(40), k=9, batch_size=4, generator=generator(5))
        assert choice.samples.tolist() == random_batches(40, k=9, batch_size=4, generator=generator(5)).tolist()
        assert choice.weights.tolist() == [1.0] * 9
        assert choice.scores is None

    def test_bad_input_is_refused(self) -> None:
        for k in (0, 41, -1):
            with pytest.raises(BudgetError, match="expected"):
                random_batches(40, k=k, generator=generator())
        with pytest.raises(CurationError, match="batch_size is 0"):
            random_batches(40, k=4, batch_size=0, generator=generator())
