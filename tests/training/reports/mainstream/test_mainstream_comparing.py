"""Drawn workloads: what each mode reaches against trying everything, and what a figure says of it."""

import numpy as np
import pytest
from curvekit import written
from hypothesis import given, settings
from hypothesis import strategies as st
from workloads import listed, values

from tamis.training.errors import ReportError
from tamis.training.mainstream.scheduling.baselines import deepest, unshared
from tamis.training.mainstream.scheduling.table import Table
from tamis.training.reports.mainstream.charts import Chart
from tamis.training.reports.mainstream.comparing import by_applications, by_budget, by_correlation, by_votes
from tamis.training.reports.mainstream.tasks import Tasks, published
from tamis.training.reports.mainstream.workloads import MODES, Settings, drawn

SMALL = Settings(applications=(1, 2), setups=2, rates=(1.0, 2.0, 4.0), slow=(0.5,), budget=20.0)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    return published(written(tmp_path_factory.mktemp("curves")))


def best(table: Table, budget: float) -> float:
    """The best mean F1 of all schedules within a budget."""
    everything, total = listed(table)
    fits = total <= budget * (1 + 1e-9)
    return float(values(table, everything)[fits].mean(axis=1).max())


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([10.0, 16.0, 30.0, 100.0]))
def test_modes_against_trying_everything(tasks: Tasks, setup: int, budget: float) -> None:
    """The baselines are the best of their kind; Mainstream is no better than the best, and is what it says it is."""
    one = drawn(tasks, 2, SMALL, setup)
    (found,) = one.reached((budget,))
    fast, slow = one.table(), one.table(slow=True)
    assert found["No-Sharing"] is not None
    assert found["Max-Sharing"] is not None
    assert found["Mainstream"] is not None
    assert found["No-Sharing"].f1 == pytest.approx(best(unshared(slow), budget))
    assert found["Max-Sharing"].f1 == pytest.approx(best(deepest(fast), budget))
    assert best(fast, budget) * 0.8 <= found["Mainstream"].f1 <= best(fast, budget) + 1e-9
    for reached in found.values():
        assert reached is not None
        assert max(reached.recall, reached.precision, reached.accuracy) <= 1
        assert 0.5 <= reached.fps <= 4


def test_workloads_are_drawn_from_the_ranges_and_repeat(tasks: Tasks) -> None:
    wanted = Settings(lengths=(0.5, 2), frequencies=(0.2, 0.3), correlations=(0.4, 0.4), setups=1, seed=3)
    one, again = (drawn(tasks, 40, wanted, 7) for _ in range(2))
    assert one.apps == again.apps
    assert {task for task, _ in one.apps} == {0, 1}
    lengths = [events.average for _, events in one.apps]
    assert 0.5 <= min(lengths) < 0.8 < 1.7 < max(lengths) <= 2
    assert all(0.2 <= e.frequency <= 0.3 and e.correlation == 0.4 and e.minimum == e.average for _, e in one.apps)
    other = drawn(tasks, 40, wanted, 7, correlation=1.0)
    assert [(t, e.average, e.frequency) for t, e in other.apps] == [(t, e.average, e.frequency) for t, e in one.apps]
    assert {e.correlation for _, e in other.apps} == {1.0}
    assert drawn(tasks, 40, wanted, 8).apps != one.apps


