"""Greedy moves: worked by hand, and what the second start and skipping are for."""

import numpy as np
import pytest
from workloads import drawn, workload

from tamis.training.mainstream.scheduling.costs import cheapest, cost
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall
from tamis.training.mainstream.scheduling.greedy import greedy
from tamis.training.mainstream.scheduling.optimum import optimum
from tamis.training.mainstream.scheduling.table import Table
from tamis.training.mainstream.scheduling.workload import tabulate


def table(f1: list[list[list[float]]], branches: list[int], segments: list[float]) -> Table:
    """Applications with the same branches; own layers are the rest of the base and a head of 1."""
    worth = np.array(f1)
    rest = [sum(segments[b:]) + 1.0 for b in branches]
    n = len(f1)
    return Table(
        np.arange(1.0, worth.shape[2] + 1), np.array(segments), np.array([0]), np.zeros(n, np.int64),
        np.array([branches] * n), np.array([rest] * n), worth, worth, worth, np.ones(worth.shape, np.int64),
    )  # fmt: skip


def test_by_gain_over_added_cost() -> None:
    """Segments 4 and 2, heads of 1: Max-Sharing at 1 costs 6 + 2 = 8.

    The first application unshared at 1 adds 6 for .3, at rate 2 it adds 7 for .1. The second after one segment adds 2
    for .2, at rate 2 it adds 7 for .4, and both together 4 (stem) + 5 (own: 2 x 3 in place of 1) = 9 for .41. The best
    ratio is .2 / 2. Then the first unshared: 6 for .3, against 4 (stem) + 3 (own) = 7 for .21. With 16 all is spent.
    """
    worth = [[[0.6, 0.0], [0.0, 0.0], [0.3, 0.4]], [[0.0, 0.0], [0.5, 0.71], [0.3, 0.7]]]
    given = table(worth, [0, 1, 2], [4.0, 2.0])
    schedule, moves = greedy(given, 16.0, starts="lowest")
    assert cost(given, cheapest(given)) == 8
    assert [(m.application, m.option, m.rate) for m in moves] == [(1, 1, 0), (0, 0, 0)]
    assert [m.gain for m in moves] == pytest.approx([0.2, 0.3])
    assert [m.added for m in moves] == [2, 4]
    assert cost(given, schedule) == 14


def test_what_costs_nothing_goes_first() -> None:
    """A segment that takes no time: not sharing it is free, and goes before a gain of any ratio."""
    given = table([[[0.8, 0.8], [0.1, 0.9]]], [0, 1], [0.0])
    _, moves = greedy(given, 1.0, starts="lowest")
    assert [(m.option, m.rate, m.why, m.added) for m in moves] == [(0, 0, "free", 0.0)]


def test_a_move_that_does_not_fit_is_skipped_or_ends_it() -> None:
    """The first application's move has the better ratio and does not fit; the second's does."""
    worth = [[[0.0, 0.9]], [[0.0, 0.1]]]
    given = table(worth, [0], [])
    given = Table(
        **{**{k: getattr(given, k) for k in given.__dataclass_fields__}, "seconds_NO": np.array([[3.0], [1.0]])}
    )
    skipping, moves = greedy(given, 5.0)
    assert skipping.rate_N.tolist() == [0, 1]
    assert [(m.application, m.skipped) for m in moves] == [(1, 1)]
    stopped, moves = greedy(given, 5.0, stop_at_first=True)
    assert stopped.rate_N.tolist() == [0, 0]
    assert moves == []


def test_a_faster_stem_that_pays_for_all_but_for_none_alone() -> None:
    """A stem of 10 and three heads of 1: 13 at rate 1. Raising the stem for one adds 11 for .5; a private model adds 10
    for .6, after which nothing else fits. With all at rate 2 it is 26, and 1.5 in all."""
    worth = [[[0.6, 0.6], [0.0, 0.5]]] * 3
    given = table(worth, [0, 1], [10.0])
    lowest, _ = greedy(given, 27.0, starts="lowest")
    both, moves = greedy(given, 27.0)
    assert given.f1(lowest).sum() == pytest.approx(0.6)
    assert given.f1(both).sum() == pytest.approx(1.5)
    assert [m.why for m in moves] == ["start"] * 3
    assert [m.added for m in moves] == [11, 1, 1]
    assert given.f1(optimum(given, 27.0)).sum() == pytest.approx(1.5)


@pytest.mark.parametrize("seed", range(8))
def test_two_starts_are_no_worse_than_one(seed: int) -> None:
    given = drawn(seed, 8, options=6, rates=5)
    budget = 1.5 * cost(given, cheapest(given))
    both, one = (given.f1(greedy(given, budget, starts=s)[0]).sum() for s in ("both", "lowest"))
    assert both >= one
    assert greedy(given, budget)[1] == greedy(given, budget)[1]


def test_too_small_a_budget_says_what_is_needed() -> None:
    given = tabulate(workload(3))
    with pytest.raises(
        BudgetTooSmall, match=r"0\.05 is too small: Max-Sharing at the lowest rate needs 0\.07;"
    ) as error:
        greedy(given, 0.05)
    assert error.value.needed == pytest.approx(0.07)
    greedy(given, error.value.needed)


def test_without_applications_there_is_nothing_to_do() -> None:
    schedule, moves = greedy(tabulate(workload(0)), 1.0)
    assert len(schedule.option_N) == len(moves) == 0
