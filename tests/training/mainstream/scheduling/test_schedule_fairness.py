"""Max-min fairness against enumeration."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from workloads import budget_between, drawn, listed, values, workload

from tamis.training.mainstream.scheduling.costs import cheapest, cost, fits
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall
from tamis.training.mainstream.scheduling.fairness import fair, least_cost
from tamis.training.mainstream.scheduling.greedy import climb
from tamis.training.mainstream.scheduling.optimum import optimum
from tamis.training.mainstream.scheduling.workload import tabulate

seeds, shares = st.integers(0, 10**6), st.floats(0.0, 1.0)


@given(seed=seeds, share=shares, apps=st.integers(1, 4), bases=st.integers(1, 3))
@example(seed=4, share=0.4, apps=3, bases=3)
@example(seed=0, share=0.0, apps=1, bases=1)  # nobody can branch off
@settings(max_examples=25, deadline=None)
def test_no_schedule_has_a_greater_minimum(seed: int, share: float, apps: int, bases: int) -> None:
    table = drawn(seed, apps, options=3, rates=3, bases=bases)
    budget = budget_between(table, cheapest(table), share)
    everything, costs = listed(table)
    best = values(table, everything)[costs <= budget * (1 + 1e-9)].min(axis=1).max()
    found, _ = fair(table, budget)
    assert table.f1(found).min() == best
    assert fits(cost(table, found), budget)


@given(seed=seeds, apps=st.integers(1, 4), value=st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_least_cost_is_found_where_just_it_fits(seed: int, apps: int, value: float) -> None:
    """Within the least cost by enumeration a schedule is found, within a little less none is."""
    table = drawn(seed, apps, options=3, rates=3)
    everything, costs = listed(table)
    good = (values(table, everything) >= value).all(axis=1)
    if not good.any():
        assert least_cost(table, value, 1e9) is None
        return
    least = costs[good].min()
    found = least_cost(table, value, least)
    assert found is not None
    assert cost(table, found) == pytest.approx(least)
    assert (table.f1(found) >= value).all()
    assert least_cost(table, value, least * (1 - 1e-6)) is None


@pytest.mark.parametrize("seed", range(4))
def test_ten_applications(seed: int) -> None:
    """The minimum is at least the optimum's, the mean at most; what is left of the budget is used."""
    table = drawn(seed, 10, options=8, rates=6)
    budget = budget_between(table, cheapest(table), 0.4)
    found, moves = fair(table, budget)
    best = optimum(table, budget)
    assert table.f1(found).min() >= table.f1(best).min()
    assert table.f1(found).mean() <= table.f1(best).mean() + 1e-9
    floor = table.f1(found).min()
    assert climb(table.only(table.f1_NOR >= floor), budget, found)[1] == []
    assert all(move.gain > 0 for move in moves)


def test_nobody_and_too_little() -> None:
    nobody = tabulate(workload(0))
    found, moves = fair(nobody, 1.0)
    assert len(found.option_N) == len(moves) == 0
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.07"):
        fair(tabulate(workload(2)), 0.05)


def test_a_starved_application_is_helped_first() -> None:
    """Two equal applications: the mean may favour one, the minimum never does."""
    table = tabulate(workload(2))
    for budget in np.linspace(0.08, 0.5, 8):
        both = table.f1(fair(table, float(budget))[0])
        assert both.min() >= table.f1(optimum(table, float(budget))).min()
