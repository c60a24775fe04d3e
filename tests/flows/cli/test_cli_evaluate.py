"""`tamis evaluate` and `tamis run export`: parsing and printing over the library."""

from pathlib import Path

import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.job import TrainConfig, train


@pytest.fixture
def key(store: Store, dataset: Dataset) -> str:
    return train(store, TrainConfig(dataset="digits", model="preact8", epochs=1, channels=1)).run.key


def test_a_run_is_evaluated_and_exported(tamis, key: str, tmp_path: Path) -> None:
    found = tamis("evaluate", key[:8], "--dataset", "digits", "--json").json
    assert (found["run"], found["dataset"], found["samples"]) == (key, "digits@1", 1498)
    assert set(found["metrics"]) == {"accuracy", "loss"}
    assert [one["label"] for one in found["classes"]] == list(range(10))
    people = tamis("evaluate", key[:8], "--dataset", "digits").out
    assert "accuracy" in people
    assert f"{found['metrics']['accuracy']:.3f}"[:4] in people
    said = tamis("run", "export", key[:8], "--to", tmp_path / "model", "--json").json
    assert said == {"folder": str(tmp_path / "model"), "files": ["README.md", "config.json", "model.safetensors"]}
    again = tamis("run", "export", key[:8], "--to", tmp_path / "model")
    assert again.code == 1
    assert "already exists and is not overwritten" in again.err
    assert tamis("evaluate", "nothing", "--dataset", "digits").code == 1
