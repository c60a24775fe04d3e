"""`tamis dataset flip` and `tamis report labels`: the answer for people and as JSON, and one line for bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset


@pytest.fixture
def noisy(tamis: Any, store: Store, dataset: Dataset) -> Dataset:
    """A tenth of the digits flipped, with features and losses as a good model would give them."""
    said = tamis("dataset", "flip", "digits", "--share", "10%", "--seed", 3, "--as", "noisy", "--json")
    assert said.code == 0, said.err
    assert (said.json["dataset"], said.json["source"], said.json["flipped"]) == ("noisy@1", "digits@1", 150)
    assert (said.json["share"], said.json["seed"]) == (0.1, 3)
    made, generator = store.datasets.get("noisy"), np.random.default_rng(1)
    seen = np.eye(10)[dataset.labels()] + generator.normal(scale=0.05, size=(1498, 10))
    losses = np.where(made.labels() != dataset.labels(), 4.0, 1.0) * generator.random(1498)
    store.runs.begin(kind="features", key="fea1", dataset=made.ref, config={"model": "m1"})
    store.runs.put_features("fea1", iter([(np.arange(1498), seen.astype(np.float32))]))
    store.runs.finish("fea1")
    store.runs.begin(kind="score", key="sco1", dataset=made.ref, config={"model": "m1", "hard": {"loss": "higher"}})
    store.runs.put_scores("sco1", {"loss": losses}, np.arange(1498))
    store.runs.finish("sco1")
    return made


def test_flip_says_what_it_did_and_finds_it_again(tamis: Any, store: Store, dataset: Dataset) -> None:
    first = tamis("dataset", "flip", "digits", "--share", "0.2", "--json").json
    assert (first["dataset"], first["flipped"], first["seed"]) == ("digits-flipped@1", 300, 0)
    assert sum(first["samples_by_class"].values()) == 1498
    shown = tamis("dataset", "flip", "digits@1", "--share", "20 %")
    assert shown.code == 0, shown.err
    assert first["key"] in shown.out
    rows = tamis("sql", "select source, params from dataset_origins", "--json").json
    assert [row["source"] for row in rows] == ["digits@1"]


def test_report_labels(tamis: Any, noisy: Dataset, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    said = tamis("report", "labels", "noisy", "--high-loss", "50%", "--top", 4, "--out", out, "--json")
    assert said.code == 0, said.err
    assert len(said.json["mislabelled"]) == 4
    assert said.json["drawn"] == str(out)
    assert out.read_bytes().startswith(b"\x89PNG")
    last = said.json["checked"]["compared"][-1]
    assert last["first"] == said.json["mislabelled_count"]
    assert last["mislabelled"]["precision"] > last["highest_loss"]["precision"]
    flips = store.datasets.flipped("noisy").samples.tolist()
    assert {row["sample"] for row in said.json["mislabelled"]} <= set(flips)
    shown = tamis("report", "labels", "noisy")
    assert shown.code == 0, shown.err
    for word in ("Mislabelled:", "Under-represented:", "suggested", "Finding 150 flipped labels", "highest loss"):
        assert word in shown.out


def test_bad_input(tamis: Any, noisy: Dataset, tmp_path: Path) -> None:
    for arguments, wanted, code in (
        (("dataset", "flip", "digits", "--share", "ten"), "'ten' is no share", 2),
        (("dataset", "flip", "digits", "--share", "100%"), "above 0 and below 1", 1),
        (("dataset", "flip", "digits", "--share", "0"), "above 0 and below 1", 1),
        (("dataset", "flip", "digits", "--share", "1%", "--seed", -1), "-1", 2),
        (("dataset", "flip", "nothing", "--share", "1%"), "No dataset 'nothing'", 1),
        (("dataset", "flip", "digits", "--share", "20%", "--as", "noisy"), "Nothing was written", 1),
        (("report", "labels", "digits"), "no features of digits@1", 1),
        (("report", "labels", "noisy", "--losses", "fea1"), "expected a scoring or training run", 1),
        (("report", "labels", "noisy", "--high-loss", "0%"), "expected shares", 1),
        (("report", "labels", "noisy", "--out", tmp_path / "sheet.gif"), ".png", 1),
    ):
        said = tamis(*arguments)
        assert (said.code, wanted in said.err) == (code, True), said.err
        assert "Traceback" not in said.err
