"""Regression: the second task goes through every door that classification goes through."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered import Write, png

from tamis.curation.gradmatch.gradients import LastLayer
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.config import Reselect
from tamis.training.errors import DecodeError, LabelError, TaskError
from tamis.training.job import TrainConfig, train
from tamis.training.planning import plan
from tamis.training.reports.speedup import Curve
from tamis.training.signals.gradients import last_layer
from tamis.training.signals.outputs import load_model, score_shard
from tamis.training.streaming.stream import SelectionStream
from tamis.training.tasks import TASKS

REGRESSION = TASKS["regression"]
RECIPE: dict[str, Any] = {
    "dataset": "grey", "model": "preact8", "epochs": 3, "batch_size": 16, "lr": 0.01, "channels": 1, "augment": "none",
    "task": "regression", "evaluate_on": "more", "evaluate_every": 1,
}  # fmt: skip


def shades(write: Write, path: Path, count: int, seed: int) -> Path:
    """Noisy images of one shade each; the number to learn is the shade, between -1 and 1."""
    generator, samples = np.random.default_rng(seed), []
    for i in range(count):
        shade = generator.uniform(-1, 1)
        pixels = np.clip(128 + 100 * shade + generator.normal(0, 10, (8, 8)), 0, 255).astype(np.uint8)
        content = json.dumps({"of": {"shade": shade}}).encode()
        samples.append((f"{path.stem}{i:04d}", {"png": png(pixels), "json": content, "cls": b"%d" % (i % 2)}))
    return write(path, samples)


@pytest.fixture
def grey(store: Store, tmp_path: Path, write: Write) -> Dataset:
    store.datasets.add("more", [shades(write, tmp_path / "m.tar", 64, 1)], label="number:json:of.shade")
    return store.datasets.add("grey", [shades(write, tmp_path / "g.tar", 256, 0)], label="number:json:of.shade")


def test_a_regression_is_trained_from_the_shards_to_the_end(store: Store, grey: Dataset) -> None:
    run = train(store, TrainConfig(**RECIPE)).run
    assert run.metrics["loss"] < 1 / 3 / 4  # a quarter of the variance of what is uniform between -1 and 1
    assert run.metrics["error"] ** 2 <= run.metrics["loss"]
    assert "accuracy" not in run.metrics
    assert [set(one) >= {"epoch", "loss", "error"} for one in run.metrics["history"]] == [True] * 3
    assert train(store, TrainConfig(**RECIPE), force=True).confirmed
    assert run.blob is not None
    model, meta = load_model(store, run.blob)
    assert (meta.task, meta.num_classes) == ("regression", 1)
    stream = SelectionStream(store, grey, channels=1, targets=REGRESSION.targets(grey))
    found = last_layer(model, stream.epoch(0), "cpu", REGRESSION)
    [batch] = SelectionStream(store, grey, channels=1, targets=REGRESSION.targets(grey), batch_size=256).epoch(0)
    with torch.inference_mode():
        errors = model(batch.images)[:, 0] - batch.labels
    order = np.argsort(found.samples)
    assert isinstance(found.gradients, LastLayer)
    mine = found.gradients.residuals_NC[order, 0]
    np.testing.assert_allclose(mine, 2 * errors[batch.samples.argsort()], rtol=1e-3, atol=1e-4)  # d (f - y)^2 / df


def test_what_is_made_for_classes_is_refused(store: Store, grey: Dataset, dataset: Dataset) -> None:
    with pytest.raises(TaskError, match="reselect chooses samples for classification, not for regression"):
        train(store, TrainConfig(**RECIPE, reselect=Reselect(budget=10)))
    with pytest.raises(LabelError, match=r"digits@1 has no regression targets \(its label is cls\)"):
        train(store, TrainConfig(dataset="digits", task="regression"))
    with pytest.raises(LabelError, match=r"grey@1 has samples without a class number .* number:json:of\.shade"):
        train(store, TrainConfig(dataset="grey"))
    run = train(store, TrainConfig(**RECIPE | {"epochs": 1})).run
    assert run.blob is not None
    with pytest.raises(TaskError, match="this one was trained for regression"):
        score_shard(store, grey, 0, *load_model(store, run.blob), device="cpu")
    assert Curve.of(run) is None


def test_the_key_holds_a_task_that_is_not_classification(store: Store, grey: Dataset) -> None:
    plain = TrainConfig(dataset="grey", model="preact8")
    asked = plain.model_copy(update={"task": "regression"})
    assert plan(store, plain).key == plan(store, plain.model_copy(update={"task": "classification"})).key
    assert plan(store, plain).key != plan(store, asked).key


@pytest.mark.parametrize("workers", [0, 2])
def test_targets_are_read_beside_the_images(store: Store, grey: Dataset, workers: int) -> None:
    stream = SelectionStream(store, grey, batch_size=50, channels=1, targets=REGRESSION.targets(grey))
    batches = list(stream.epoch(0, workers=workers))
    labels = torch.cat([batch.labels for batch in batches])
    samples = torch.cat([batch.samples for batch in batches])
    generator = np.random.default_rng(0)
    expected = np.empty(256, np.float32)
    for i in range(256):
        expected[i] = generator.uniform(-1, 1)
        generator.normal(0, 10, (8, 8))
    assert labels.dtype == torch.float32
    assert np.array_equal(labels.numpy(), expected[samples])


def test_a_number_that_went_bad_is_named(store: Store, grey: Dataset) -> None:
    targets = REGRESSION.targets(grey)
    assert targets is not None
    with pytest.raises(DecodeError, match=r"sample 1: its member json is not a number: no of in it"):
        targets.decode([b'{"of": {"shade": 1}}', b"{}"], "sample {}".format)
