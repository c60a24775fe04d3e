"""`tamis report costs`, `frontier`, `confidence`, `similarity`: parsing and printing over the library."""

from pathlib import Path
from typing import Any

import pytest

from tamis.store import Store
from tamis.training.job import TrainConfig, train

SECONDS = {
    "total": 20.0, "evaluate": 2.0, "select": 5.0, "stream": 1.5, "selection_forward": 3.0, "training_forward": 4.0,
    "backward": 6.0,
}  # fmt: skip
FULL = [(10, 100, 0.5), (20, 200, 0.3), (30, 300, 0.1)]
QUICK = [(4, 50, 0.4), (10, 80, 0.12)]


def put(store: Store, key: str, points: list[tuple[float, int, float]], old: bool = False, **config: Any) -> None:
    """A finished run by hand."""
    history: list[dict[str, float]] = [
        {"epoch": i + 1, "seconds": s, "selecting": 0, "accuracy": 1 - e, "train_loss": 1, "backprops": b}
        for i, (s, b, e) in enumerate(points)
    ]
    if old:
        history = [{k: v for k, v in one.items() if k != "backprops"} for one in history]
    config = {"dataset": "d", "model": "preact8", "evaluate_on": "judge"} | config
    store.runs.begin(kind="train", key=key, dataset="d@1", model="preact8", config=config)
    counts = {} if old else {"backprops": 300, "samples_read": 400, "bytes_read": 5_000_000}
    metrics = counts | ({"history": history} if history else {})
    store.runs.finish(key, metrics=metrics, seconds={"total": 9.0} if old else SECONDS)


SB = {"name": "selective-backprop", "selectivity": 0.33, "leaves": None}


@pytest.fixture
def store(tamis: Any, tmp_path: Path) -> Store:
    assert tamis("init").code == 0
    made = Store.open(tmp_path / "store")
    put(made, "aaaa1", FULL)
    put(made, "bbbb1", QUICK, strategy=SB)
    put(made, "cccc1", [])
    return made


def test_report_costs(tamis: Any, store: Store, tmp_path: Path) -> None:
    put(store, "dddd1", [], old=True, epochs=3)
    said = tamis("report", "costs", "--json", "--plot", tmp_path / "costs.png")
    assert said.code == 0, said.err
    assert said.json["drawn"] == str(tmp_path / "costs.png")
    for one in said.json["runs"]:
        assert sum(seconds or 0 for seconds in one["parts"].values()) == pytest.approx(one["total"])
    assert said.json["runs"][0]["parts"]["selecting"] == 2.0
    assert said.json["runs"][3]["parts"]["backward"] is None
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")
    shown = tamis("report", "costs", "aaaa1", "bbbb1").out
    for word in ("selection", "choosing", "reading", "other", "5.0 MB", "selective-backprop, selectivity=0.33"):
        assert word in shown
    assert "seed" not in shown  # which both have in common


def test_report_frontier(tamis: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full training has .12 on the line from 20 to 30 s, at 29 s; Selective-Backprop at 10 s."""
    monkeypatch.setenv("COLUMNS", "200")
    said = tamis("report", "frontier", "--json", "--plot", tmp_path / "frontier.svg")
    assert said.code == 0, said.err
    assert "1 training run skipped: no intermediate evaluations" in said.err
    assert [one["label"] for one in said.json["groups"]] == ["full", "selective-backprop, selectivity=0.33"]
    assert said.json["groups"][1]["speedup"]["seconds"][1]["mean"] == pytest.approx(2.9)
    assert (tmp_path / "frontier.svg").read_text().startswith("<?xml")
    shown = tamis("report", "frontier", "--factors", "1,1.2").out
    row = next(line for line in shown.splitlines() if "selective" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "selective-backprop, selectivity=0.33", "1", "0.12", "-", "2.90x", "2", "67%",
    ]  # fmt: skip
    assert "selectivity=0.33" in tamis("report", "frontier", "--by", "selectivity", "--against", "backprops").out
    put(store, "dddd1", [(5, 0, 0.2)], old=True, lr=0.5)
    assert "1 training run without backprops in the history" in tamis("report", "frontier").err


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_narrow_terminals_lose_nothing(tamis: Any, store: Store, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for name, words in (("costs", ("choosing", "5.0 MB")), ("frontier", ("2.90x", "67%"))):
        said = tamis("report", name, "aaaa1", "bbbb1")
        assert said.code == 0, said.err
        for word in words:
            assert word in said.out


def test_confidence_and_similarity(tamis: Any, store: Store, digits: dict[str, list[Path]], tmp_path: Path) -> None:
    store.datasets.add("few", digits["test"])
    run = train(store, TrainConfig(dataset="few", model="preact8", epochs=1, channels=1)).run.key
    confidence = "report", "confidence", run[:10], "--dataset", "few"
    said = tamis(*confidence, "--parts", 20, "--json", "--plot", tmp_path / "confidence.svg")
    assert said.code == 0, said.err
    [one] = said.json["runs"]
    assert (one["run"], one["samples"], len(one["confidence"]), one["percentile"][-1]) == (run, 299, 20, 100)
    shown = tamis(*confidence).out
    assert [line.split("│")[3].strip() for line in shown.splitlines() if line.startswith("│")] == [
        str(percentile) for percentile in range(10, 101, 10)
    ]
    similarity = "report", "similarity", run[:10], "--dataset", "few", "--batch", 64, "--batches", 2
    said = tamis(*similarity, "--selectivity", "1,.25", "--json", "--plot", tmp_path / "similarity.svg")
    assert said.code == 0, said.err
    assert [row["samples"] for row in said.json["rows"]] == [64, 64, 16, 16]
    assert said.json["rows"][0]["cosine"] == pytest.approx(1)
    assert "high-loss" in tamis(*similarity).out
    for name in ("confidence", "similarity"):
        assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (("costs", "0000"), 1, "'0000' names 0 runs"),
        (("costs", "aaaa1", "--plot", "bars.gif"), 1, "ends in .png or .svg"),
        (("frontier", "cccc1"), 1, "cccc1 was not evaluated during training"),
        (("frontier", "--by", "colour"), 1, "No run has a 'colour' to group by"),
        (("frontier", "--factors", "1.1;2"), 2, "expected numbers with commas"),
        (("frontier", "--factors", "0.5"), 1, "A factor is 0.5"),
        (("confidence", "aaaa1"), 2, "--dataset"),
        (("confidence", "--dataset", "d"), 2, "RUN"),
        (("confidence", "aaaa1", "--dataset", "d"), 1, "name a finished training run"),
        (("similarity", "aaaa1", "--dataset", "d", "--selectivity", "half"), 2, "expected numbers with commas"),
        (("similarity", "0000", "--dataset", "d"), 1, "'0000' names 0 runs"),
    ],
)
def test_what_reports_refuse(tamis: Any, store: Store, given: tuple[str, ...], code: int, message: str) -> None:
    said = tamis("report", *given)
    assert (said.code, message in said.err) == (code, True), said.err
