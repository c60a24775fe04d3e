"""`tamis package plan`: schedules of stored packages, and one line for what cannot be planned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tamis.store import Store
from tamis.store.packages import Base, Candidate, EventFigures, NewPackage
from tamis.training.mainstream.scheduling.plan import read_plan

FIGURES = ((0, 0.95, 0.01), (1, 0.9, 0.02), (2, 0.7, 0.1))  # branch, true and false positive rate


@pytest.fixture
def two(store: Store) -> Store:
    """A store with trains@1 and bikes@1 on one base of two segments, without a profile."""
    of = store.packages.bases.put(
        save({"stem": np.zeros(4, np.float32)}), model="mobilenet_v2", outputs=1000, channels=3, image_size=224,
        mean=[0.5] * 3, std=[0.5] * 3,
    )  # fmt: skip
    for number, name in enumerate(("trains", "bikes")):
        publish(store, of, name, number, EventFigures(2.5, 1.0, 0.125, 0.25))
    return store


def publish(store: Store, of: Base, name: str, number: int, events: EventFigures | None) -> None:
    keys = [f"{10 * number + branch:032x}" for branch, _, _ in FIGURES]
    for key, (branch, tpr, fpr) in zip(keys, FIGURES, strict=True):
        one = Candidate(key, of.key, branch, f"block{branch}", 3 * branch, 5000, (1 + tpr - fpr) / 2, tpr, fpr)
        store.packages.finish_candidate(one, save({"head": np.full(3, 10 * number + branch, np.float32)}))
    new = NewPackage(name, of.key, "street@1", None, ("no", "yes"), "yes", events, 224, number)
    store.packages.publish(new, keys)


def profiled(store: Store, threads: int = 1) -> None:
    (of,) = store.packages.bases.all()
    store.packages.profiles.put(of.key, [0.04, 0.02], device="cpu", threads=threads, rest=0.001)


def test_a_plan_is_printed_written_and_adds_up(tamis: Any, two: Store, tmp_path: Path) -> None:
    profiled(two)
    out = tmp_path / "plan.json"
    answer = tamis("package", "plan", "trains@1", "bikes", "--budget", "40%", "--out", out, "--json").json
    made = read_plan(out)
    assert answer == made.model_dump(mode="json") | {"out": str(out)}
    assert [a.package for a in made.applications] == ["trains@1", "bikes@1"]
    assert made.budget == 0.4
    stem = sum(
        s * max((a.fps for a in made.applications if a.branch > i), default=0) for i, s in enumerate((0.04, 0.02))
    )
    own = sum(a.fps * (sum((0.04, 0.02)[a.branch :]) + 0.001) for a in made.applications)
    assert made.cost == pytest.approx(stem + own)
    (base,) = made.bases
    assert made.profiles == {base: two.packages.profiles.all()[0].key}
    told = tamis("package", "plan", "trains", "bikes", "--budget", "0.4").out
    for text in ("trains@1", "no-sharing", "max-sharing", "0.4"):
        assert text in told


def test_modes_rates_and_votes(tamis: Any, two: Store) -> None:
    profiled(two)
    asked = ("package", "plan", "trains", "trains", "bikes", "--budget", "30%", "--json")
    best = tamis(*asked, "--mode", "optimum", "--rates", "0.5,1,2", "--votes", "1,2").json
    assert [a["name"] for a in best["applications"]] == ["trains", "trains-2", "bikes"]
    assert {a["fps"] for a in best["applications"]} <= {0.5, 1.0, 2.0}
    for mode in ("mainstream", "fair", "no-sharing", "max-sharing"):
        assert tamis(*asked, "--mode", mode, "--rates", "0.5,1,2", "--votes", "1,2").json["f1"] <= best["f1"] + 1e-9
    assert tamis("package", "plan", "--budget", "1", "--json").json["applications"] == []


def test_what_cannot_be_planned(tamis: Any, two: Store) -> None:
    def refused(*words: object, code: int = 1) -> str:
        said = tamis("package", "plan", *words)
        assert said.code == code
        assert "Traceback" not in said.err
        return " ".join(said.err.split())

    asked = ("trains", "bikes", "--budget")
    assert "no latency profile" in refused(*asked, "50%")
    profiled(two)
    assert "Max-Sharing at the lowest rate needs 0.062" in refused(*asked, "5%")
    assert "is no share" in refused(*asked, "much", code=2)
    assert "The budget is 0.0" in refused(*asked, "0")
    assert "no list of numbers" in refused(*asked, "50%", "--rates", "1,fast", code=2)
    assert "above 0" in refused(*asked, "50%", "--rates", "0,1")
    assert "No package" in refused("boats", "--budget", "50%")
    profiled(two, threads=2)
    assert "has 2 latency profiles" in refused(*asked, "50%")
    assert tamis("package", "plan", *asked, "50%", "--threads", "2", "--json").json["cost"] <= 0.5
    (of,) = two.packages.bases.all()
    publish(two, of, "silent", 2, None)
    assert "how long and how frequent" in refused("silent", "--budget", "1", "--threads", 1)
