"""Fixed-accuracy speedup: its mathematics by hand-made histories, its choice of full training, and real runs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numbered import Select
from strict import STRICT

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound, RunNotFound
from tamis.store.runs import FINISHED, Run
from tamis.store.selections import Request, RoundData, Selection
from tamis.training.config import Reselect
from tamis.training.errors import ReportError
from tamis.training.job import TrainConfig, train
from tamis.training.reports.drawing.plots import draw_speedups, speedup_figure
from tamis.training.reports.speedup import Curve, find_full, speedup, speedups

Points = list[tuple[float, float, float]]  # seconds, of these selecting, accuracy

FULL: Points = [(10, 0, 0.5), (20, 0, 0.8), (30, 0, 0.7), (40, 0, 0.9)]


def history(points: Points) -> list[dict[str, float]]:
    return [
        {"epoch": i + 1, "seconds": s, "selecting": c, "accuracy": a, "loss": 1.0, "train_loss": 1.0}
        for i, (s, c, a) in enumerate(points)
    ]


def made(key: str, points: Points, selection: str | None = None, select: float | None = None, **config: Any) -> Run:
    """A finished training with a history by hand."""
    config = {"dataset": "digits", "model": "preact8", "evaluate_on": "judge"} | config
    seconds = {"total": points[-1][0] if points else 1.0} | ({} if select is None else {"select": select})
    metrics = {"history": history(points)} if points else {}
    return Run(key, "train", "digits@1", config["model"], config, selection, FINISHED, metrics, seconds)


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (0.2, (10, 1)),  # before the first measurement: the first one's
        (0.5, (10, 1)),
        (0.65, (15, 1.5)),  # halfway on the line
        (0.8, (20, 2)),
        (0.85, (37.5, 6.5)),  # from the dip at 30, three quarters of the way
        (0.9, (40, 8)),
        (0.91, None),
    ],
)
def test_the_first_time_an_accuracy_is_reached(accuracy: float, expected: tuple[float, float] | None) -> None:
    curve = Curve((10, 20, 30, 40), (1, 2, 2, 8), (0.5, 0.8, 0.7, 0.9))
    assert curve.reach(accuracy) == (None if expected is None else pytest.approx(expected))


@pytest.fixture
def chosen(store: Store, sixty: Dataset, select: Select) -> Selection:
    """A selection that cost 24 seconds."""
    one = select(sixty, (0, [1, 2, 3])).round_at(0)
    return store.selections.publish(Request(sixty, "gradmatch", 1), "gm", [RoundData(*one)], seconds=24.0).selection


def test_a_replay_leaves_the_selection_out_and_shows_it_apart(chosen: Selection) -> None:
    """Best .8, at 4 s and at 20 s of full training: 5 x; with the 24 s, 20/28; 16 s a replay pay 24 after 2."""
    replay = made("r", [(2, 0, 0.6), (4, 0, 0.8), (6, 0, 0.75)], chosen.key)
    found = speedup(replay, made("f", FULL), chosen)
    assert (found.way, found.method, found.selection) == ("replay", "gradmatch", "gm@1")
    assert (found.best, found.accuracy, found.seconds, found.full_seconds) == (0.8, 0.8, 4, 20)
    assert (found.speedup, found.speedup_once, found.saved) == (5, pytest.approx(20 / 28), 16)
    assert (found.selecting, found.pays_after, found.note) == (24, 2, None)


def test_a_run_that_chose_pays_for_it_and_stands_for_its_replay(chosen: Selection) -> None:
    """.8 at 26 s, 22 of them choosing: 20/26. A replay takes 4 and saves 16; the run itself is the first of two."""
    first = made("a", [(24, 22, 0.6), (26, 22, 0.8)], chosen.key, select=24.0, reselect={"every": 1})
    found = speedup(first, made("f", FULL), chosen)
    assert found.way == "reselect"
    assert found.speedup == found.speedup_once == pytest.approx(20 / 26)
    assert (found.selecting, found.saved, found.pays_after) == (24, 16, 1)
    quick = made("a", [(5, 3, 0.8)], chosen.key, select=3.0, reselect={"every": 1})
    assert speedup(quick, made("f", FULL), chosen).pays_after == 0  # in the first training already


def test_where_nothing_is_saved_it_never_pays(chosen: Selection) -> None:
    found = speedup(made("r", [(25, 0, 0.8)], chosen.key), made("f", FULL), chosen)
    assert (found.speedup, found.saved, found.pays_after) == (0.8, -5, None)
    even = speedup(made("r", [(20, 0, 0.8)], chosen.key), made("f", FULL), chosen)
    assert (even.speedup, even.saved, even.pays_after) == (1, 0, None)


def test_what_was_never_reached_is_said(chosen: Selection) -> None:
    better = speedup(made("r", [(5, 0, 0.95)], chosen.key), made("f", FULL), chosen)
    assert (better.speedup, better.pays_after, better.note) == (None, None, "full training never reached 0.95")
    worse = speedup(made("r", [(5, 0, 0.6)], chosen.key), made("f", FULL), chosen, accuracy=0.7)
    assert (worse.best, worse.seconds, worse.note) == (0.6, None, "never reached 0.7")
    alone = speedup(made("r", [(5, 0, 0.6)], chosen.key), None, chosen)
    assert alone.speedup is None
    assert alone.note is not None
    assert alone.note.startswith("no full training")


def test_full_training_beside_itself() -> None:
    full = made("f", FULL)
    found = speedup(full, full)
    assert (found.way, found.speedup, found.pays_after, found.selecting) == ("full", 1, None, 0)


def test_the_full_training_is_found_by_its_recipe() -> None:
    run = made("r", FULL, "chosen", lr=0.1, seed=3, epochs=5)
    other_rate, unmeasured = made("1", FULL, lr=0.2, seed=3, epochs=5), made("2", [], lr=0.1, seed=3, epochs=5)
    replay, shorter = made("3", FULL, "chosen", lr=0.1, epochs=5), made("4", FULL, lr=0.1, epochs=4)
    elsewhere = made("5", FULL, lr=0.1, epochs=5, evaluate_on="other")
    assert find_full(run, [run, other_rate, unmeasured, replay, shorter, elsewhere]) is None
    seldom = made("6", FULL[1::2], epochs=5, seed=3, evaluate_every=2)  # lr of 0.1 is what is given where none is
    often = made("7", FULL, epochs=5, seed=3, evaluate_every=1, record_losses=True)
    other_seed = made("8", [*FULL, (50, 0, 0.9)], epochs=5, seed=4)
    for among, expected in (([other_seed], "8"), ([seldom, other_seed], "6"), ([seldom, often, other_seed], "7")):
        found = find_full(run, among)
        assert found is not None
        assert found.key == expected


def keep(store: Store, run: Run) -> Run:
    store.runs.begin(kind=run.kind, key=run.key, dataset=run.dataset, model=run.model, config=run.config,
                     selection=run.selection)  # fmt: skip
    return store.runs.finish(run.key, metrics=run.metrics, seconds=run.seconds)


def test_what_cannot_be_compared_is_refused(store: Store, dataset: Dataset) -> None:
    keep(store, made("aaaa1", FULL))
    keep(store, made("bbbb1", FULL, "chosen"))
    keep(store, made("cccc1", FULL, "chosen", evaluate_on="other@2"))
    keep(store, made("dddd1", []))
    store.runs.begin(kind="train", key="eeee1", dataset="digits@1", config={})
    wrong: list[tuple[type[Exception], str, tuple[str, ...], dict[str, Any]]] = [
        (ReportError, "expected a share above 0", (), {"accuracy": 93}),
        (ReportError, "trained on a selection", (), {"full": "bbbb1"}),
        (ReportError, "measured on other, full training aaaa1 on judge", ("cccc1",), {"full": "aaaa1"}),
        (ReportError, "not evaluated during training", ("dddd1",), {}),
        (ReportError, "running.* is not a finished training run", ("eeee1",), {}),
        (RunNotFound, "names 0 runs", ("ffff1",), {}),
        (DatasetNotFound, "there are: digits", (), {"dataset": "digit"}),
    ]
    for error, words, runs, how in wrong:
        with pytest.raises(error, match=words):
            speedups(store, runs, **how)
    report = speedups(store, dataset="digits@1")
    assert [row.run for row in report.rows] == ["aaaa1", "bbbb1", "cccc1"]
    assert report.unmeasured == ("dddd1",)
    assert [row.full for row in report.rows] == ["aaaa1", "aaaa1", None]
    assert [row.run for row in speedups(store, ["bbbb"]).rows] == ["bbbb1"]


RECIPE: dict[str, Any] = {
    "dataset": "digits", "model": "preact8", "epochs": 3, "batch_size": 64, "lr": 0.05, "channels": 1,
    "evaluate_on": "judge", "evaluate_every": 1,
}  # fmt: skip


@pytest.fixture
def trained(store: Store, digits: dict[str, list[Path]], dataset: Dataset) -> Store:
    """Full training, Grad-Match and its replay, for real."""
    store.datasets.add("judge", digits["test"])
    train(store, TrainConfig(**RECIPE))
    train(store, TrainConfig(reselect=Reselect(name="gm", budget=300, every=2), **RECIPE))
    train(store, TrainConfig(selection="gm", **RECIPE))
    return store


def test_real_trainings(trained: Store, tmp_path: Path) -> None:
    report = speedups(trained)
    assert [row.way for row in report.rows] == ["full", "reselect", "replay"]
    full, first, replay = report.rows
    assert first.full == replay.full == full.run
    assert first.curve.accuracy == replay.curve.accuracy  # the same losses, to the bit
    assert first.selecting == pytest.approx(trained.selections.get("gm").seconds)
    assert replay.selecting == pytest.approx(first.selecting)
    assert replay.curve.selecting == (0, 0, 0)
    assert [row.stream is not None and 0 < row.stream < row.total for row in report.rows] == [True] * 3
    for row in (first, replay):
        assert (row.speedup is None) == (row.best > full.best)
    easy = speedups(trained, accuracy=full.curve.accuracy[0] / 2).rows
    assert all(row.speedup is not None for row in easy if row.seconds is not None)
    assert all("at most that" in (row.note or "") for row in easy[1:] if row.seconds is not None)
    for form, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        files = [draw_speedups(report.rows, str(tmp_path / f"{name}.{form}")).read_bytes() for name in "ab"]
        assert files[0].startswith(start)
        assert files[0] == files[1]
    assert b"gm@1 (replayed), sgd 0.05" in files[0]


@pytest.mark.parametrize("trainings", [1, 3, 12, 60])
def test_the_legend_stands_beside_the_lines(trainings: int) -> None:
    """Whatever their number, and the length of their names: within the picture, and on no line."""
    rows = [speedup(made("full", FULL), None)]
    for i in range(trainings - 1):
        one = speedup(made(f"run{i}", [(s + i, c, a * 0.9) for s, c, a in FULL]), None)
        rows.append(replace(one, way="replay", selection=f"{'chosen-by-gradients-' * (i % 4)}{i}@1"))
    figure = speedup_figure([*rows, *(replace(row, model="preact20") for row in rows[:2])])
    figure.draw_without_rendering()
    whole = figure.bbox
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        box, lines = legend.get_window_extent(), axes.get_window_extent()
        assert not box.overlaps(lines)
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1
        assert lines.width > 4 * figure.dpi, "the lines keep their room"
        assert lines.height > 2 * figure.dpi
    assert len(figure.axes[0].get_legend().get_texts()) == trainings


def test_drawing_says_what_is_missing(tmp_path: Path) -> None:
    row = speedup(made("f", FULL), made("f", FULL))
    with pytest.raises(ReportError, match=r"ends in \.png or \.svg"):
        draw_speedups([row], str(tmp_path / "plot.gif"))
    with pytest.raises(ReportError, match="no training run to plot"):
        draw_speedups([], str(tmp_path / "plot.png"))
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"  # as where it is not installed
        "from tamis.training.reports.drawing.plots import draw_histogram\n"
        "try: draw_histogram({}, 'never.png')\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == "Drawing needs matplotlib, which is not installed: pip install 'tamis[docs]'.\n"
    assert list(tmp_path.iterdir()) == []


def test_reporting_loads_nothing_heavy() -> None:
    code = (
        "import sys, tamis.training.reports.speedup, tamis.training.reports.priority;"
        "import tamis.training.reports.drawing.plots;"
        "import tamis.training.reports.costs, tamis.training.reports.frontier, tamis.training.reports.drawing.drawings;"
        "heavy = {'torch', 'PIL', 'matplotlib', 'prefect'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([*STRICT, "-c", code], check=True)
