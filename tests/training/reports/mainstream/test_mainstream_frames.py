"""Figures of single tasks by hand: throughput, recall by rate, false positives; answers replayed."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from curvekit import people, written
from hypothesis import given
from hypothesis import strategies as st

from tamis.store import Store
from tamis.training.mainstream.events.model import Events
from tamis.training.reports.drawing.mainstreams import chart_figure, draw_chart
from tamis.training.reports.mainstream.frames import by_false_positives, by_rate, by_sharing, events_of, false_rate
from tamis.training.reports.mainstream.replaying import Profiled, recall_at, stretches
from tamis.training.reports.mainstream.tasks import Tasks, published, stored
from tamis.training.reports.mainstream.workloads import Settings

SETTINGS = Settings(lengths=(0.5, 0.5), frequencies=(0.5, 0.5), correlations=(0.5, 0.5), tried=(1, 2))


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return published(written(tmp_path))


def test_throughput(tasks: Tasks) -> None:
    """8 units a frame; two applications take 16 without sharing and 7 + 2 with all but the head."""
    chart = by_sharing(tasks, SETTINGS, lambda *_: None)
    cats = [row for row in chart.rows if row["task"] == "cats"]
    assert [row["rate of 1"] for row in cats] == [1 / 8] * 3
    assert [row["rate of 2"] for row in cats] == [1 / 16, 1 / (4 + 2 * 4), 1 / (7 + 2)]
    assert [row["share"] for row in cats] == [0, 0.5, 0.875]
    assert [line.name for line in chart.panels[1].lines] == ["cats", "buses"]
    assert chart.panels[1].lines[0].y == (0.95, 0.95, 0.6)


def test_recall_by_rate(tasks: Tasks) -> None:
    """Below one look an event, N of all are looked at. With alike misses more looks are worth nothing."""
    chart = by_rate(tasks, SETTINGS, lambda *_: None, {"buses": Profiled((10.0, 5.0), (1.0, 0.75), 4)})
    rows = [row for row in chart.rows if row["task"] == "cats"]
    for row in rows:
        looks = 0.5 * row["fps"]
        if looks <= 1:
            assert row["recall"] == pytest.approx(0.95 * looks)
        elif row["line"] == "fully correlated":
            assert row["recall"] == pytest.approx(0.95)
    top = {row["line"]: row["recall"] for row in rows if row["fps"] == pytest.approx(10)}
    assert top["uncorrelated"] == pytest.approx(1 - 0.05**5)
    assert top["correlation 0.5"] == pytest.approx(1 - 0.05 * (0.05 + 0.5 * 0.95) ** 4)
    cats, buses = chart.panels
    assert (cats.lines[-1].x, cats.log) == ((2.0,), True)
    assert buses.lines[-2].name == "held-out video (4 events)"
    assert (buses.lines[-2].x, buses.lines[-2].y) == ((10.0, 5.0), (1.0, 0.75))


def test_false_positive_frequency(tasks: Tasks) -> None:
    """At a sample rate of 1 it is the false positive rate of frames; votes make it smaller, the less the more alike."""
    chart = by_false_positives(tasks, SETTINGS, lambda *_: None)
    whole = [row for row in chart.rows if row["sample rate"] == 1 and row["task"] == "buses"]
    assert [(row["votes"], row["frequency"]) for row in whole] == [(1, 0.1), (2, pytest.approx(0.1 * 0.55))]
    half = next(r for r in chart.rows if r["task"] == "buses" and r["votes"] == 1 and r["sample rate"] == 0.5)
    assert half["frequency"] == pytest.approx(0.05)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 4))
def test_false_rate_is_that_of_the_chain(hit: float, correlation: float, votes: int) -> None:
    """By the chain's own words: P(miss | miss) = p + c (1 - p), and its share of misses stays p."""
    p = 1 - hit
    again = p + correlation * (1 - p)
    if p in (0, 1):
        expected = float(hit)
    else:
        after_hit = p * (1 - again) / hit  # as many leave the misses as enter them; tiny hits lose all digits here
        expected = hit * (1 - min(after_hit, 1.0)) ** (votes - 1)
    if hit > 1e-6:
        assert false_rate(hit, correlation, votes) == pytest.approx(expected, abs=1e-9)
    assert false_rate(hit, 0.0, votes) == pytest.approx(hit**votes)
    assert false_rate(hit, 1.0, votes) == pytest.approx(hit)


def test_a_package_knows_its_events(store: Store, tasks: Tasks) -> None:
    people(store)
    (task,) = stored(store, ["people"]).tasks
    assert events_of(task, SETTINGS) == Events(2.5, 1.0, 0.125, 0.25)
    assert events_of(tasks.tasks[0], SETTINGS) == Events(0.5, 0.5, 0.5, 0.5)
    title = by_rate(stored(store, ["people"]), SETTINGS, lambda *_: None).panels[0].title
    assert title == "people@1: tpr 0.95, events of 2.5 s"


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4), st.integers(1, 15))
def test_recall_of_a_stride_over_all_beginnings(events: list[list[bool]], stride: int) -> None:
    """By trying each beginning: an event is found where one of its frames that is looked at is a hit."""
    found = [any(hits[i] for i in range(len(hits)) if i % stride == a) for hits in events for a in range(stride)]
    assert recall_at(stride, [np.array(hits) for hits in events]) == pytest.approx(np.mean(found))


@given(st.lists(st.booleans(), max_size=20))
def test_stretches_are_the_runs_of_true(flags: list[bool]) -> None:
    found = stretches(np.array(flags, bool))
    assert [i for a, b in found for i in range(a, b)] == [i for i, flag in enumerate(flags) if flag]
    assert all(b < c for (_, b), (c, _) in pairwise(found))


def test_drawings(tasks: Tasks, tmp_path: Path) -> None:
    figure = chart_figure(by_rate(tasks, SETTINGS, lambda *_: None))
    cats, _ = figure.axes
    assert (cats.get_xscale(), cats.get_ylabel(), cats.get_title(loc="left")) == (
        "log", "recall", "cats: tpr 0.95, events of 0.5 s",
    )  # fmt: skip
    legend = cats.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "uncorrelated", "correlation 0.5", "fully correlated", "1 / length",
    ]  # fmt: skip
    first, second = (draw_chart(by_sharing(tasks, SETTINGS, lambda *_: None), str(tmp_path / f"{n}.svg")) for n in "ab")
    assert first.read_bytes() == second.read_bytes()
