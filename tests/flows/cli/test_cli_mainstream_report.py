"""`tamis report mainstream`: figures of a file, of packages, of a run; drawn, as JSON; bad input in one line."""

from pathlib import Path
from typing import Any

import pytest
from curvekit import people, written

from tamis.store import Store
from tamis.training.mainstream.runner.executing import Look
from tamis.training.mainstream.runner.results import Recorder

QUICK = ("--set-ups", 1, "--applications", 2, "--rates", "1,2,4", "--slow-rates", "0.5", "--budget", 20)


def test_curves_of_a_file(tamis: Any, tmp_path: Path) -> None:
    """No store is needed. All figures that need no run are drawn, each into its file."""
    out = tmp_path / "figures"
    asked = ("--curves", written(tmp_path), "--figure", "all", *QUICK)
    said = tamis("report", "mainstream", *asked, "--plot", f"{out}/", "--json")
    assert said.code == 0, said.err
    names = ["sharing", "rate", "applications", "budget", "correlation", "votes", "false-positives"]
    assert [one["name"] for one in said.json["figures"]] == names
    assert said.json["drawn"] == [str(out / f"{name}.svg") for name in names]
    assert all("<svg" in Path(file).read_text() for file in said.json["drawn"])
    assert said.json["settings"]["rates"] == [1, 2, 4]
    rows = said.json["figures"][2]["rows"]
    assert {row["mode"] for row in rows} == {"Mainstream", "No-Sharing", "Max-Sharing"}
    assert tamis("report", "mainstream", *asked, "--json").json["figures"] == said.json["figures"]


def test_packages_of_a_store(tamis: Any, store: Store, tmp_path: Path) -> None:
    people(store)
    out = tmp_path / "budget.png"
    said = tamis("report", "mainstream", "people", "--figure", "budget", *QUICK, "--budgets", "3,20", "--plot", out)
    assert said.code == 0, said.err
    for word in ("budget (figure 5.11)", "No-Sharing", "Written to"):
        assert word in said.out
    assert "Mainstream does not fit the budget for some workloads at 3" in said.err
    assert out.read_bytes().startswith(b"\x89PNG")


def test_time_line_of_a_run(tamis: Any, store: Store, tmp_path: Path) -> None:
    recorder = Recorder(store, "live", source="street", dataset="", config={})
    for frame, hit in enumerate((False, True, True)):
        recorder.look("people@1", Look("people", frame, frame / 2, hit, 0.9, 2.0))
    recorder.finish({}, {"total": 1.0})
    asked = ("report", "mainstream", "--figure", "all", "--run", "live")
    said = tamis(*asked, "--plot", tmp_path / "looks.svg", "--json")
    assert said.code == 0, said.err
    (row,) = said.json["figures"][0]["rows"]
    assert (row["looks"], row["hits"], row["fps"]) == (3, 2, 2.0)
    assert "people" in (tmp_path / "looks.svg").read_text()
    cut = tamis(*asked, "--window", "0.4,2", "--json").json["figures"][0]["rows"]
    assert cut[0]["looks"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name packages of the store"),
        (("--figure", "timeline"), "give one with --run"),
        (("--curves", "none.json"), "cannot be read"),
        (("--curves", "{curves}", "--figure", "all", "--plot", "one.svg"), "7 figures do not fit"),
        (("--curves", "{curves}", "--plot", "one.gif"), ".svg"),
        (("--curves", "{curves}", "people"), "choose one"),
        (("--curves", "{curves}", "--set-ups", 0), "expected 1 to 10,000"),
        (("--curves", "{curves}", "--lengths", "1"), "takes two numbers"),
        (("people",), "No package 'people'"),
    ],
)
def test_bad_input_is_one_line(tamis: Any, store: Store, tmp_path: Path, arguments: Any, words: str) -> None:
    given = [str(one).format(curves=written(tmp_path)) for one in arguments]
    said = tamis("report", "mainstream", *given)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert words in said.err


def test_lists_of_numbers_are_refused_by_name(tamis: Any, tmp_path: Path) -> None:
    said = tamis("report", "mainstream", "--curves", written(tmp_path), "--votes", "1,x")
    assert said.code == 2
    assert "expected whole numbers with commas" in said.err
