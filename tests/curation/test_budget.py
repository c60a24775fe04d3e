"""Budgets as people write them, and their division among classes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.curation.budget import check_count, proportional_quotas, resolve_budget
from tamis.curation.errors import BudgetError


@pytest.mark.parametrize(
    ("budget", "n", "k"),
    [
        ("40%", 50_000, 20_000),
        ("40 %", 50_000, 20_000),
        (" 40\t% ", 50_000, 20_000),
        ("12.5%", 80, 10),
        (".5%", 1000, 5),
        ("100%", 7, 7),
        ("1/300", 86_400, 288),
        ("2/3", 9, 6),
        ("1/1", 7, 7),
        (0.4, 50_000, 20_000),
        ("0.4", 50_000, 20_000),
        (np.float32(0.4), 50_000, 20_000),
        (1.0, 7, 7),
        ("1.0", 7, 7),
        (1000, 50_000, 1000),
        ("1000", 50_000, 1000),
        (np.int64(3), 7, 3),
        (1, 7, 1),  # an integer is a count, so 1 and 1.0 differ
        (7, 7, 7),
        ("25%", 2, 1),  # half a sample is rounded up
        ("25%", 10, 3),  # 2.5, where rounding to even would give 2
        ("35%", 10, 4),  # 3.5
        (0.35, 10, 4),  # 3.5 by its digits, though the float lies below 0.35
        ("24%", 10, 2),
        ("0.001%", 100, 1),  # never rounded down to nothing
        (1e-9, 100, 1),
    ],
)
def test_a_budget_comes_to_that_many_samples(budget: str | float, n: int, k: int) -> None:
    assert resolve_budget(budget, n) == k


@pytest.mark.parametrize(
    "budget",
    [
        *(0, -1, 0.0, -0.4, "0", "0%", "0.0", "-40%", "-3"),
        *(101, "101", 1.5, 1000.0, "140 %", "100.1%", "1.01", 10**30, "9" * 30),
        *("abc", "", " ", "%", ".", "40%%", "forty", "4 0", "1e3", "1_000", "1,000", "٤٠%", "nan", "inf"),
        *("1/0", "0/3", "1/", "1/2%", "3/2", "1 / 2"),
        *(float("nan"), float("inf"), float("-inf"), True, False, np.True_, None, [40], 40j),
    ],
)
def test_anything_else_is_refused_with_what_was_given_and_what_is_allowed(budget: object) -> None:
    with pytest.raises(BudgetError) as caught:
        resolve_budget(budget, 100)
    message = str(caught.value)
    assert "expected" in message
    assert repr(budget) in message or str(budget) in message


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(BudgetError, match="there are 0 candidates"):
        resolve_budget("40%", 0)


@given(percent=st.integers(1, 100), n=st.integers(1, 10**9))
def test_percentages_round_half_up(percent: int, n: int) -> None:
    k = resolve_budget(f"{percent}%", n)
    assert k == max(1, (2 * percent * n + 100) // 200)
    assert abs(k - Fraction(percent * n, 100)) <= max(Fraction(1, 2), 1 - Fraction(percent * n, 100))


@given(hundredths=st.integers(1, 10_000), n=st.integers(1, 10**6))
def test_a_fraction_and_the_percentage_it_is_agree(hundredths: int, n: int) -> None:
    percentage = f"{hundredths // 100}.{hundredths % 100:02d}%"
    assert resolve_budget(hundredths / 10_000, n) == resolve_budget(percentage, n)


@pytest.mark.parametrize("k", [0, -1, 6, True, 2.0, "2", None, np.True_])
def test_a_count_out_of_range_or_of_another_type_is_refused(k: object) -> None:
    with pytest.raises(BudgetError, match="expected"):
        check_count(k, 5)


def test_a_count_in_range_is_an_int() -> None:
    assert type(check_count(np.int32(5), 5)) is int


@pytest.mark.parametrize(
    ("sizes", "k", "quotas"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([4, 4, 4], 4, [2, 1, 1]),  # equal remainders: the earlier class first
        ([7, 2, 1], 5, [4, 1, 0]),  # 3.5, 1, .5: the one place left goes to the earlier half
        ([1, 1, 98], 2, [0, 0, 2]),  # .02, .02, 1.96
        ([3, 5], 8, [3, 5]),
        ([9], 4, [4]),
    ],
)
def test_quotas_by_largest_remainder(sizes: list[int], k: int, quotas: list[int]) -> None:
    assert proportional_quotas(np.array(sizes), k).tolist() == quotas


@given(sizes=st.lists(st.integers(1, 10**8), min_size=1, max_size=30), data=st.data())
def test_quotas_sum_to_k_and_stay_within_one_of_their_share(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    k = data.draw(st.integers(1, total))
    quotas = proportional_quotas(np.array(sizes), k).tolist()
    assert sum(quotas) == k
    for size, quota in zip(sizes, quotas, strict=True):
        assert 0 <= quota <= size
        assert abs(quota - Fraction(k * size, total)) < 1
