"""`tamis report speedup` and `tamis selection stats`, `images`, `overlap`, on real training runs of the digits."""

from pathlib import Path
from typing import Any

import pytest

from tamis.store import Store
from tamis.training.config import Reselect
from tamis.training.job import TrainConfig, train

RECIPE: dict[str, Any] = {
    "dataset": "digits", "model": "preact8", "epochs": 2, "batch_size": 64, "lr": 0.05, "channels": 1,
}  # fmt: skip
MEASURED = {"evaluate_on": "digits-test", "evaluate_every": 1}


@pytest.fixture
def trained(tamis: Any, digits: dict[str, list[Path]], tmp_path: Path) -> Store:
    """Grad-Match's first training and a replay, full training, and one that was not measured."""
    assert tamis("init").code == 0
    store = Store.open(tmp_path / "store")
    store.datasets.add("digits", digits["train"])
    store.datasets.add("digits-test", digits["test"])
    train(store, TrainConfig(reselect=Reselect(name="gm", budget=200, every=1), **RECIPE, **MEASURED))
    for chosen in ({"selection": "gm"}, {}):
        train(store, TrainConfig(**chosen, **RECIPE, **MEASURED))
    train(store, TrainConfig(**RECIPE))
    return store


def test_report_speedup(tamis: Any, trained: Store, tmp_path: Path) -> None:
    out = tmp_path / "speedup.svg"
    said = tamis("report", "speedup", "--accuracy", 0.1, "--out", out, "--json")
    assert said.code == 0, said.err
    assert "1 training run skipped: no intermediate evaluations" in said.err
    assert [row["way"] for row in said.json["rows"]] == ["reselect", "replay", "full"]
    assert len(said.json["unmeasured"]) == 1
    assert said.json["drawn"] == str(out)
    assert out.read_text().startswith("<?xml")
    full = said.json["rows"][2]["run"]
    shown = tamis("report", "speedup", "--full", full[:8], "--dataset", "digits")
    assert shown.code == 0, shown.err
    for word in ("gradmatch, replayed", "gm@1", "pays after", "speedup", "sgd"):
        assert word in shown.out
    run = tamis("run", "show", full[:10]).out
    facts, measured = run.split("Evaluations during training")
    assert "history" not in facts
    assert "accuracy=" in facts
    assert [line.split("│")[1].strip() for line in measured.splitlines() if line.startswith("│")] == ["1", "2"]
    one = tamis("report", "speedup", said.json["rows"][1]["run"][:10], "--json").json["rows"]
    assert [row["way"] for row in one] == ["replay"]


def test_selection_stats_images_and_overlap(tamis: Any, trained: Store, tmp_path: Path) -> None:
    assert tamis("select", "random", "--dataset", "digits", "--budget", 200, "--name", "any").code == 0
    out = tmp_path / "histogram.png"
    stats = tamis("selection", "stats", "gm", "any", "--out", out, "--json")
    assert stats.code == 0, stats.err
    for ref, rounds in (("gm@1", 2), ("any@1", 1)):
        one = stats.json["selections"][ref]
        assert one["rounds"] == rounds
        counts = {int(b["low"]): b["samples"] for b in one["histogram"]}
        assert sum(counts.values()) == one["samples"] == 1498
        assert sum(times * n for times, n in counts.items()) == rounds * 200
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "times chosen" in tamis("selection", "stats", "gm").out
    assert "sum of weights" in tamis("selection", "stats", "gm", "--weighted", "--bins", 5).out

    sheet = tmp_path / "sheet.png"
    images = tamis("selection", "images", "gm", "--most", 10, "--least", 6, "--out", sheet, "--json")
    assert images.code == 0, images.err
    assert [len(images.json[side]) for side in ("most", "least")] == [10, 6]
    times = [one["times"] for one in images.json["most"]]
    assert times == sorted(times, reverse=True)
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert (
        "6 chosen least often: in 0 of 2 rounds" in tamis("selection", "images", "gm", "--least", 6, "--out", sheet).out
    )

    both = tamis("selection", "overlap", "gm", "any", "--epoch", 1, "--json").json
    diff = tamis("selection", "diff", "gm", "any", "--epoch", 1, "--json").json
    assert both["jaccard"][0][1] == diff["jaccard"]
    shown = tamis("selection", "overlap", "gm")
    assert shown.code == 0
    assert "round 1 (epoch 1)" in shown.out


def test_bad_input(tamis: Any, trained: Store, tmp_path: Path) -> None:
    run = next(r for r in trained.runs.all() if "history" not in r.metrics)
    for arguments, wanted, code in (
        (("report", "speedup", "--accuracy", 93), "0<x<=1", 2),
        (("report", "speedup", "--dataset", "nope"), "digits, digits-test", 1),
        (("report", "speedup", "--out", "plot.gif"), ".png or .svg", 1),
        (("report", "speedup", "--full", "feed"), "feed", 1),
        (("report", "speedup", run.key), "evaluate_every", 1),
        (
            (
                "selection",
                "stats",
            ),
            "REF",
            2,
        ),
        (("selection", "stats", "nope"), "there are: gm", 1),
        (("selection", "images", "gm"), "--out", 2),
        (("selection", "images", "gm", "--out", "sheet.gif"), ".png", 1),
        (("selection", "images", "gm", "--most", 0, "--least", 0, "--out", "sheet.png"), "expected 1 to 5000", 1),
        (("selection", "images", "gm", "--most", 1, "--out", tmp_path / "no" / "sheet.png"), "sheet.png", 1),
        (("selection", "overlap", "gm", "--epoch", 1), "give two or more", 1),
    ):
        said = tamis(*arguments)
        assert (said.code, "Traceback" in said.err) == (code, False), (arguments, said)
        assert wanted in said.err, (arguments, said.err)
