"""The optimum against enumeration and against CP-SAT; the greedy schedule and the baselines below it."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from workloads import budget_between, drawn, listed, values, workload

from tamis.training.mainstream.scheduling.baselines import max_sharing, no_sharing, unshared
from tamis.training.mainstream.scheduling.costs import cheapest, cost, fits
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall
from tamis.training.mainstream.scheduling.greedy import climb, greedy
from tamis.training.mainstream.scheduling.optimum import optimum
from tamis.training.mainstream.scheduling.table import Table
from tamis.training.mainstream.scheduling.workload import Application, Option, Workload, tabulate

seeds = st.integers(0, 10**6)
shares = st.floats(0.0, 1.0)


@pytest.mark.parametrize("apps", [1, 2, 3, 4])
@given(seed=seeds, share=shares, bases=st.integers(1, 3))
@example(seed=10, share=0.3, bases=3)
@settings(max_examples=10, deadline=None)
def test_nothing_is_better_than_the_optimum(apps: int, seed: int, share: float, bases: int) -> None:
    table = drawn(seed, apps, options=4 if apps < 4 else 3, rates=3, bases=bases)
    budget = budget_between(table, cheapest(table), share)
    everything, costs = listed(table)
    best = values(table, everything).sum(axis=1)[costs <= budget * (1 + 1e-9)].max()
    found = optimum(table, budget)
    assert fits(cost(table, found), budget)
    assert table.f1(found).sum() == pytest.approx(best, abs=2e-9)


@given(seed=seeds, share=shares, more=shares, apps=st.integers(1, 10), bases=st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_what_holds_of_every_workload(seed: int, share: float, more: float, apps: int, bases: int) -> None:
    """The greedy schedule is at most the optimum, neither exceeds its budget, more budget is never worse."""
    table = drawn(seed, apps, options=6, rates=5, bases=bases)
    lowest = cheapest(table)
    small, large = sorted(budget_between(table, lowest, s) for s in (share, more))
    best, richer = optimum(table, small), optimum(table, large)
    for stop in (False, True):
        schedule, moves = greedy(table, small, stop_at_first=stop)
        assert fits(cost(table, schedule), small)
        assert table.f1(schedule).sum() <= table.f1(best).sum() + 1e-9
        assert sum(m.gain for m in moves) == pytest.approx(table.f1(schedule).sum() - table.f1(lowest).sum())
        assert sum(m.added for m in moves) == pytest.approx(cost(table, schedule) - cost(table, lowest))
    assert fits(cost(table, best), small)
    assert table.f1(richer).sum() >= table.f1(best).sum() - 1e-9


@given(seed=seeds, share=shares, apps=st.integers(1, 6))
@settings(max_examples=10, deadline=None)
def test_no_fitting_move_that_gains_is_left(seed: int, share: float, apps: int) -> None:
    table = drawn(seed, apps)
    budget = budget_between(table, cheapest(table), share)
    schedule, _ = greedy(table, budget)
    assert climb(table, budget, schedule)[1] == []


@given(seed=seeds, share=shares)
@settings(max_examples=10, deadline=None)
def test_baselines_are_the_best_of_their_kind(seed: int, share: float) -> None:
    table = drawn(seed, apps=3, options=3)
    budget = budget_between(table, cheapest(table), share)
    everything, costs = listed(table)
    branch = table.branch_NO[np.arange(3), everything[..., 0]]
    deepest = np.where(np.isfinite(table.f1_NOR[:, :, 0]), table.branch_NO, -1).max(axis=1)
    allowed = (branch == deepest).all(axis=1) & (costs <= budget * (1 + 1e-9))
    best = values(table, everything)[allowed].sum(axis=1).max()
    assert table.f1(max_sharing(table, budget)).sum() == pytest.approx(best, abs=2e-9)
    alone = unshared(table)
    everything, costs = listed(alone)
    allowed = costs <= budget * (1 + 1e-9)
    if fits(cost(alone, cheapest(alone)), budget):
        best = values(alone, everything)[allowed].sum(axis=1).max()
        assert table.f1(no_sharing(table, budget)).sum() == pytest.approx(best, abs=2e-9)
    else:
        with pytest.raises(BudgetTooSmall, match="No-Sharing at the lowest rate needs"):
            no_sharing(table, budget)


def test_what_one_runs_alone_costs_its_whole_model() -> None:
    table = drawn(3, apps=4, options=3)
    depth = np.append(0.0, np.cumsum(table.segments_T))
    assert unshared(table).seconds_NO == pytest.approx(table.seconds_NO + depth[table.branch_NO])


def test_models_are_switched_where_that_pays() -> None:
    """Figure 5.7's other way: whole models of several architectures, a fast one where there are many applications."""
    models = (Option(0, 0.95, 0.01, 0.97, seconds=0.2), Option(0, 0.8, 0.02, 0.9, seconds=0.02))
    events = workload(1).applications[0].events
    apps = [Application(f"a{n}", "none", events, models) for n in range(4)]
    few = tabulate(Workload((apps[0],), {"none": ()}, (1.0, 2.0, 4.0)))
    many = tabulate(Workload(tuple(apps), {"none": ()}, (1.0, 2.0, 4.0)))
    assert no_sharing(few, 0.9).option_N.tolist() == [0]
    assert (no_sharing(many, 0.4).option_N == 1).all()


@pytest.mark.parametrize("seed", range(6))
def test_cp_sat_finds_nothing_better(seed: int) -> None:
    """At ten applications; costs are whole numbers and F1 in thousandths, so that both are exact."""
    cp_model = pytest.importorskip(
        "ortools.sat.python.cp_model", reason="needs OR-tools: pip install 'tamis[schedule]'"
    )
    table = drawn(seed, apps=10, options=8, rates=6, bases=1 + seed % 2, whole=True)
    budget = float(int(budget_between(table, cheapest(table), 0.15 + 0.1 * seed)))
    assert round(1000 * table.f1(optimum(table, budget)).sum()) == _cp_sat(cp_model, table, int(budget))


def _cp_sat(cp_model, table: Table, budget: int) -> int:  # a module that may not be there
    """The best sum of F1 in thousandths."""
    model = cp_model.CpModel()
    stems = [model.new_int_var(0, int(table.rates_R[-1]), f"m{t}") for t in range(len(table.segments_T))]
    spent, worth = [int(s) * m for s, m in zip(table.segments_T, stems, strict=True)], []
    for n in range(len(table)):
        picks = []
        for o, r in np.argwhere(np.isfinite(table.f1_NOR[n])):
            pick = model.new_bool_var(f"x{n}.{o}.{r}")
            picks.append(pick)
            rate = int(table.rates_R[r])
            for t in range(table.first_N[n], table.end_NO[n, o]):
                model.add(stems[t] >= rate).only_enforce_if(pick)
            spent.append(int(table.private_NOR[n, o, r]) * pick)
            worth.append(round(1000 * table.f1_NOR[n, o, r]) * pick)
        model.add_exactly_one(picks)
    model.add(sum(spent) <= budget)
    model.maximize(sum(worth))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(model) == cp_model.OPTIMAL
    return round(solver.objective_value)
