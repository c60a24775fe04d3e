"""Time lines: rows by hand, of a store, with labelled events behind; and what has none."""

from pathlib import Path
from typing import Any

import pytest
from footage import footage

from tamis.store import Store
from tamis.store.errors import RunNotFound
from tamis.store.relabelling import relabel
from tamis.training.errors import ReportError
from tamis.training.mainstream.runner.executing import Look
from tamis.training.mainstream.runner.noticing import Noticed
from tamis.training.mainstream.runner.results import Recorder
from tamis.training.reports.drawing.mainstreams import chart_figure
from tamis.training.reports.mainstream.looks import Looked, by_looks, labelled, looked


def seen(*rows: tuple[str, float, bool]) -> list[dict[str, Any]]:
    return [{"application": name, "seconds": at, "hit": hit} for name, at, hit in rows]


def test_hits_and_misses_by_application() -> None:
    looks = seen(("train", 1.0, False), ("train", 2.0, True), ("train", 3.0, True), ("bus", 1.5, False))
    events = [{"application": "train", "reported": 3.0, "begins": 2.0, "ends": 3.0}]
    chart = by_looks([Looked("mainstream", looks, events, {"": [(1.5, 3.5)]})])
    (panel,) = chart.panels
    assert panel.rows == ("bus", "train")
    lines = {line.name: (line.x, line.y) for line in panel.lines}
    assert lines == {
        "labelled events": ((1.5,), (3.5,)), "miss": ((1.0, 1.5), (1.0, 0.0)), "hit": ((2.0, 3.0), (1.0, 1.0)),
        "reported": ((3.0,), (1.0,)),
    }  # fmt: skip
    assert chart.rows == (
        {"run": "mainstream", "application": "bus", "looks": 1, "hits": 0, "misses": 1, "fps": None, "reports": 0,
         "first report": None},
        {"run": "mainstream", "application": "train", "looks": 3, "hits": 2, "misses": 1, "fps": 1.0, "reports": 1,
         "first report": 3.0},
    )  # fmt: skip
    (axes,) = chart_figure(chart).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bus", "train"]
    assert axes.get_ylim() == (1.5, -0.5)


def test_a_window_cuts_looks_reports_and_spans() -> None:
    looks = seen(("train", 1.0, False), ("train", 2.0, True), ("train", 3.0, True))
    events = [{"application": "train", "reported": 3.0, "begins": 2.0, "ends": 3.0}]
    chart = by_looks([Looked("m", looks, events, {"": [(0.0, 0.5), (0.5, 9.0)]})], (1.5, 2.5))
    lines = {line.name: line.x for line in chart.panels[0].lines}
    assert lines == {"labelled events": (1.5,), "miss": (), "hit": (2.0,), "reported": ()}
    assert chart.panels[0].lines[0].y == (2.5,)
    with pytest.raises(ReportError, match="has no looks from 5 to 6 s"):
        by_looks([Looked("m", looks)], (5, 6))


def test_a_run_of_a_store(store: Store, tmp_path: Path) -> None:
    dataset = footage(store, tmp_path)
    sql = "select sample, sample in (2, 3, 15) as label from frames where dataset = 'site'"
    relabel(store, "site", sql=sql, classes=["no", "yes"], name="marked")
    recorder = Recorder(store, "live", source="street", dataset=dataset.ref, config={})
    recorder.look("people@1", Look("people", 3, 1.5, True, 0.9, 2.0))
    recorder.look("people@1", Look("people", 2, 1.0, False, 0.1, 2.0))
    recorder.event("people", "people@1", 1, Noticed(1.5, 1.5, 1.5, 1, 1, 0.9))
    recorder.finish({}, {"total": 1.0})
    found = looked(store, "live", "marked", "yes")
    assert found.looks == seen(("people", 1.0, False), ("people", 1.5, True))
    assert found.events == [{"application": "people", "begins": 1.5, "ends": 1.5, "reported": 1.5}]
    assert found.spans == {"": [(1.0, 2.0), (2.5, 3.0)]}  # two frames of one camera, one of the other
    chart = by_looks([found])
    assert (chart.rows[0]["fps"], chart.rows[0]["first report"]) == (2.0, 1.5)
    with pytest.raises(RunNotFound):
        looked(store, "other")
    store.runs.begin(kind="mainstream", key="empty", dataset="", config={})
    with pytest.raises(ReportError, match="Run empty has no looks"):
        by_looks([looked(store, "empty")])


def test_labels_that_have_no_time_line(store: Store, tmp_path: Path, dataset: Any) -> None:
    with pytest.raises(ReportError, match="has no time line"):
        labelled(store, dataset.ref)
    footage(store, tmp_path)
    relabel(store, "site", sql="select sample, 0 as label from frames where dataset = 'site'", name="marked")
    assert labelled(store, "marked", "1") == []
    with pytest.raises(ReportError, match="has no class 'yes'"):
        labelled(store, "marked", "yes")
