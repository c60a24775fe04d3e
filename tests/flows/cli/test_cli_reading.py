"""`tamis selection materialize` and `plan` on real digits: for people, for programs, and when something is wrong."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds

from tamis.store import Store
from tamis.store.selections import Request, RoundData


@pytest.fixture
def chosen(tamis: Any, made: Path, tmp_path: Path) -> Store:
    """A store with digits@1 and a selection of 120 of them."""
    store = Store.open(shutil.copytree(made / "full", tmp_path / "store"))
    assert tamis("select", "random", "--dataset", "digits", "--budget", 120, "--name", "few").code == 0
    return store


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_for_people_with_a_line_of_code_that_runs(tamis: Any, chosen: Store) -> None:
    said = tamis("selection", "materialize", "few", "--shard-size", "100kB")
    assert said.code == 0, said.err
    facts = dict(line.split("  ", 1) for line in said.out.splitlines() if "  " in line.strip())
    facts = {name: value.strip() for name, value in facts.items()}
    assert (facts["selection"], facts["shards"], facts["samples"], facts["answer"]) == ("few@1", "4", "120", "new")
    assert facts["round"] == "0, in force from epoch 0 (1 in all)"
    assert facts["where"].startswith(f"{chosen.root.url}/curated/")
    assert "% of digits@1" in facts["bytes"]
    code = next(line.strip() for line in said.out.splitlines() if "wds." in line)
    read = list(eval(code, {"wds": wds}))
    samples, _ = chosen.selections.get("few").round_at(0)
    assert sorted(added["sample"] for _, _, added in read) == sorted(samples.tolist())
    assert {label for _, label, _ in read} == set(range(10))
    again = tamis("selection", "materialize", "few", "--shard-size", "100kB")
    assert "cached" in again.out


def test_for_programs(tamis: Any, chosen: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("selection", "materialize", "few", out, "--shard-size", 100_000, "--workers", 3, "--json")
    first = tamis(*arguments)
    assert first.code == 0, first.err
    answer = first.json
    assert (answer["cached"], answer["kept"], answer["samples"], answer["url"]) == (False, 0, 120, str(out))
    assert [s["name"] for s in answer["shards"]] == sorted(p.name for p in out.glob("*.tar"))
    assert answer["bytes"] == sum(p.stat().st_size for p in out.glob("*.tar"))
    assert answer["fraction"] == answer["bytes"] / chosen.datasets.get("digits").bytes
    assert answer["pattern"] == f"{out}/curated-{{000000..000003}}.tar"
    again = tamis(*arguments).json
    assert again["cached"] is True
    assert again["shards"] == answer["shards"]
    paths = sorted(out.glob("*.tar"))
    assert tamis("dataset", "add", "few-digits", *paths, "--json").json["samples"] == 120


def test_relative_folder(tamis: Any, chosen: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tamis("selection", "materialize", "few", "here", "--json").json["url"] == str(tmp_path / "here")
    assert sorted(os.listdir(tmp_path / "here")) == ["curated-000000.tar", "curated.json"]


def test_rounds_by_epoch(tamis: Any, chosen: Store) -> None:
    dataset = chosen.datasets.get("digits")
    rounds = [RoundData(np.arange(30), first_epoch=0), RoundData(np.arange(20), first_epoch=4)]
    chosen.selections.publish(Request(dataset, "m", 1), "changing", rounds, seconds=0.0)
    assert tamis("selection", "materialize", "changing", "--json").json["samples"] == 30
    late = tamis("selection", "materialize", "changing", "--epoch", 7)
    assert "1, in force from epoch 4 (2 in all)" in late.out
    assert "samples    20" in late.out


def test_bad_input(tamis: Any, chosen: Store, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "curated-000000.tar").write_bytes(b"somebody's")
    (tmp_path / "file").write_bytes(b"")
    for arguments, wanted, code in (
        (("nope",), "there are: few", 1),
        (("few@2",), "versions 1 to 1, not 2", 1),
        (("few", "ftp://host/x"), "ftp:// is not one of them", 1),
        (("few", tmp_path / "taken"), "curated-000000.tar", 1),
        (("few", tmp_path / "file"), "is a file or inside one", 1),
        (("few", "--shard-size", "0"), "such as 64MiB", 2),
        (("few", "--shard-size", "-5"), "such as 64MiB", 2),
        (("few", "--shard-size", "5GiB"), "such as 64MiB", 2),
        (("few", "--shard-size", "big"), "such as 64MiB", 2),
        (("few", "--workers", 0), "--workers", 2),
        (("few", "--epoch", -1), "--epoch", 2),
    ):
        said = tamis("selection", "materialize", *arguments)
        assert said.code == code, (arguments, said)
        assert wanted in said.err, (arguments, said.err)
        assert "Traceback" not in said.err
    assert (tmp_path / "taken" / "curated-000000.tar").read_bytes() == b"somebody's"


def test_missing_source(tamis: Any, tmp_path: Path, digits: dict[str, list[Path]]) -> None:
    tamis("init")
    copy = Path(shutil.copy(digits["test"][0], tmp_path / "copy.tar"))
    tamis("dataset", "add", "digits", copy)
    tamis("select", "random", "--dataset", "digits", "--budget", 10, "--name", "few")
    copy.unlink()
    said = tamis("selection", "materialize", "few")
    assert said.code == 1
    assert f"Shard {copy} is missing" in said.err


def test_the_plan_says_what_is_best_and_why(chosen: Store, tamis: Any) -> None:
    said = tamis("selection", "plan", "few", "--epochs", 30)
    assert "* " in said.out
    assert "latency, bandwidth measured" in said.out
    given = ("--latency", 0.001, "--bandwidth", 1000)  # what is best on a busy machine is another matter
    answer = tamis("selection", "plan", "few", "--epochs", 30, *given, "--json").json
    assert answer["best"] == "ranges"
    assert [way["name"] for way in answer["ways"]] == ["ranges", "shards", "curated"]
    assert answer["ways"][0]["requests"] == 120
    assert answer["ways"][0]["bytes_first"] < answer["ways"][1]["bytes_first"]


def test_a_slow_medium_is_worth_curating_for_a_long_job(chosen: Store, tamis: Any) -> None:
    costs = ("--latency", 500, "--bandwidth", 100)
    assert tamis("selection", "plan", "few", *costs, "--epochs", 1000, "--json").json["best"] == "curated"
    assert "as told" in tamis("selection", "plan", "few", *costs).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), "No selection"),
        (("few", "--epochs", 0), "epochs"),
        (("few", "--cache", "5x"), "expected bytes"),
        (("few", "--bandwidth", 0), "bandwidth"),
    ],
)
def test_a_plan_of_something_wrong(chosen: Store, tamis: Any, arguments: tuple[object, ...], words: str) -> None:
    said = tamis("selection", "plan", *arguments)
    assert said.code in (1, 2)
    assert words in said.err
