"""Models that leave the store: whole or not at all, with what is needed to load them, and never over something else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound
from tamis.store.runs import Run
from tamis.training.errors import CheckpointError, DestinationTaken
from tamis.training.job import TrainConfig, train
from tamis.training.models.saved import export_run, load_exported
from tamis.training.signals.outputs import load_model


@pytest.fixture
def run(store: Store, dataset: Dataset) -> Run:
    return train(store, TrainConfig(dataset="digits", model="preact8", epochs=1, channels=1, image_size=8)).run


def code(readme: str) -> list[str]:
    """The blocks of Python in a README."""
    return [part.partition("```")[0] for part in readme.split("```python\n")[1:]]


def test_an_exported_model_is_the_runs(store: Store, run: Run, tmp_path: Path) -> None:
    folder = export_run(store, run.key[:8], tmp_path / "new" / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]
    facts: dict[str, Any] = json.loads((folder / "config.json").read_text())
    assert run.blob is not None
    model, meta = load_model(store, run.blob)
    assert (facts["model"], facts["num_classes"], facts["in_channels"], facts["image_size"]) == ("preact8", 10, 1, 8)
    assert (facts["mean"], facts["std"], facts["task"]) == (list(meta.mean), list(meta.std), "classification")
    assert (facts["trained"]["run"], facts["trained"]["dataset"]) == (run.key, "digits@1")
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    exported, same = load_exported(folder)
    assert same == meta
    with torch.inference_mode():
        torch.testing.assert_close(exported(images), model(images))


def test_what_the_readme_shows_loads_it(store: Store, run: Run, tmp_path: Path) -> None:
    folder = export_run(store, run.key, tmp_path / "model")
    images = "import torch\nimages = torch.arange(64).to(torch.uint8).view(1, 1, 8, 8)\n"
    shown = "\nprint([round(x, 3) for x in outputs[0].tolist()])\n"
    answers = [
        subprocess.run(
            [sys.executable, "-c", images + block + shown], cwd=folder, check=True, capture_output=True, text=True
        ).stdout
        for block in code((folder / "README.md").read_text())
    ]
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert answers[0].count(",") == 9


def test_nothing_is_overwritten(store: Store, run: Run, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    export_run(store, run.key, taken)  # it was empty
    before = {path.name: path.read_bytes() for path in taken.iterdir()}
    with pytest.raises(DestinationTaken, match="taken already exists and is not overwritten"):
        export_run(store, run.key, taken)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DestinationTaken, match="file already exists"):
        export_run(store, run.key, tmp_path / "file")
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == ["file", "store", "taken"]


def test_only_a_finished_training_run_has_a_model(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    store.runs.begin(kind="train", key="a" * 32, dataset="digits@1", model="preact8")
    with pytest.raises(RunNotFound, match=r"Run a{12} is a train run that is running: name a finished .*--kind train"):
        export_run(store, "aaaa", tmp_path / "model")
    with pytest.raises(CheckpointError, match="expected a folder that `tamis run export` wrote"):
        load_exported(tmp_path)
