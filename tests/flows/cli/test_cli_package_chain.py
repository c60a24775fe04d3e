"""Mainstream from end to end: two zone events of one camera are labelled, built, planned, run and judged."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from videokit import H, W, video

from tamis.store import Store
from tamis.training.models.registry import build_model

ZONES = {"left": slice(12, 26), "right": slice(38, 52)}  # columns: frames are cropped to the middle 48 of 64
PERIODS = {"left": (40, 15), "right": (55, 20)}  # frames from event to event, frames of one
FRAMES = 480
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
STREETS = {"left": "b.x1 between 100 and 380", "right": "b.x1 between 380 and 660"}


def street(i: int) -> Any:
    """A dark picture with noise; a zone is bright while its event lasts."""
    pixels = np.random.default_rng(i).integers(20, 60, (H, W, 3), dtype=np.uint8)
    for zone, columns in ZONES.items():
        if inside(zone, i):
            pixels[12:36, columns] = 220
    return pixels


def inside(zone: str, i: int) -> bool:
    every, lasts = PERIODS[zone]
    return i % every >= every - lasts


def build(tamis: Any, zone: str, weights: Path, *recipe: Any) -> dict[str, Any]:
    made = tamis("package", "build", zone, "--dataset", f"{zone}-train", "--evaluate-on", f"{zone}-later", "--event",
                 "yes", "--base", "preact8", "--weights", weights, "--mean", ".3,.3,.3", "--std", ".3,.3,.3",
                 *recipe, "--json")  # fmt: skip
    assert made.code == 0, made.err
    return made.json


def planned_and_run(tamis: Any, source: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan of both packages, and the summary of its run against the labels."""
    profile = tamis("package", "profile", "left", "--threads", 1, "--repeats", 3, "--json")
    assert profile.code == 0, profile.err
    asked = ("package", "plan", "left", "right", "--rates", "1,2,5,10", "--out", folder / "plan.json", "--json")
    plan = tamis(*asked, "--budget", "90%")
    assert plan.code == 0, plan.err
    labels = folder / "labels.csv"
    ran = tamis("package", "run", folder / "plan.json", source, "--labels", labels, "--json")
    assert ran.code == 0, ran.err
    return plan.json, json.loads(ran.out.splitlines()[-1])


def test_two_zone_events_of_a_generated_street(tamis: Any, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    film = video(tmp_path / "street.mp4", FRAMES, picture=street)
    torch.save(build_model("preact8", num_classes=5).state_dict(), tmp_path / "base.pth")
    assert tamis("init").code == 0
    assert tamis("dataset", "add", "street", film, "--fps", "all").code == 0
    lines = ["application,begins,ends"]
    for zone, (every, lasts) in PERIODS.items():
        of_zone = f"round(seconds * 10)::int % {every} >= {every - lasts}"
        query = f"select sample, {of_zone} as label from frames where dataset = 'street'"
        said = tamis("dataset", "relabel", "street", "--as", zone, "--classes", "no,yes", "--sql", query)
        assert said.code == 0, said.err
        assert tamis("dataset", "split", zone, "--into", "train=.6,later=.4", "--by", "time").code == 0
        made = build(tamis, zone, tmp_path / "base.pth", "--image-size", 24, "--epochs", 12, "--lr", 0.003,
                     "--branchpoints", "0,3,4", "--patience", 12)  # fmt: skip
        assert max(one["accuracy"] for one in made["candidates"]) > 0.95
        lines += [f"{zone},{a / 10},{(a + lasts) / 10}" for a in range(every - lasts, FRAMES, every)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    plan, summary = planned_and_run(tamis, film, tmp_path)
    assert plan["cost"] <= 0.9
    assert {one["name"] for one in plan["applications"]} == {"left", "right"}
    packages = {one.name: one for one in Store.open(tmp_path / "store").packages.all()}
    for one in summary["applications"]:
        figures, (every, lasts) = packages[one["application"]].events, PERIODS[one["application"]]
        assert figures is not None
        assert figures.average == pytest.approx(lasts / 10, abs=0.2)
        assert figures.frequency == pytest.approx(lasts / every, abs=0.06)
        assert one["f1"] > 0.8
    assert summary["dropped"] == 0
    rows = tamis("sql", f"select count(*) as n from looks where run = '{summary['run']}'", "--json").json
    assert rows == [{"n": sum(one["looks"] for one in summary["applications"])}]


@pytest.mark.real
@pytest.mark.timeout(1800)
def test_two_zone_events_of_vtest(
    tamis: Any, tmp_path: Path, real: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person in each half of the street, told by NanoDet at two frames a second; a small base that knows nothing."""
    torch.set_num_threads(1)
    film, model = next(real("vtest").rglob("*.avi")), next(real("nanodet").rglob("nanodet.pt"))
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "nanodet", raising=False)
    torch.save(build_model("preact8", num_classes=5).state_dict(), tmp_path / "base.pth")
    assert tamis("init").code == 0
    assert tamis("dataset", "add", "street", film, "--fps", 2).code == 0
    seen = tamis("score", "boxes", "--dataset", "street", "--model", "nanodet:detector", "--weights", model,
                 "--classes", model.with_name("classes.txt"), "--json")  # fmt: skip
    assert seen.code == 0, seen.err
    lines = ["application,begins,ends"]
    for zone, where in STREETS.items():
        query = (
            f"select f.sample, count(b.sample) >= 3 as label from frames f left join boxes b on b.run = "
            f"'{seen.json['run']}' and b.sample = f.sample and b.class = 'person' and b.score > .4 and {where} "
            "where f.dataset = 'street' group by f.sample"
        )
        said = tamis("dataset", "relabel", "street", "--as", zone, "--classes", "no,yes", "--sql", query)
        assert said.code == 0, said.err
        assert tamis("dataset", "split", zone, "--into", "train=.6,later=.4", "--by", "time").code == 0
        build(tamis, zone, tmp_path / "base.pth", "--image-size", 64, "--epochs", 6, "--lr", 0.003,
              "--branchpoints", "0,3,4", "--smooth", 1)  # fmt: skip
        lines += [f"{zone},{a},{b}" for a, b in events_of(tamis, zone)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    plan, summary = planned_and_run(tamis, film, tmp_path)
    assert plan["cost"] <= 0.9
    assert [one["application"] for one in summary["applications"]] == ["left", "right"]
    assert all(0 <= one["f1"] <= 1 for one in summary["applications"])
    assert sum(one["looks"] for one in summary["applications"]) > 0


def events_of(tamis: Any, zone: str) -> list[tuple[float, float]]:
    """Begin and end of each event of a labelled street, in seconds."""
    rows = tamis("sql", f"select seconds, s.label from frames f join samples s on s.dataset = '{zone}' and "
                 "s.sample = f.sample where f.dataset = 'street' order by seconds", "--json").json  # fmt: skip
    found: list[tuple[float, float]] = []
    for row in rows:
        if row["label"] == 1:
            joined = found and row["seconds"] - found[-1][1] < 0.75
            found[-1:] = [(found[-1][0], row["seconds"])] if joined else [*found[-1:], (row["seconds"],) * 2]
    assert found
    return [(a, b + 0.5) for a, b in found]
