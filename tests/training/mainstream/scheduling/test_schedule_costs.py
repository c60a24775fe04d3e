"""Costs over shared trees: the thesis's example, and the authors' rule on random schedules."""

import numpy as np
import pytest
from workloads import drawn, listed

from tamis.training.mainstream.scheduling.costs import cheapest, cost, fits, stem_rates
from tamis.training.mainstream.scheduling.table import Schedule, Table


def of(
    branches: list[list[int]], rates: list[float], segments: list[float], starts: list[int], tree: list[int]
) -> Table:
    """A table in which only costs matter."""
    branch = np.array(branches, np.int64).reshape(len(tree), len(branches[0]) if branches else 0)
    ends = [*starts[1:], len(segments)]
    rest = [[sum(segments[starts[t] + b : ends[t]]) for b in row] for t, row in zip(tree, branch, strict=True)]
    worth = np.zeros((*branch.shape, len(rates)))
    return Table(
        np.array(rates), np.array(segments), np.array(starts), np.array(tree, np.int64), branch,
        np.array(rest).reshape(branch.shape), worth, worth, worth, worth.astype(np.int64),
    )  # fmt: skip


def at(options: list[int], rates: list[int]) -> Schedule:
    return Schedule(np.array(options, np.int64), np.array(rates, np.int64))


def test_the_example_of_the_thesis() -> None:
    """F C_A + 2 F C_B; a third application at the same branch and rate adds F C_B."""
    fps, stem, rest = 5.0, 3.0, 0.25
    two = of([[1], [1]], [fps], [stem, rest], [0], [0, 0])
    three = of([[1], [1], [1]], [fps], [stem, rest], [0], [0, 0, 0])
    assert cost(two, at([0, 0], [0, 0])) == pytest.approx(fps * stem + 2 * fps * rest)
    assert cost(three, at([0] * 3, [0] * 3)) - cost(two, at([0] * 2, [0] * 2)) == pytest.approx(fps * rest)


def test_a_segment_runs_at_the_highest_rate_of_those_that_share_it() -> None:
    """Segments 4, 2, 1. The first branches after one at rate 3, the second after all at 1, the third shares nothing."""
    table = of([[1], [3], [0]], [1.0, 2.0, 3.0], [4.0, 2.0, 1.0], [0], [0, 0, 0])
    schedule = at([0, 0, 0], [2, 0, 1])
    assert stem_rates(table, schedule).tolist() == [3, 1, 1]
    assert cost(table, schedule) == 4 * (3 + 2) + 2 * (1 + 3 + 2) + 1 * (1 + 3 + 2)


def test_bases_share_nothing() -> None:
    one = of([[2], [2]], [2.0], [3.0, 1.0], [0], [0, 0])
    two = of([[2], [2]], [2.0], [3.0, 1.0, 3.0, 1.0], [0, 2], [0, 1])
    assert cost(one, at([0, 0], [0, 0])) == 8
    assert cost(two, at([0, 0], [0, 0])) == 16


def test_nothing_costs_nothing() -> None:
    assert cost(of([], [1.0], [3.0], [0], []), at([], [])) == 0


@pytest.mark.parametrize("seed", range(10))
def test_every_schedule_costs_what_the_rule_says(seed: int) -> None:
    table = drawn(seed, apps=3, options=3, rates=2, bases=1 + seed % 2)
    everything, expected = listed(table)
    some = np.random.default_rng(seed).choice(len(everything), min(40, len(everything)), replace=False)
    found = [cost(table, Schedule(everything[i, :, 0], everything[i, :, 1])) for i in some]
    assert found == pytest.approx(expected[some])


def test_max_sharing_is_the_deepest_branch_at_the_lowest_rate() -> None:
    table = of([[0, 2, 1], [1, 0, 1]], [1.0, 2.0], [4.0, 2.0], [0], [0, 0])
    schedule = cheapest(table)
    assert schedule.option_N.tolist() == [1, 0]
    assert schedule.rate_N.tolist() == [0, 0]


def test_a_budget_is_kept_up_to_rounding() -> None:
    assert fits(0.1 + 0.2, 0.3)
    assert not fits(0.3001, 0.3)
