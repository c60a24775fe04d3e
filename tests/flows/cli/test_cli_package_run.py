"""`tamis package run`: lines, table, JSON, a stop in a real process, and one clear line for what is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runkit import film, planned

from tamis.store import Store

STRETCHES = ((10, 20), (40, 50))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A store with two packages, a plan of them, and a video."""
    store = Store.create(tmp_path / "store")
    planned(store, tmp_path / "plan.json", [("a", 2, 10, 1), ("b", 3, 5, 2)])
    film(tmp_path / "a.mp4", 60, *STRETCHES)
    (tmp_path / "labels.csv").write_text("application,begins,ends\na,1,2\nb,4,5\n")
    return tmp_path


def test_lines_go_to_stdout_and_the_summary_is_the_last(tamis: Any, site: Path) -> None:
    said = tamis("package", "run", site / "plan.json", site / "a.mp4", "--labels", site / "labels.csv", "--json")
    assert said.code == 0, said.err
    *lines, summary = [json.loads(line) for line in said.out.splitlines()]
    assert [line["kind"] for line in lines] == ["opened", "opened", "event", "event"] * 2
    assert summary["kind"] == "summary"
    assert [(one["application"], one["looks"], one["events"], one["f1"]) for one in summary["applications"]] == [
        ("a", 60, 2, pytest.approx(2 / 3)), ("b", 30, 2, pytest.approx(2 / 3)),
    ]  # fmt: skip
    asked = tamis("sql", f"select application, begins from events where run = '{summary['run']}'", "--json")
    assert sorted((row["application"], row["begins"]) for row in asked.json) == [("a", 1), ("a", 4), ("b", 1), ("b", 4)]


def test_with_a_file_for_the_lines_the_table_is_on_stdout(tamis: Any, site: Path) -> None:
    out = site / "lines.jsonl"
    said = tamis("package", "run", site / "plan.json", site / "a.mp4", "--out", out, "--lines", "hits", "--no-record")
    assert said.code == 0, said.err
    kinds = [json.loads(line)["kind"] for line in out.read_text().splitlines()]
    assert [kinds.count(kind) for kind in ("look", "opened", "event")] == [30, 4, 4]
    assert "Applications" in said.out
    assert "a@1" in said.out
    assert tamis("sql", "select count(*) as n from looks", "--json").json == [{"n": 0}]


def test_without_one_the_table_is_on_stderr(tamis: Any, site: Path) -> None:
    said = tamis("package", "run", site / "plan.json", site / "a.mp4", "--labels", site / "labels.csv")
    assert [json.loads(line)["kind"] for line in said.out.splitlines()] == ["opened", "opened", "event", "event"] * 2
    assert "Against the labels" in said.err


WRONG = [
    ("gone.json a.mp4", "There is no plan"),
    ("a.mp4 a.mp4", "cannot be read as a plan"),
    ("plan.json gone.mp4", "There is no"),
    ("plan.json labels.csv", "cannot be read as a video"),
    ("plan.json .", "which has no clock"),
    ("plan.json a.mp4 --image-fps 5", "has a clock of its own"),
    ("plan.json a.mp4 --close-after soon", "closes no event"),
    ("plan.json a.mp4 --labels nothing", "No dataset"),
    ("plan.json a.mp4 --out gone/lines", "gone/lines"),
]


def test_what_is_wrong_is_one_line(tamis: Any, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    for arguments, said in WRONG:
        refused = tamis("package", "run", *arguments.split())
        assert (refused.code, refused.out, said in refused.err) == (1, "", True), refused.err
        assert refused.err.count("\n") == 1
    assert tamis("sql", "select count(*) as n from runs", "--json").json == [{"n": 0}]  # before anything began


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)])
def test_a_signal_stops_a_real_process_cleanly(site: Path, number: signal.Signals) -> None:
    """Played in real time: the signal comes with the first event, long before the end of the video."""
    film(site / "long.mp4", 300, (3, 290))
    code = "from tamis.flows.start import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "--store",
        "store",
        "package",
        "run",
        "plan.json",
        "long.mp4",
        "--pace",
        "real",
    ]
    with subprocess.Popen(
        [*command, "--json"], cwd=site, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline())["kind"] == "opened"
        child.send_signal(number)
        *lines, summary = [json.loads(line) for line in child.stdout.read().splitlines()]
        err = child.stderr.read()
    assert child.returncode == 128 + number, err
    assert (summary["ended"], summary["seconds"] < 29) == ("stopped", True)
    assert {"a"} <= {line["application"] for line in lines if line["kind"] == "event"}
    store = Store.open(site / "store")
    assert store.runs.get(summary["run"]).status == "finished"
    looks = store.query("select application, count(*)::int as n from looks group by 1 order by 1").to_pylist()
    assert [row["n"] for row in looks] == [one["looks"] for one in summary["applications"]]
