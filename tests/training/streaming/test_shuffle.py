"""The order: a bijection for every n, the same for ever, and shuffled enough."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.training.streaming.shuffle import BLOCK, EpochOrder, order_key, permute

KEYS = st.integers(0, 2**256 - 1)


@given(n=st.integers(0, 3000), key=KEYS)
def test_is_a_permutation(n: int, key: int) -> None:
    found = permute(np.arange(n), n, key)
    assert found.dtype == np.int64
    assert np.array_equal(np.sort(found), np.arange(n))


@given(bits=st.integers(5, 62), around=st.integers(-2, 2), key=KEYS, data=st.data())
def test_is_injective_and_in_range_at_any_size(bits: int, around: int, key: int, data: st.DataObject) -> None:
    n = 2**bits + around
    positions = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=50, unique=True)))
    found = permute(positions, n, key)
    assert found.min() >= 0
    assert found.max() < n
    assert len(np.unique(found)) == len(positions)


@pytest.mark.parametrize("n", [2**16 - 1, 2**16, 2**16 + 1, 100_003])
def test_is_a_permutation_over_several_chunks(n: int) -> None:
    seen = np.zeros(n, bool)
    seen[permute(np.arange(n), n, 3)] = True
    assert seen.all()


@given(n=st.integers(1, 10**12), key=KEYS, data=st.data())
def test_a_position_does_not_depend_on_its_company(n: int, key: int, data: st.DataObject) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=40)))
    together = permute(positions, n, key)
    assert together.tolist() == [int(permute(np.array([p]), n, key)[0]) for p in positions]


def test_golden_values() -> None:
    # Published orders must come out the same for ever: a change here breaks every run that is to be repeated.
    key = order_key("3f", seed=1, epoch=2)
    assert key >> 192 == 0xD0E29025C6347076
    assert permute(np.arange(10), 10, 0).tolist() == [4, 5, 3, 1, 6, 8, 9, 0, 7, 2]
    billion = permute(np.arange(5), 10**9, 12345)
    assert billion.tolist() == [588699929, 66874609, 836706325, 850810417, 406935974]
    assert permute(np.array([0, 2**40]), 2**50, key).tolist() == [327000392553579, 770471742625332]


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_order_of_a_few_is_equally_likely(n: int) -> None:
    draws = 600
    found = Counter(tuple(permute(np.arange(n), n, order_key("k", seed, 0)).tolist()) for seed in range(draws))
    expected = draws / math.factorial(n)
    statistic = sum((found[order] - expected) ** 2 / expected for order in found)
    assert len(found) == math.factorial(n)
    assert statistic < (math.factorial(n) - 1) + 4 * math.sqrt(2 * (math.factorial(n) - 1))


def test_neighbours_are_torn_apart() -> None:
    n = 50_000
    order = permute(np.arange(n), n, 7)
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 0.02
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.02
    # Samples that lie together (one class, one shard) are spread evenly over the epoch: chi-square over 50 bins.
    counts = np.bincount(np.flatnonzero(order < n // 10) * 50 // n, minlength=50)
    assert ((counts - 100) ** 2 / 90).sum() < 100


def test_keys_of_seed_and_epoch_differ() -> None:
    # seed + epoch would make (0, 1) and (1, 0) the same.
    assert len({order_key(s, a, b) for s in ("x", "y") for a in range(5) for b in range(5)}) == 50


@pytest.mark.parametrize(("n", "positions"), [(-1, []), (2**63 + 1, []), (3, [3]), (3, [-1]), (0, [0])])
def test_refuses_what_is_out_of_range(n: int, positions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        permute(np.array(positions, np.int64), n, 0)


def test_blocks_are_the_order_in_pieces() -> None:
    order = EpochOrder("k", 2 * BLOCK + 17, seed=3, epoch=4)
    whole = order.at(np.arange(order.n))
    assert np.array_equal(np.concatenate(list(order.blocks())), whole)
    assert np.array_equal(np.concatenate(list(order.blocks(5, 1000, 7))), whole[5:1000:7])
    assert max(len(b) for b in order.blocks()) == BLOCK


def test_the_order_begins_again_after_its_end() -> None:
    order = EpochOrder("k", 5, seed=0, epoch=0)
    assert np.array_equal(order.at(np.arange(12)), np.tile(order.at(np.arange(5)), 3)[:12])


def test_without_shuffling_positions_are_samples() -> None:
    assert EpochOrder("k", 5, 0, 0, shuffle=False).at(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
