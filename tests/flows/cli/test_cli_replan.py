"""`tamis package replan`: what a run with checks saw lowers claims, and the plan that runs is exchanged."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from runkit import film, keep_base, package, parts

from tamis.store import Store
from tamis.training.mainstream.scheduling.plan import read_plan


@pytest.fixture
def site(tamis: Any, tmp_path: Path) -> Path:
    """A store whose package a claims much for its whole model, though all its candidates answer alike."""
    store = Store.create(tmp_path / "store")
    package(store, "a", [0, 2, 4], claims={0: 0.99, 2: 0.9, 4: 0.6})
    package(store, "b", [4])
    store.packages.profiles.put(keep_base(store).key, [0.01] * parts().segments, device="cpu", threads=1, rest=0.001)
    film(tmp_path / "a.mp4", 60, (10, 20), (40, 50))
    assert tamis("package", "plan", "a", "--budget", "90%", "--rates", "2,5", "--out", tmp_path / "plan.json").code == 0
    return tmp_path


def test_a_run_with_checks_shows_claims_that_cannot_be_true(tamis: Any, site: Path) -> None:
    promised = read_plan(site / "plan.json").f1
    lines = site / "seen.jsonl"
    asked = ("package", "run", site / "plan.json", site / "a.mp4", "--check-every", ".4", "--out", lines, "--json")
    summary = tamis(*asked).json
    (row,) = summary["applications"]
    assert row["checks"]["branches"] == [0, 2, 4]
    assert row["checks"]["differ"] == [[0] * 3] * 3
    checks = [json.loads(line) for line in lines.read_text().splitlines() if '"check"' in line]
    assert len(checks) == row["checks"]["frames"] >= 12
    assert all(later["seconds"] - one["seconds"] > 0.399 for one, later in pairwise(checks))
    bright = {one["seconds"] for one in checks if set(one["hits"].values()) == {True}}
    assert bright == {one["seconds"] for one in checks if 1 <= one["seconds"] < 2 or 4 <= one["seconds"] < 5}
    with lines.open("a") as file:
        file.write('{"kind": "che')  # as a killed run leaves it
    for source in (summary["run"], lines):
        again = ("package", "replan", site / "plan.json", "--monitor", source, "--slack", "0", "--rates", "2,5")
        told = tamis(*again, "--json").json
        assert [(one["branch"], one["claimed"], one["lowered"]) for one in told["lowered"]] == [
            (0, 0.99, pytest.approx(0.6)), (2, 0.9, pytest.approx(0.6)),
        ]  # fmt: skip
        assert told["plan"]["f1"] < promised - 0.1
        assert "Claims lowered" in tamis(*again).out
    few = tamis("package", "replan", site / "plan.json", "--monitor", lines, "--rates", "2,5", "--json").json
    assert all(one["lowered"] > 0.6 for one in few["lowered"])  # so few frames do not show that much


def test_the_plan_that_runs_is_exchanged(tamis: Any, site: Path) -> None:
    plan = site / "plan.json"
    told = tamis("package", "replan", plan, "--add", "b", "--budget", "40%", "--rates", "1,2", "--out", plan, "--json")
    assert [(one["application"], one["why"]) for one in told.json["changes"]][-1] == ("b", "it came")
    assert [one.name for one in read_plan(plan).applications] == ["a", "b"]
    assert read_plan(plan).budget == 0.4
    assert tamis("package", "replan", plan, "--remove", "a", "--rates", "1,2", "--out", plan).code == 0
    assert [one.name for one in read_plan(plan).applications] == ["b"]
    ran = tamis("package", "run", plan, site / "a.mp4", "--no-record", "--json")
    assert [one["application"] for one in json.loads(ran.out.splitlines()[-1])["applications"]] == ["b"]


def test_what_cannot_be_planned_again_is_one_line(tamis: Any, site: Path) -> None:
    plan, garbage = site / "plan.json", site / "garbage.jsonl"
    garbage.write_text("1\n")
    (site / "empty.jsonl").write_text("")
    before = plan.read_bytes()
    for words, said in (
        (("--remove", "b"), "No application b"), (("--add", "c"), "No package"),
        (("--monitor", "f00"), "f00"), (("--monitor", garbage), "line 1"),
        (("--monitor", site / "empty.jsonl"), "--check-every"), (("--budget", "0.1%"), "needs"),
    ):  # fmt: skip
        refused = tamis("package", "replan", plan, *words, "--out", plan)
        assert (refused.code, said in refused.err, refused.err.count("\n")) == (1, True, 1), refused.err
    assert plan.read_bytes() == before
