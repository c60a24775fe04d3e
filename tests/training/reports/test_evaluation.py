"""Evaluating a finished run: the numbers of the run itself, and those of each class."""

from pathlib import Path

import numpy as np
import pytest
from numbered import Write, numbered

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound, RunNotFound
from tamis.store.runs import Run
from tamis.training.errors import LabelError
from tamis.training.job import TrainConfig, train
from tamis.training.reports.evaluation import evaluate_run


@pytest.fixture
def run(store: Store, dataset: Dataset, digits: dict[str, list[Path]]) -> Run:
    store.datasets.add("judge", digits["test"], classes=[f"digit {i}" for i in range(10)])
    config = TrainConfig(
        dataset="digits", model="preact8", epochs=2, batch_size=64, channels=1, augment="none", evaluate_on="judge"
    )
    return train(store, config).run


def test_it_is_what_the_run_said_and_classes_add_up(store: Store, run: Run) -> None:
    seen: list[tuple[int, int]] = []
    found = evaluate_run(store, run.key[:10], "judge", batch_size=100, progress=lambda *at: seen.append(at))
    assert (found.run, found.dataset, found.model, found.task) == (run.key, "judge@1", "preact8", "classification")
    assert found.metrics == pytest.approx({"accuracy": run.metrics["accuracy"], "loss": run.metrics["loss"]}, rel=1e-4)
    assert seen == [(100, 299), (200, 299), (299, 299)]
    assert [one.name for one in found.classes] == [f"digit {i}" for i in range(10)]
    counts = [one.samples for one in found.classes]
    assert sum(counts) == found.samples == 299
    for name, whole in found.metrics.items():
        assert np.average([one.metrics[name] for one in found.classes], weights=counts) == pytest.approx(whole)
    accuracies = {one.metrics["accuracy"] for one in found.classes}
    assert len(accuracies) > 1


def test_what_cannot_be_evaluated_is_said(store: Store, run: Run, tmp_path: Path, write: Write) -> None:
    with pytest.raises(RunNotFound):
        evaluate_run(store, "f" * 32, "judge")
    with pytest.raises(DatasetNotFound):
        evaluate_run(store, run.key, "nowhere")
    samples = [(f"s{i}", {"png": numbered(i), "cls": b"%d" % i}) for i in (0, 12)]
    store.datasets.add("wide", [write(tmp_path / "wide.tar", samples)])
    with pytest.raises(LabelError, match=r"1 samples .* wide@1 .*the largest is 12, it has 10 outputs"):
        evaluate_run(store, run.key, "wide")
    store.datasets.add("bare", [write(tmp_path / "bare.tar", [("s", {"png": numbered(3)})])], label=None)
    with pytest.raises(LabelError, match="bare@1 has samples without a class number"):
        evaluate_run(store, run.key, "bare")
