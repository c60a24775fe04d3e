"""Kept frames on the time lines of two cameras: by hand, drawn, and what has no time line."""

from pathlib import Path

import numpy as np
import pytest
from footage import footage
from hypothesis import given
from hypothesis import strategies as st
from numbered import Select

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound, SelectionError
from tamis.store.selections import Request, RoundData
from tamis.training.errors import ReportError
from tamis.training.reports.culling.timeline import longest_gap, timeline
from tamis.training.reports.drawing.timelines import draw_timeline, timeline_figure


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Dataset:
    """Selection hard keeps 1.5 s and 2 s of north and nothing of south, and even one frame a second."""
    dataset = footage(store, tmp_path)
    for name, samples in (("hard", [4, 3]), ("even", [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])):
        request = Request(dataset, "by-hand", 1, {"name": name})
        store.selections.publish(request, name, [RoundData(samples, None, 0)], seconds=0.0)
    store.runs.begin(kind="score", key="scores", dataset=dataset.ref, config={"metrics": ["confidence_loss"]})
    store.runs.put_scores("scores", {"confidence_loss": [*range(17), np.nan, 18, np.nan]}, range(20))
    store.runs.finish("scores")
    return dataset


def test_kept_frames_by_camera(store: Store, site: Dataset) -> None:
    """Ten frames from 0 to 4.5 s. Behind the last kept frame, at 2 s, 2.5 s have none."""
    found = timeline(store, ["hard", "even"])
    assert [(one.camera, one.selection) for one in found.lines] == [
        ("north", "hard@1"), ("north", "even@1"), ("south", "hard@1"), ("south", "even@1"),
    ]  # fmt: skip
    hard, even, none, _ = found.lines
    assert (hard.frames, hard.kept, hard.first, hard.last, hard.longest_gap) == (10, 2, 1.5, 2.0, 2.5)
    assert hard.at == (1.5, 2.0)
    assert (even.kept, even.longest_gap) == (5, 1.0)
    assert (none.kept, none.first, none.last, none.longest_gap) == (0, None, None, 4.5)
    assert (found.measure, found.curves) == (None, {})


@given(st.lists(st.floats(0, 100), max_size=20))
def test_gaps_and_kept_frames_cover_the_line(kept: list[float]) -> None:
    """No gap is shorter than the mean of all, and none is longer than the line."""
    gap = longest_gap(np.sort(np.asarray(kept, np.float64)), 0, 100)
    assert 100 / (len(kept) + 1) - 1e-9 <= gap <= 100


def test_marks_and_curves_are_drawn_where_they_are(store: Store, site: Dataset, tmp_path: Path) -> None:
    found = timeline(store, ["hard", "even"], scores="scores")
    figure = timeline_figure(found)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["north", "south"]
    north, south = ({str(line.get_label()): line.get_xydata() for line in axes.lines} for axes in figure.axes)
    assert north["hard@1"][:, 0].tolist() == [1.5, 2.0]
    assert north["even@1"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert not len(south["hard@1"])
    assert north["confidence_loss"].tolist() == [[i / 2, i] for i in range(10)]
    assert south["confidence_loss"][-2:].tolist() == [[3, 16], [4, 18]]  # one line, across what has no score
    # Marks lie below the curve: in shares of the panel, its lowest score is above the uppermost row.
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert max(north[name][0, 1] for name in ("hard@1", "even@1")) < (0 - low) / (high - low)
    drawn = draw_timeline(found, str(tmp_path / "line.svg")).read_text()
    for word in ("north", "south", "hard@1", "even@1", "confidence_loss", "0:02"):
        assert word in drawn
    assert draw_timeline(timeline(store, ["hard"]), str(tmp_path / "line.png")).read_bytes().startswith(b"\x89PNG")


def test_frames_that_came_later_are_not_kept(store: Store, site: Dataset, tmp_path: Path) -> None:
    from videokit import video

    from tamis.store.video import Source
    from tamis.store.video.adding import add_videos

    more = [Source(str(video(tmp_path / "east.mp4", 20)), "east")]
    later = add_videos(store.datasets, "site", more, tmp_path / "shards", fps="2", append=True).dataset
    request = Request(later, "by-hand", 1, {"name": "later"})
    store.selections.publish(request, "later", [RoundData([20, 22], None, 0)], seconds=0.0)
    found = timeline(store, ["hard", "later"])
    assert found.dataset == "site@2"
    assert [(one.camera, one.kept) for one in found.lines if one.selection == "hard@1"] == [
        ("east", 0), ("north", 2), ("south", 0),
    ]  # fmt: skip
    assert [one.kept for one in found.lines if one.selection == "later@1"] == [2, 0, 0]


def test_what_has_no_time_line_is_said(store: Store, site: Dataset, sixty: Dataset, select: Select) -> None:
    select(sixty, (0, [1, 2]))
    with pytest.raises(ReportError, match="sixty@1 has no time line: its samples are not frames of videos"):
        timeline(store, ["chosen"])
    with pytest.raises(SelectionError, match="Compare selections of one dataset"):
        timeline(store, ["hard", "chosen"])
    with pytest.raises(RunNotFound, match="has no metric 'entropy'; it has: confidence_loss"):
        timeline(store, ["hard"], scores="scores", measure="entropy")
