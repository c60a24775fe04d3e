"""Looking at culling on the command line: sheets with boxes, time lines, precision against cost, boxes judged."""

from pathlib import Path
from typing import Any

import pytest
from footage import footage, found

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Request, RoundData

CAR = (2.0, 2.0, 40.0, 40.0)


@pytest.fixture
def site(tamis: Any, tmp_path: Path) -> Store:
    """Two cameras, passes of a student (all frames) and a teacher (three), and selection kept of these three."""
    assert tamis("init").code == 0
    store = Store.open(tmp_path / "store")
    dataset = footage(store, tmp_path)
    found(store, dataset, "student", {i: [(0.6, *CAR)] if i % 2 else [] for i in range(20)}, ms=2)
    found(store, dataset, "teacher", {i: [(0.9, *CAR)] for i in (3, 4, 12)}, ms=50)
    choose(store, dataset, "kept", [3, 4, 12])
    return store


def choose(store: Store, dataset: Dataset, name: str, samples: list[int]) -> None:
    request = Request(dataset, "by-hand", 1, {"name": name})
    store.selections.publish(request, name, [RoundData(samples, None, 0)], seconds=1.0)


def trained(store: Store, key: str, selection: str | None, **more: Any) -> None:
    chosen = None if selection is None else store.selections.get(selection).key
    config: dict[str, Any] = {
        "dataset": "site", "model": "ssdlite64-mobilenet", "task": "detection", "truth": ["teacher"], "epochs": 4,
        "evaluate_on": "judge", "selection": selection, "seed": 0,
    }  # fmt: skip
    store.runs.begin(kind="train", key=key, dataset="site@1", model="m", config=config | more, selection=chosen)
    history = [{"epoch": i + 1, "seconds": s} for i, s in enumerate((10.0, 20.0, 26.0, 36.0))]
    metrics = {"map": 0.25, "map50": 0.5, "map_small": 0.125, "history": history}
    store.runs.finish(key, metrics=metrics, seconds={"total": 40.0, "evaluate": 4.0})


def test_selection_images_with_boxes(tamis: Any, site: Store, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    asked = ["selection", "images", "kept", "--left-out", "--boxes", "student", "--boxes", "teacher", "--out", out]
    said = tamis(*asked, "--least", 40, "--tile", 100, "--json")
    assert said.code == 0, said.err
    assert [(one["sample"], one["camera"], one["seconds"], one["boxes"]) for one in said.json["most"]] == [
        (3, "north", 1.5, [1, 1]), (4, "north", 2.0, [0, 1]), (12, "south", 1.0, [0, 1]),
    ]  # fmt: skip
    assert len(said.json["least"]) == 17
    assert {one["boxes"][1] for one in said.json["least"]} == {None}
    assert out.read_bytes().startswith(b"\x89PNG")
    low = tamis(*asked, "--min-score", 0.7, "--json").json
    assert low["most"][0]["boxes"] == [0, 1]
    refused = tamis(*asked, "--boxes", "student")
    assert (refused.code, "expected up to 2 different ones" in refused.err) == (1, True)


def test_report_timeline(tamis: Any, site: Store, tmp_path: Path) -> None:
    out = tmp_path / "line.svg"
    said = tamis("report", "timeline", "kept", "--plot", out, "--json")
    assert said.code == 0, said.err
    north, south = said.json["lines"]
    assert (north["kept"], north["first"], north["last"], north["longest_gap"]) == (2, 1.5, 2.0, 2.5)
    assert (south["camera"], south["at"]) == ("south", [1.0])
    assert said.json["drawn"] == str(out)
    assert "kept@1" in out.read_text()
    shown = tamis("report", "timeline", "kept")
    for word in ("north", "0:01.5", "longest gap", "2.5"):
        assert word in shown.out


def test_report_culling_and_costs(tamis: Any, site: Store, tmp_path: Path) -> None:
    trained(site, "of-kept", "kept")
    trained(site, "of-all", None)
    trained(site, "in-batch", None, strategy={"name": "in-batch", "begin": 0.5, "end": 0.75})
    said = tamis("report", "culling", "--dataset", "site", "--plot", tmp_path / "culling.png", "--json")
    assert said.code == 0, said.err
    kept, full = said.json["groups"]
    assert (kept["label"], kept["kept"], kept["measures"]["map"]["mean"]) == ("kept@1", 0.15, 0.25)
    assert (kept["training"]["mean"], kept["choosing"], kept["teacher"]) == (36.0, 1.0, pytest.approx(0.15))
    assert (full["full"], full["kept"]) == (True, 1.0)
    assert said.json["passes"] == [
        {"role": "teacher", "run": "teacher", "model": "teacher:net", "frames": 3, "ms": 50.0}
    ]
    assert "1 training run skipped" in said.err
    shown = tamis("report", "culling", "--dataset", "site").out
    for word in ("kept@1", "15.00%", "small", "stage0", "Milliseconds a frame", "teacher:net"):
        assert word in shown
    costs = tamis("report", "costs", "--json").json["runs"]
    assert [one["t_diff"] for one in costs] == [None, None, pytest.approx(4.0)]  # 10 s outside, 6 s inside
    assert costs[2]["precision"] == {"map": 0.25, "map50": 0.5, "map_small": 0.125}
    shown = tamis("report", "costs").out
    assert "t_diff" in shown
    assert "0.125" in shown


def test_evaluate_judges_stored_boxes(tamis: Any, site: Store) -> None:
    """Of the three frames that the teacher looked at, the student finds the car in one."""
    said = tamis("evaluate", "student", "--dataset", "site", "--truth", "teacher", "--json")
    assert said.code == 0, said.err
    assert (said.json["samples"], said.json["classes"][0]["name"]) == (3, "car")
    assert said.json["metrics"]["map50"] == pytest.approx(1 / 3, abs=0.01)
    shown = tamis("evaluate", "student", "--dataset", "site", "--truth", "teacher")
    assert "car" in shown.out
    refused = tamis("evaluate", "student", "--dataset", "site")
    assert (refused.code, "give the run with those of site@1 as truth" in refused.err) == (1, True)
