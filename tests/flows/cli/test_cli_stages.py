"""`tamis select stages`: a student and a teacher that were trained by commands, and one line for what is wrong."""

import shutil
from pathlib import Path
from typing import Any

from tamis.store import Store


def test_two_models_choose(tamis: Any, made: Path, tmp_path: Path) -> None:
    store = Store.open(shutil.copytree(made / "full", tmp_path / "store"))
    runs = list[str]()
    for seed in (0, 1):
        words = ("--epochs", 1, "--batch-size", 128, "--seed", seed, "--channels", 1, "--json")
        trained = tamis("train", "--dataset", "digits", "--model", "preact8", *words)
        assert trained.code == 0, trained.err
        runs.append(trained.json["run"])
    asked = ("select", "stages", "--dataset", "digits", "--student", runs[0][:12], "--budget", "2%", "--json")
    said = tamis(*asked, "--teacher", runs[1][:12], "--look", "10%")
    assert said.code == 0, said.err
    assert (said.json["size"], said.json["looked_at_by_teacher"], said.json["created"]) == (30, 150, True)
    assert store.selections.get(said.json["selection"]).method == "stages"
    assert not tamis(*asked, "--teacher", runs[1], "--look", 150).json["created"]
    for words, wrong in (
        (("--teacher", runs[0], "--look", "10%"), "one model"),
        (("--teacher", runs[1], "--look", "1%"), "cannot be kept of 15"),
        (("--teacher", "f00", "--look", "10%"), "f00"),
    ):
        refused = tamis(*asked, *words)
        assert (refused.code, wrong in refused.err, refused.err.count("\n")) == (1, True, 1), refused.err
