"""Culling by precision and cost: the chain of passes by hand, means over seeds, both panels, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from footage import footage, found

from tamis.store import Store
from tamis.store.boxes import ANNOTATIONS
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound
from tamis.training.errors import ReportError
from tamis.training.reports.culling.chain import heads_of, selecting
from tamis.training.reports.culling.report import culling
from tamis.training.reports.drawing.cullings import culling_figure, draw_culling
from tamis.training.selecting.by_scores import SelectConfig, select
from tamis.training.signals.culling import CullingConfig, score_culling

CAR = (2.0, 2.0, 40.0, 40.0)


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Dataset:
    """Every second frame, its student's pass (10 frames of 2 s), the teacher's of four (30 s each), and two kept."""
    dataset = footage(store, tmp_path)
    thin = select(store, SelectConfig(dataset="site", method="intermittent", budget=10, name="thin")).selection
    rows = {int(i): [(0.5 + int(i) / 100, *CAR)] for i in sorted(thin.round_at(0)[0])}
    found(store, dataset, "student", rows, ms=2000, selection=thin.key)
    config = CullingConfig(standardize=False)
    score_culling(store, dataset, "student", None, config)
    unsure = select(store, SelectConfig(dataset="site", method="culling", budget=4, name="unsure")).selection
    rows = {int(i): [(0.9, *CAR)] for i in sorted(unsure.round_at(0)[0])}
    found(store, dataset, "teacher", rows, ms=30_000, selection=unsure.key)
    score_culling(store, dataset, "student", "teacher", config)
    select(store, SelectConfig(dataset="site", method="culling", measure="precision_loss", budget=2, name="kept"))
    store.runs.begin(kind=ANNOTATIONS, key="people", dataset=dataset.ref)
    store.runs.finish("people")
    return dataset


def trained(store: Store, key: str, precision: float | None, selection: str | None = None, **more: Any) -> None:
    """A finished training run of 100 s, 10 of them evaluating."""
    chosen = None if selection is None else store.selections.get(selection)
    config: dict[str, Any] = {
        "dataset": "site", "model": "ssdlite64-mobilenet", "task": "detection", "truth": ["people"],
        "evaluate_on": "judge", "selection": selection, "epochs": 2, "seed": 0,
    }  # fmt: skip
    store.runs.begin(
        kind="train", key=key, dataset="site@1", model="ssdlite64-mobilenet", config=config | more,
        selection=None if chosen is None else chosen.key,
    )  # fmt: skip
    measures = {} if precision is None else {"map": precision, "map50": precision / 2, "map_small": precision / 4}
    store.runs.finish(key, metrics=measures, seconds={"total": more.get("total", 100.0), "evaluate": 10.0})


def test_a_chain_counts_every_pass_once(store: Store, site: Dataset) -> None:
    """kept: scores of both detectors; the teacher looked at unsure, of the student's scores; the student at thin."""
    kept, unsure, thin = (store.selections.get(name) for name in ("kept", "unsure", "thin"))
    chain = selecting(store, kept, store.runs.get("people"), kept.size, heads_of(store))
    scoring = [run.seconds["total"] for run in store.runs.all() if run.kind == "score"]
    assert len(scoring) == 2
    assert chain.seconds.stage0 == thin.stats["seconds"]["select"]
    assert (chain.seconds.student, chain.seconds.teacher) == (20, 120)
    choosing = sum(one.stats["seconds"]["select"] for one in (kept, unsure)) + sum(scoring)
    assert chain.seconds.choosing == pytest.approx(choosing)
    assert chain.seconds.total == pytest.approx(140 + choosing + chain.seconds.stage0)
    assert [(one.role, one.run, one.frames, one.ms) for one in chain.passes] == [
        ("student", "student", 10, 2000), ("teacher", "teacher", 4, 30_000),
    ]  # fmt: skip


def test_a_teacher_that_labels_is_paid_for_what_is_trained_on(store: Store, site: Dataset) -> None:
    """A pass of 20 frames, of which 5 are trained on; the labels that the chain has already cost nothing."""
    heads = heads_of(store)
    every = {i: [(0.9, *CAR)] for i in range(20)}
    labels = store.runs.get(found(store, site, "labels", every, ms=1000))
    same = store.runs.get(found(store, site, "again", every, ms=1000, model="model of teacher"))
    assert selecting(store, None, labels, 20, heads).seconds.teacher == 20
    thin, kept = (store.selections.get(name) for name in ("thin", "kept"))
    assert selecting(store, thin, labels, 5, heads).seconds.teacher == 5
    assert selecting(store, kept, labels, 2, heads).seconds.teacher == 120 + 2
    assert selecting(store, kept, same, 2, heads).seconds.teacher == 120
    assert selecting(store, None, store.runs.get("people"), 20, heads).seconds.total == 0