def test_by_applications(tasks: Tasks) -> None:
    told = list[tuple[int, int]]()
    chart = by_applications(tasks, SMALL, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [panel.upwards for panel in chart.panels] == ["F1", "recall", "precision", "frames a second"]
    assert [(row["applications"], row["mode"]) for row in chart.rows] == [(n, m) for n in (1, 2) for m in MODES]
    means = [drawn(tasks, 2, SMALL, setup).reached((20.0,))[0]["Mainstream"] for setup in (0, 1)]
    row = chart.rows[3]
    assert row["f1"] == pytest.approx(np.mean([one.f1 for one in means if one is not None]))
    assert chart.panels[0].lines[0].y[1] == row["f1"]
    assert chart.notes == ()


def test_a_mode_that_does_not_fit_counts_as_nothing(tasks: Tasks) -> None:
    """Two whole models at half a frame a second take 8 units; two that share all but the head take 9 at one frame."""
    chart = by_budget(
        tasks, Settings(several=2, setups=2, rates=(1.0, 2.0), slow=(0.5,), budgets=(7.9, 8.0, 9.0)), print
    )
    rows = {(row["budget"], row["mode"]): row for row in chart.rows}
    assert rows[7.9, "No-Sharing"]["f1"] == rows[7.9, "No-Sharing"]["fits"] == 0
    assert (rows[8.0, "No-Sharing"]["fits"], rows[8.0, "Max-Sharing"]["fits"]) == (1, 0)
    assert rows[8.0, "No-Sharing"]["f1"] > 0
    assert rows[9.0, "Mainstream"]["f1"] >= rows[9.0, "Max-Sharing"]["f1"] > 0
    assert [note.split(":")[0] for note in chart.notes] == [
        "Mainstream does not fit the budget for some workloads at 7.9, 8",
        "No-Sharing does not fit the budget for some workloads at 7.9",
        "Max-Sharing does not fit the budget for some workloads at 7.9, 8",
    ]


def test_correlated_misses_make_looks_worth_less(tasks: Tasks) -> None:
    chart = by_correlation(tasks, SMALL, lambda *_: None)
    assert [panel.title for panel in chart.panels] == ["fully correlated", "correlation 0.1 to 0.9", "uncorrelated"]
    recall = [np.mean([r["recall"] for r in chart.rows if r["correlation"] == p.title]) for p in chart.panels]
    assert recall[0] <= recall[2]


def test_votes(tasks: Tasks) -> None:
    """With one application and all the compute there is, it takes the best of what any number of votes gives."""
    wanted = Settings(applications=(1,), setups=1, rates=(1.0, 2.0, 10.0), slow=(), budget=1e6, tried=(1, 2, 3))
    chart = by_votes(tasks, wanted, lambda *_: None)
    f1 = {row["votes"]: row["f1"] for row in chart.rows}
    assert f1["the best of each"] == pytest.approx(max(f1[f"{x}-voting"] for x in (1, 2, 3)))
    assert [line.style for line in chart.panels[0].lines] == ["line", "line", "line", "dashed"]


def test_budgets_follow_the_whole_model(tasks: Tasks) -> None:
    wanted = Settings(rates=(1.0, 5.0))
    assert wanted.budget_of(tasks) == 40
    assert wanted.budgets_of(tasks) == (10, 20, 30, 40, 50, 60)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"applications": ()}, "1 to 100"),
        ({"applications": (3, 2)}, "rising"),
        ({"applications": (101,)}, "1 to 100"),
        ({"several": 0}, "1 to 100"),
        ({"setups": 0}, "0 set-ups"),
        ({"rates": ()}, "slow rates"),
        ({"slow": (0.5, 1.0)}, "below 1"),
        ({"budget": 0.0}, "above 0"),
        ({"budget": float("nan")}, "above 0"),
        ({"budgets": (2.0, 1.0)}, "rising"),
        ({"lengths": (0.0, 1.0)}, "seconds above 0"),
        ({"lengths": (1.0, float("inf"))}, "seconds above 0"),
        ({"frequencies": (0.5, 1.1)}, "shares above 0"),
        ({"correlations": (-0.1, 0.5)}, "from 0 to 1"),
        ({"correlations": (0.6, 0.5)}, "least and the most"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, tuple[float, ...]], words: str) -> None:
    with pytest.raises(ReportError, match=words):
        Settings(**wrong)  # pyright: ignore[reportArgumentType] - that is what is tested


def test_charts_are_plain(tasks: Tasks) -> None:
    chart = by_votes(tasks, Settings(applications=(1,), setups=1), lambda *_: None)
    assert isinstance(chart, Chart)
    assert all(type(value) in (int, float, str) for row in chart.rows for value in row.values())
