"""`tamis select gradmatch` on real digits: in a training run, by a trained model, replayed, and asked wrongly."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tamis.store import Store

FEW = ("--dataset", "digits", "--budget", 100, "--batch-size", 64, "--augment", "none")


@pytest.fixture
def indexed(made: Path, tmp_path: Path) -> Store:
    return Store.open(shutil.copytree(made / "full", tmp_path / "store"))


def test_choices_are_kept_and_replayed(tamis: Any, indexed: Store) -> None:
    asked = ("select", "gradmatch", *FEW, "--model", "preact8", "--epochs", 3, "--every", 2, "--name", "gm",
             "--weight-decay", 0.001)  # fmt: skip
    first = tamis(*asked, "--json")
    assert first.code == 0, first.err
    assert [(r["from epoch"], r["samples"]) for r in first.json["rounds"]] == [(0, 100), (2, 100)]
    assert indexed.runs.get(first.json["run"]).config["weight_decay"] == 0.001
    again = tamis(*asked)
    assert "cached" in again.out
    assert "Rounds" in again.out
    replay = tamis("train", "--dataset", "digits", "--selection", "gm", "--model", "preact8", "--epochs", 3,
                   "--optimizer", "adam", "--lr", 0.001, "--batch-size", 64, "--augment", "none", "--json")  # fmt: skip
    assert replay.code == 0, replay.err
    assert replay.json["metrics"]["samples_read"] == 3 * 100
    by_run = tamis(
        "select", "gradmatch", *FEW, "--run", replay.json["run"][:12], "--kind", "batch", "--name", "by",
        "--spare", 0, "--surplus", 3, "--beside-random", "--json",
    )  # fmt: skip
    assert by_run.code == 0, by_run.err
    assert indexed.selections.get("by").inputs == (replay.json["run"],)
    assert [(r["from epoch"], r["samples"]) for r in by_run.json["rounds"]] == [(0, 100)]
    params = indexed.selections.get("by").params
    assert (params["kind"], params["spare"], params["surplus"]) == ("batch", 0.0, 3.0)
    assert {"tolerance", "part_size"}.isdisjoint(params)  # as they always were
    assert by_run.json["beside"] == "by-random@1"
    assert (indexed.selections.get("by-random").size, indexed.selections.get("by-random").method) == (100, "random")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Choose a gradient source"),
        (("--model", "preact8", "--run", "a"), "Choose a gradient source"),
        (("--model", "nobody"), "nobody"),
        (("--run", "feedbeef"), "feedbeef"),
        (("--model", "preact8", "--lam", -1), "--lam"),
        (("--model", "preact8", "--warm", 0), "--warm"),
        (("--model", "preact8", "--spare", 1), "--spare"),
        (("--model", "preact8", "--kind", "classes"), "class-gradient"),
        (("--model", "preact8", "--budget", "140 %"), "140 %"),
        (("--model", "preact8", "--head", "nowhere"), "nowhere"),
    ],
)
def test_wrong_questions(tamis: Any, indexed: Store, arguments: tuple[Any, ...], words: str) -> None:
    said = tamis("select", "gradmatch", *FEW, "--epochs", 1, *arguments)
    assert said.code in (1, 2)
    assert words in said.err
