"""Detectors judged by the boxes of another run: trained models as training runs judge them, passes by hand."""

from pathlib import Path
from typing import Any

import pytest
from boxed import boxed, drawn, keep
from numbered import Write

from tamis.store import Store
from tamis.store.boxes import DETECT
from tamis.store.datasets import Dataset
from tamis.training.errors import LabelError
from tamis.training.job import TrainConfig, train
from tamis.training.reports.evaluation import evaluate_run

SEEDS = range(30, 36)


@pytest.fixture
def judged(store: Store, tmp_path: Path, write: Write) -> Dataset:
    """Six images, run judged-boxes with their boxes; the last has none."""
    return boxed(store, tmp_path, write, "judged", SEEDS)[0]


def a_pass(store: Store, dataset: Dataset, rows: list[Any], classes: tuple[str, ...]) -> str:
    keep(store, dataset, key := "a" * 32, rows, classes, kind=DETECT)
    return key


def test_a_model_is_judged_as_its_training_run_was(store: Store, judged: Dataset, tmp_path: Path, write: Write) -> None:
    boxed(store, tmp_path, write, "boxed", range(16))
    asked: dict[str, Any] = {
        "dataset": "boxed", "task": "detection", "model": "ssdlite64-mobilenet", "epochs": 1, "batch_size": 8,
        "truth": ("boxed-boxes", "judged-boxes"), "evaluate_on": "judged", "box_weight": 2.0,
    }  # fmt: skip
    run = train(store, TrainConfig(**asked), device="cpu").run
    seen: list[tuple[int, int]] = []
    found = evaluate_run(
        store, run.key[:10], "judged", truth="judged-boxes", device="cpu", batch_size=4,
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert (found.task, found.model, found.samples) == ("detection", "ssdlite64-mobilenet", 6)
    assert found.metrics == pytest.approx({name: run.metrics[name] for name in found.metrics}, rel=1e-4, abs=1e-6)
    assert {"map", "map50", "map_small", "loss"} == found.metrics.keys()
    assert seen == [(4, 6), (6, 6)]
    with pytest.raises(LabelError, match="is a detector, which is judged by boxes"):
        evaluate_run(store, run.key, "judged")
    keep(store, judged, "few", [[(0, 1, 1, 9, 9)], *[None] * 5], ("red", "blue"))
    with pytest.raises(LabelError, match="not looked at 5 of 6 samples"):
        evaluate_run(store, run.key, "judged", truth="few")
    keep(store, judged, "other", [drawn(seed)[1] for seed in SEEDS], ("blue", "red"))
    with pytest.raises(LabelError, match=r"classes red, blue, .* are of blue, red"):
        evaluate_run(store, run.key, "judged", truth="other")


def test_stored_boxes_are_matched_by_the_names_of_classes(store: Store, judged: Dataset) -> None:
    """The pass numbers classes its own way, finds what it looked at, and a cat that the truth does not know."""
    number = (2, 1)
    rows: list[Any] = [[(number[row[0]], *row[1:]) for row in drawn(seed)[1]] + [(0, 1, 1, 9, 9)] for seed in SEEDS]
    rows[0] = None
    found = evaluate_run(store, a_pass(store, judged, rows, ("cat", "blue", "red")), "judged", truth="judged-boxes")
    assert (found.samples, found.metrics["map"], found.metrics["map50"]) == (5, 1, 1)
    true = [row for seed in SEEDS[1:] for row in drawn(seed)[1]]
    for one in found.classes:
        assert one.name == ("red", "blue")[one.label]
        assert one.metrics == {"boxes": sum(row[0] == one.label for row in true), "map": 1, "map50": 1}
    assert {one.label for one in found.classes} == {row[0] for row in true}


def test_a_class_that_is_never_found_has_a_precision_of_0(store: Store, judged: Dataset) -> None:
    rows = [[row for row in drawn(seed)[1] if row[0] == 0] for seed in SEEDS]
    found = evaluate_run(store, a_pass(store, judged, rows, ("red", "blue")), "judged", truth="judged-boxes")
    red, blue = found.classes
    assert (red.metrics["map"], blue.metrics["map"]) == (1, 0)
    assert found.metrics["map"] == pytest.approx(0.5)
    store.runs.begin(kind=DETECT, key="b" * 32, dataset=judged.ref, config={"classes": ["dog"]})
    store.runs.put_boxes("b" * 32, iter([]))
    store.runs.finish("b" * 32)
    with pytest.raises(LabelError, match="no sample of judged@1 in common"):
        evaluate_run(store, "b" * 32, "judged", truth="judged-boxes")