def test_groups_have_means_over_their_seeds(store: Store, site: Dataset, tmp_path: Path) -> None:
    for seed, precision in enumerate((0.2, 0.4)):
        trained(store, f"full-{seed}", precision, seed=seed)
        trained(store, f"kept-{seed}", precision + 0.1, "kept", seed=seed)
    trained(store, "thin-0", 0.1, "thin")
    trained(store, "unjudged", None, "thin", seed=1)
    trained(store, "in-loop", 0.5, strategy={"name": "in-batch"})
    report = culling(store, "site")
    assert (report.dataset, report.judge) == ("site@1", "judge")
    assert [(one.label, one.full, one.kept, len(one.runs)) for one in report.groups] == [
        ("kept@1", False, 0.1, 2), ("thin@1", False, 0.5, 1), ("full", True, 1.0, 2),
    ]  # fmt: skip
    kept, thin, full = report.groups
    assert kept.measures["map"].mean == pytest.approx(0.4)
    assert kept.measures["map"].deviation == pytest.approx(0.02**0.5)  # of 0.3 and 0.5
    assert kept.measures["map50"].mean == pytest.approx(0.2)
    assert kept.measures["map_large"].mean is None
    assert thin.measures["map"].deviation is None
    assert (kept.training.mean, full.selecting, full.total.mean) == (90, 0, 90)
    assert kept.total.mean == pytest.approx(90 + kept.selecting)
    assert (kept.student, kept.teacher, thin.student) == (20, 120, 0)
    assert set(report.left_out) == {"unjudged", "in-loop"}
    assert [one.role for one in report.passes] == ["student", "teacher"]

    share, seconds = culling_figure(report).axes
    for axes, x in ((share, 0.1), (seconds, kept.total.mean)):
        points = {one.get_label(): one.lines[0].get_xydata().tolist() for one in axes.containers}
        assert points["culling by precision_loss"] == [[pytest.approx(x), pytest.approx(0.4)]]
        assert set(points) == {"culling by precision_loss", "intermittent", "full"}
        level = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in level] == [pytest.approx(0.3)]
    drawn = draw_culling(report, str(tmp_path / "culling.svg")).read_text()
    for word in (
        "kept@1",
        "thin@1",
        "intermittent",
        "full",
        "share of the samples kept",
        "seconds of training and selecting",
        "mAP",
    ):
        assert word in drawn


def test_budgets_of_one_method_are_a_curve(store: Store, site: Dataset) -> None:
    for k, precision in ((5, 0.1), (20, 0.4), (10, 0.3)):
        select(store, SelectConfig(dataset="site", method="intermittent", budget=k, name=f"thin-{k}"))
        trained(store, f"of-{k}", precision, f"thin-{k}")
    report = culling(store, "site")
    [curve] = culling_figure(report).axes[0].containers
    assert curve.lines[0].get_xydata().tolist() == [[0.25, 0.1], [0.5, 0.3], [1.0, 0.4]]
    assert {one.series for one in report.groups} == {"intermittent"}


def test_runs_of_one_selection_are_told_apart_by_what_differs(store: Store, site: Dataset) -> None:
    trained(store, "slow", 0.2, "kept", lr=0.01)
    trained(store, "fast", 0.3, "kept", lr=0.1)
    assert [one.label for one in culling(store, "site").groups] == ["kept@1, lr=0.01", "kept@1, lr=0.1"]
    trained(store, "other", 0.3, "thin", model="ssd300-vgg16")
    assert "thin@1, model=ssd300-vgg16" in [one.label for one in culling(store, "site").groups]
    only = culling(store, "site@1", ["fast"])
    assert [(one.label, one.runs) for one in only.groups] == [("kept@1", ("fast",))]


def test_what_cannot_be_compared_is_refused(store: Store, site: Dataset) -> None:
    with pytest.raises(ReportError, match="No detector was trained on site and evaluated"):
        culling(store, "site")
    with pytest.raises(DatasetNotFound):
        culling(store, "nowhere")
    trained(store, "good", 0.2, "kept")
    trained(store, "unjudged", None, "thin")
    trained(store, "classes", 0.2, task="classification", truth=None)
    for run in ("unjudged", "classes"):
        with pytest.raises(ReportError, match=f"Run {run} cannot be reported on"):
            culling(store, "site", ["good", run])
    trained(store, "elsewhere", 0.2, "thin", evaluate_on="court@2")
    with pytest.raises(ReportError, match="evaluated on judge and court"):
        culling(store, "site")
