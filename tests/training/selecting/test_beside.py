"""A random selection to compare with has the sizes and epochs of the other one, whatever that was chosen by."""

import pytest
from numbered import Select

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.selecting.beside import random_beside
from tamis.training.selecting.by_scores import select as choose


def test_as_many_samples_from_the_same_epochs_drawn_anew(store: Store, sixty: Dataset, select: Select) -> None:
    chosen = select(sixty, (0, range(12)), (5, range(20, 32)), (10, range(40, 52)))
    made = choose(store, random_beside(chosen)).selection
    assert (made.name, made.method) == ("chosen-random", "random")
    assert [(r.first_epoch, r.size) for r in made.rounds] == [(0, 12), (5, 12), (10, 12)]
    assert len({tuple(samples.tolist()) for samples, _ in made.read_rounds()}) == 3


def test_within_each_class_where_the_other_did(store: Store, sixty: Dataset, select: Select) -> None:
    made = choose(store, random_beside(select(sixty, (0, range(12))), per_class=True)).selection
    assert sorted((made.round_at(0)[0] % 3).tolist()) == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize(
    "rounds",
    [((0, range(60)), (4, range(12))), ((0, range(12)), (5, range(12)), (8, range(12))), ((3, range(12)),)],
)
def test_rounds_that_differ_have_none_beside_them(sixty: Dataset, select: Select, rounds: tuple) -> None:
    with pytest.raises(ValueError, match="expected rounds of one size and length"):
        random_beside(select(sixty, *rounds))
