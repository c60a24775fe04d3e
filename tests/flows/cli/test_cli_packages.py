"""`tamis package` and `tamis dataset relabel`: answers for people and as JSON, and one line for bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.packages import Candidate, EventFigures, NewPackage


@pytest.fixture
def trains(store: Store) -> Store:
    """A store with trains@1, of two candidates."""
    packages = store.packages
    of = packages.bases.put(
        save({"stem": np.zeros(4, np.float32)}), model="mobilenet_v2", outputs=1000, channels=3, image_size=224,
        mean=[0.5] * 3, std=[0.5] * 3,
    )  # fmt: skip
    for branch, accuracy in ((0, 0.875), (5, 0.75)):
        one = Candidate(f"{branch:032x}", of.key, branch, f"features.{branch}", 3 * branch, 5000, accuracy, 0.9, 0.05)
        packages.finish_candidate(one, save({"head": np.full(3, branch, np.float32)}))
    events = EventFigures(2.5, 1.0, 0.125, 0.25, ("frequency",))
    new = NewPackage("trains", of.key, "street@1", "hard@2", ("no", "train"), "train", events, 224, 0)
    packages.publish(new, [f"{branch:032x}" for branch in (0, 5)])
    return store


def test_ls_and_show(tamis: Any, trains: Store, tmp_path: Path) -> None:
    rows = tamis("package", "ls", "--json").json
    assert [(r["package"], r["base"], r["candidates"], r["accuracy"]) for r in rows] == [
        ("trains@1", "mobilenet_v2", 2, 0.875)
    ]
    assert "trains@1" in tamis("package", "ls").out
    answer = tamis("package", "show", "trains", "--json").json
    assert [(c["branch"], c["frozen"], c["pareto"]) for c in answer["candidates"]] == [(0, 0, True), (5, 15, True)]
    assert (answer["selection"], answer["events"]["average"], answer["events"]["measured"]) == (
        "hard@2",
        2.5,
        ["frequency"],
    )
    shown = tamis("package", "show", "trains@1", "--plot", tmp_path / "trains.svg")
    assert shown.code == 0, shown.err
    for words in (
        "2.5 s on average (given)",
        "12.5% of the time (measured)",
        "features.5",
        "0 * 0.8750 ####",
        "15 * 0.7500",
    ):
        assert words in shown.out
    assert "Pareto frontier" in (tmp_path / "trains.svg").read_text()


def test_out_and_in_again(tamis: Any, trains: Store, tmp_path: Path) -> None:
    told = tamis("package", "export", "trains", tmp_path / "out", "--json").json
    assert (told["package"], told["files"]) == ("trains@1", 4)
    other = tmp_path / "other"
    assert tamis("init", store=other).code == 0
    first = tamis("package", "import", tmp_path / "out", "--as", "site-b", "--json", store=other).json
    assert (first["package"], first["candidates"], first["created"]) == ("site-b@1", 2, True)
    assert "cached" in tamis("package", "import", tmp_path / "out", "--as", "site-b", store=other).out
    assert tamis("package", "export", "trains", tmp_path / "small", "--without-base", "--json").json["files"] == 3
    sql = "select package, count(*) as n from candidates join bases using (base) group by all"
    assert tamis("sql", sql, "--json", store=other).json == [{"package": "site-b@1", "n": 2}]
    gone = next((tmp_path / "out").glob("0005-*"))
    gone.write_bytes(gone.read_bytes()[:-1])
    said = tamis("package", "import", tmp_path / "out", store=other)
    assert (said.code, said.out) == (1, "")
    assert "is not the file that was exported" in said.err


def test_bad_input_is_one_line(tamis: Any, trains: Store, tmp_path: Path) -> None:
    for arguments, words in (
        (("show", "train"), "Did you mean 'trains'?"),
        (("show", "trains@3"), "has versions 1 to 1, not 3"),
        (("show", "trains", "--plot", "x.gif"), "ends in .png or .svg"),
        (("export", "trains", trains.root.url), "is not an empty folder"),
        (("import", tmp_path), "manifest.json is missing"),
    ):
        said = tamis("package", *arguments)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert words in said.err


def test_relabel(tamis: Any, store: Store, dataset: Dataset, tmp_path: Path) -> None:
    sql = "select sample, label >= 5 as label from samples where dataset = 'digits'"
    made = tamis("dataset", "relabel", "digits", "--sql", sql, "--as", "large", "--classes", "no, yes", "--json").json
    large = int((dataset.labels() >= 5).sum())
    assert (made["dataset"], made["source"], made["dropped"]) == ("large@1", "digits@1", 0)
    assert made["samples_by_class"] == {"no": 1498 - large, "yes": large}
    rows = tamis("sql", "select kind, params from dataset_origins", "--json").json
    assert [(r["kind"], json.loads(r["params"])["sql"]) for r in rows] == [("relabel", sql)]
    file = tmp_path / "some.csv"
    file.write_text("sample,label\n3,b\n1,a\n")
    said = tamis("dataset", "relabel", "digits", "--labels", file)
    assert (said.code, said.out) == (1, "")
    assert "1,496 of the 1,498 samples of digits@1 have no label (first: 0)" in said.err
    shown = tamis("dataset", "relabel", "digits", "--labels", file, "--drop-missing")
    assert shown.code == 0, shown.err
    assert "digits-relabelled@1" in shown.out
    assert "a=1, b=1" in shown.out
    assert tamis("dataset", "relabel", "digits").code == 2
