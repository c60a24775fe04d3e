"""`tamis adapt` and `tamis priority`: from a search to a training run by its function's name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tamis = Callable[..., Any]
QUICK = ("--model", "tiny_model:linear", "--channels", 1, "--augment", "none", "--batch-size", 64, "--lr", 0.01)
SEARCH = ("adapt", "digits", *QUICK, "--sampler", "random", "--trials", 2, "--budget-epochs", 1, "--start", 0)


@pytest.fixture
def ready(tamis: Tamis, digits: dict[str, list[Path]]) -> Tamis:
    tamis("init")
    assert tamis("dataset", "add", "digits", *digits["train"]).code == 0
    return tamis


def test_from_a_search_to_a_training_run(ready: Tamis, tmp_path: Path) -> None:
    said = ready(*SEARCH, "--json")
    assert said.code == 0, said.err
    (one,) = said.json["found"]
    assert (one["priority"], one["complete"], one["failed"], one["kind"]) == ("digits-adaptsb@1", 2, 0, "linear")
    assert ready(*SEARCH, "--json").json["cached"] is True
    shown = ready("priority", "show", "digits-adaptsb", "--plot", tmp_path / "f.svg", "--json").json
    assert shown["search"] == one["search"]
    assert shown["stats"]["value"] == one["error"]
    assert [p["probability"] for p in shown["probabilities"] if p["share"] in (0, 0.5, 0.8, 1)] == one["values"]
    assert b"probability of selection" in (tmp_path / "f.svg").read_bytes()
    trained = ready("train", "--dataset", "digits", *QUICK, "--epochs", 1, "--strategy", "selective-backprop",
                    "--priority", "digits-adaptsb@1", "--json")  # fmt: skip
    assert trained.code == 0, trained.err
    listed = ready("run", "ls", "--kind", "trial", "--json").json
    assert [run["config"]["trial"] for run in listed] == [0, 1]


def test_a_function_is_imported_listed_and_trained_by(ready: Tamis, tmp_path: Path) -> None:
    function = {"version": 1, "kind": "beta", "values": [3, 2], "points": []}
    (tmp_path / "f.json").write_text(json.dumps(function))
    assert ready("priority", "import", "mine", tmp_path / "f.json", "--json").json["priority"] == "mine@1"
    assert ready("priority", "import", "mine", tmp_path / "f.json", "--json").json["priority"] == "mine@1"
    (row,) = ready("priority", "ls", "--json").json
    assert (row["priority"], row["kind"], row["values"], row["search"]) == ("mine@1", "beta", [3, 2], None)
    assert "mine@1" in ready("priority", "ls").out
    (tmp_path / "g.json").write_text(json.dumps(function | {"values": [0.1, 2]}))
    refused = ready("priority", "import", "mine", tmp_path / "g.json")
    assert (refused.code, "holds no prioritisation function: a and b are" in refused.err) == (2, True)
    by_name, by_text = (
        ready("train", "--dataset", "digits", *QUICK, "--epochs", 1, "--strategy", "selective-backprop", "--priority",
              given, "--json").json
        for given in ("mine", json.dumps(function, sort_keys=True, separators=(",", ":")))
    )  # fmt: skip
    assert by_name["run"] == by_text["run"]
    assert by_text["cached"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adapt", "digit", *QUICK, "--budget-epochs", 1), "Did you mean 'digits'?"),
        (("adapt", "digits", *QUICK), "give one of budget_epochs, budget_seconds and budget_backprops"),
        (("adapt", "digits", *QUICK, "--budget-epochs", 1, "--holdout", "digits"), "are in digits@1 too"),
        (("adapt", "digits", "--model", "tiny_model:liner", "--budget-epochs", 1), "tiny_model:liner"),
        (("priority", "show", "nothing"), "No priority 'nothing'"),
        (
            ("train", "--dataset", "digits", *QUICK, "--strategy", "selective-backprop", "--priority", "f@x"),
            "comes a version",
        ),
    ],
)
def test_one_clear_line(ready: Tamis, arguments: tuple[Any, ...], message: str) -> None:
    said = ready(*arguments)
    assert said.code in (1, 2)
    assert message in " ".join(said.err.split())
    assert "Traceback" not in said.err


def test_a_search_shorter_than_its_random_part_says_so(ready: Tamis) -> None:
    said = ready("adapt", "digits", *QUICK, "--trials", 1, "--budget-epochs", 1)
    assert said.code == 0, said.err
    assert "so no Gaussian process proposes any" in " ".join(said.err.split())
