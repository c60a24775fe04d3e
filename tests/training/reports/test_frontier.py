"""Error against cost: Pareto points by brute force, speedups by hand, groups and what they refuse."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.store import Store
from tamis.store.errors import DatasetNotFound, RunNotFound
from tamis.store.runs import FINISHED, Run
from tamis.training.errors import ReportError
from tamis.training.reports.frontier import frontier
from tamis.training.reports.runs import label_runs
from tamis.training.reports.speedup import find_full
from tamis.training.reports.traces import pareto

POINTS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.1, 0.2, 0.5, float("nan"), float("inf")])))


@given(POINTS)
def test_pareto_points_are_those_that_no_other_beats(points: list[tuple[int, float]]) -> None:
    def beaten(c: int, e: float) -> bool:
        return any(c2 <= c and e2 <= e and (c2, e2) != (c, e) for c2, e2 in points)

    expected = [bool(np.isfinite(e)) and not beaten(c, e) for c, e in points]
    assert pareto([c for c, _ in points], [e for _, e in points]).tolist() == expected


Points = list[tuple[float, int | None, float]]  # seconds, backprops, error
FULL: Points = [(10, 100, 0.5), (20, 200, 0.3), (30, 300, 0.2), (40, 400, 0.1)]
QUICK: Points = [(4, 50, 0.4), (8, 80, 0.2), (12, 120, 0.12)]
POOR: Points = [(5, 60, 0.6), (9, 90, 0.3)]


def made(
    key: str, points: Points, strategy: dict[str, Any] | None = None, *, measure: str = "accuracy", **config: Any
) -> Run:
    """A finished training run with a history by hand."""
    value = {"accuracy": lambda e: 1 - e, "loss": lambda e: e}[measure]
    history = [
        {"epoch": i + 1, "seconds": s, "selecting": 0, measure: value(e), "train_loss": 1.0}
        | ({} if b is None else {"backprops": b})
        for i, (s, b, e) in enumerate(points)
    ]
    config = {"dataset": "d", "model": "preact8", "evaluate_on": "judge", "strategy": strategy} | config
    metrics = {"history": history} if history else {}
    return Run(key, "train", config.pop("on", "d@1"), "preact8", config, None, FINISHED, metrics, {"total": 1.0})


SB = {"name": "selective-backprop", "selectivity": 0.33, "beta": None, "strict": False}


@pytest.fixture
def keep(store: Store):
    def put(*runs: Run) -> Store:
        for run in runs:
            store.runs.begin(kind=run.kind, key=run.key, dataset=run.dataset, model=run.model, config=run.config)
            store.runs.finish(run.key, metrics=run.metrics, seconds=run.seconds)
        return store

    return put


def test_speedups_and_points_by_hand(keep) -> None:
    """Full ends at .1. x 1.2: .12, which it reaches on the line from 30 to 40 s after 38 s, Selective-Backprop at 12 s.
    x 1.4: .14 after 36 s, and at 11 s. x 1: never. Pareto: four points of SB or full, none of full before 40 s."""
    found = frontier(keep(made("aaaa1", FULL), made("bbbb1", QUICK, SB)), factors=(1.0, 1.2, 1.4))
    assert (found.dataset, found.judge, found.measure) == ("d@1", "judge", "1 - accuracy")
    full, quick = found.groups
    assert [one.label for one in found.groups] == ["full", "selective-backprop, selectivity=0.33"]
    assert [one.mean for one in full.speedup["seconds"]] == [1, 1, 1]
    never, first, second = quick.speedup["seconds"]
    assert (never.mean, never.runs) == (None, (0, 1))
    assert (first.mean, second.mean) == (pytest.approx(38 / 12), pytest.approx(36 / 11))
    assert quick.speedup["backprops"][1].mean == pytest.approx(380 / 120)
    assert [one.optimal["seconds"] for one in found.traces] == [(False, False, False, True), (True, True, True)]
    assert full.points == {"seconds": 1, "backprops": 1}
    assert quick.share == {"seconds": 0.75, "backprops": 0.75}
    assert full.final.mean == pytest.approx(0.1)


def test_seeds_have_a_mean_and_a_spread_each_against_its_own_full_training(keep) -> None:
    twice = [(2 * s, b, e) for s, b, e in FULL]
    store = keep(
        made("aaaa1", FULL, seed=0), made("aaaa2", twice, seed=1), made("bbbb1", QUICK, SB, seed=0),
        made("bbbb2", QUICK, SB, seed=1), made("bbbb3", POOR, SB, seed=2), made("cccc1", FULL, seed=0, lr=0.3),
    )  # fmt: skip
    found = frontier(store, ["bbbb1", "bbbb2", "bbbb3"], factors=[1.2, 4])
    [group] = found.groups
    speedup = group.speedup["seconds"][0]
    assert (speedup.mean, speedup.runs) == (pytest.approx((38 / 12 + 76 / 12) / 2), (2, 3))
    assert speedup.deviation == pytest.approx(38 / 12 / 2**0.5)
    assert group.final.runs == (3, 3)
    assert [one.full for one in found.traces[:2]] == ["aaaa1", "aaaa2"]
    assert frontier(store, ["bbbb1"], full=["cccc1"]).traces[0].full == "cccc1"
    alone = frontier(keep(made("eeee1", QUICK, SB, lr=0.7)), ["eeee1"])
    assert alone.traces[0].full is None
    assert alone.groups[0].speedup["seconds"][0].mean is None


def test_histories_of_before_have_no_backprops(keep) -> None:
    store = keep(made("aaaa1", FULL), made("bbbb1", [(s, None, e) for s, _, e in QUICK], SB))
    found = frontier(store)
    assert found.unpriced == ("bbbb1",)
    assert found.groups[0].share == {"seconds": 0.25, "backprops": 1.0}
    assert found.groups[1].speedup["backprops"][1].mean is None


def test_tasks_without_accuracy_are_held_by_their_loss(keep) -> None:
    found = frontier(keep(made("aaaa1", FULL, measure="loss"), made("bbbb1", QUICK, SB, measure="loss")))
    assert found.measure == "loss"
    assert found.groups[1].final.mean == pytest.approx(0.12)
    keep(made("cccc1", FULL, lr=0.2))
    with pytest.raises(ReportError, match="Some of these runs have an accuracy"):
        frontier(keep())


def test_labels_tell_runs_apart_and_no_more() -> None:
    full, other = made("a", FULL), made("a", FULL, seed=3)
    runs = [full, other, made("b", QUICK, SB), made("c", QUICK, SB | {"selectivity": 0.5}),
            made("d", QUICK, {"name": "selective-backprop", "selectivity": None, "beta": None, "strict": False}),
            made("e", QUICK, {"name": "random-drop", "keep": 0.5})]  # fmt: skip
    strategy = "selective-backprop"
    assert label_runs(runs) == [
        "full", "full", f"{strategy}, selectivity=0.33", f"{strategy}, selectivity=0.5", strategy,
        "random-drop, keep=0.5",
    ]  # fmt: skip
    assert label_runs(runs, "name") == ["full", "full", strategy, strategy, strategy, "random-drop"]
    assert [one.split("=")[1] for one in label_runs(runs, "selectivity")] == ["1", "1", "0.33", "0.5", "0.333", "0.5"]
    assert label_runs([full, other], "seed") == ["seed=0", "seed=3"]
    assert label_runs([made("a", FULL, lr=0.1), made("b", FULL, lr=0.2)]) == ["full, lr=0.1", "full, lr=0.2"]
    with pytest.raises(ReportError, match="No run has a 'colour' to group by"):
        label_runs(runs, "colour")


def test_full_training_is_the_baseline_of_strategies_too() -> None:
    """Whatever the schedule counts, which is the same for training on everything."""
    chosen = made("b", QUICK, SB, rate_by="backprops")
    assert find_full(chosen, [made("a", FULL), chosen]) == made("a", FULL)
    assert find_full(chosen, [made("a", FULL, epochs=3), chosen]) is None


def test_what_cannot_be_compared_is_refused(keep) -> None:
    store = keep(
        made("aaaa1", FULL), made("bbbb1", QUICK, SB), made("cccc1", QUICK, SB, on="other@1"), made("dddd1", []),
        made("eeee1", QUICK, SB, evaluate_on="elsewhere@2"),
    )  # fmt: skip
    store.runs.begin(kind="train", key="ffff1", dataset="d@1", config={})
    wrong: list[tuple[type[Exception], str, list[str], dict[str, Any]]] = [
        (ReportError, r"trained on d@1 and other@1: errors on different data", ["aaaa1", "cccc1"], {}),
        (ReportError, r"evaluated on judge and elsewhere", ["aaaa1", "eeee1"], {}),
        (ReportError, "dddd1 was not evaluated during training", ["aaaa1", "dddd1"], {}),
        (ReportError, "running.* is not a finished training run", ["ffff1"], {}),
        (ReportError, "bbbb1 was trained on a selection", ["aaaa1"], {"full": ["bbbb1"]}),
        (ReportError, "dddd1 was not evaluated", ["aaaa1"], {"full": ["dddd1"]}),
        (ReportError, "A factor is 0.9", ["aaaa1"], {"factors": [1.2, 0.9]}),
        (ReportError, "A factor is nan", ["aaaa1"], {"factors": [float("nan")]}),
        (ReportError, "No run has a 'colour'", ["aaaa1"], {"by": "colour"}),
        (RunNotFound, "names 0 runs", ["0000"], {}),
        (DatasetNotFound, "nowhere", [], {"dataset": "nowhere"}),
    ]
    for error, words, runs, how in wrong:
        with pytest.raises(error, match=words):
            frontier(store, runs, **how)
    assert frontier(store, ["aaaa", "aaaa1", "bbbb1"]).groups[0].runs == ("aaaa1",)


def test_nothing_to_report_is_said(store: Store) -> None:
    with pytest.raises(ReportError, match="No training run to report on"):
        frontier(store)
