"""Whole runs: drops are counted, plans exchanged without losing a frame, results in SQL, events against labels."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runkit import film, package, plan, planned
from torch import nn

from tamis.store import Store
from tamis.store.relabelling import relabel
from tamis.store.video import Source as VideoSource
from tamis.store.video.adding import add_videos
from tamis.training.errors import RunnerError, SourceStalled
from tamis.training.mainstream.runner.deploying import Deployer
from tamis.training.mainstream.runner.judging import Stretch, labels_of
from tamis.training.mainstream.runner.reloading import Reloader
from tamis.training.mainstream.runner.results import Lines, Recorder
from tamis.training.mainstream.runner.running import Options, Runner
from tamis.training.mainstream.runner.sources import Video
from tamis.training.mainstream.runner.stopping import Control
from tamis.training.mainstream.scheduling.plan import Plan, read_plan

RUN = "watched"
CHILD = Path(__file__).with_name("watch_child.py")


def runner(store: Store, made: Plan, path: Path, options: Options | None = None, **more: Any) -> Runner:
    schedule = Deployer(store, torch.device("cpu")).deploy(made)
    return Runner(schedule, Video(str(path)), options or Options(), **more)


def rows(store: Store, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in store.query(query).to_pylist()]


def test_a_run_leaves_looks_and_events(store: Store, tmp_path: Path) -> None:
    path, out = film(tmp_path / "a.mp4", 60, (10, 20), (40, 50)), io.StringIO()
    made = plan(store, [("a", 2, 10, 1), ("b", 3, 5, 3)])
    recorder = Recorder(store, RUN, source="a.mp4", dataset="", config={"x": 1}, seconds=0.0)
    summary = runner(store, made, path, lines=Lines(out, "looks"), recorder=recorder).run()
    assert (summary["frames"], summary["processed"], summary["dropped"], summary["damaged"]) == (60, 60, 0, 0)
    assert [(r["looks"], r["hits"], r["events"], round(r["achieved"], 6)) for r in summary["applications"]] == [
        (60, 20, 2, 10), (30, 10, 2, 5),
    ]  # fmt: skip
    assert all(0 < r["ms"] <= r["ms_p95"] for r in summary["applications"])
    query = "select application, begins, reported, ends, hits, votes, package from events order by 1, 2"
    assert rows(store, query) == [
        ("a", 1.0, 1.0, 1.9, 10, 1, "a@1"), ("a", 4.0, 4.0, 4.9, 10, 1, "a@1"),
        ("b", 1.0, 1.4, 1.8, 5, 3, "b@1"), ("b", 4.0, 4.4, 4.8, 5, 3, "b@1"),
    ]  # fmt: skip
    query = "select application, source, count(*), sum(hit::int)::int from looks group by 1, 2 order by 1"
    assert rows(store, query) == [
        ("a", "a.mp4", 60, 20), ("b", "a.mp4", 30, 10),
    ]  # fmt: skip
    ((kind, status, wanted),) = rows(store, "select kind, status, metrics->>'processed' from runs")
    assert (kind, status, wanted) == ("mainstream", "finished", "60")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [sum(line["kind"] == kind for line in lines) for kind in ("look", "opened", "event")] == [90, 4, 4]


def test_lines_are_as_many_as_are_asked_for(store: Store, tmp_path: Path) -> None:
    path, made = film(tmp_path / "a.mp4", 20, (5, 8)), plan(store, [("a", 3, 10, 1)])
    found = dict[str, list[str]]()
    for kinds in ("events", "hits"):
        out = io.StringIO()
        runner(store, made, path, lines=Lines(out, kinds)).run()
        found[kinds] = [json.loads(line)["kind"] for line in out.getvalue().splitlines()]
    assert found == {"events": ["opened", "event"], "hits": ["look", "opened", "look", "look", "event"]}


class Slow(nn.Module):
    """Another module, later."""

    def __init__(self, inner: nn.Module, seconds: float) -> None:
        super().__init__()
        self.inner, self.seconds = inner, seconds

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return self.inner(values)


def slow_down(made: Runner, name: str, seconds: float) -> None:
    schedule = made.executor.schedule
    rests = schedule.trees[schedule.applications[name].tree].module._rest
    rests[name] = Slow(rests[name], seconds)


def test_overload_drops_frames_of_a_live_pace_and_none_otherwise(store: Store, tmp_path: Path) -> None:
    """A branch that takes .1 s gets 40 frames in a second: what it cannot look at is counted, frame by frame."""
    path, made = film(tmp_path / "a.mp4", 40, rate=40), plan(store, [("a", 3, 40, 1)])
    for real in (True, False):
        busy = runner(store, made, path, Options(real=real, queue=2))
        slow_down(busy, "a", 0.1 if real else 0.002)
        summary = busy.run()
        assert summary["processed"] + summary["dropped"] == summary["frames"] == 40
        assert summary["processed"] == summary["applications"][0]["looks"]
        assert (summary["dropped"] > 10) == real
        assert (summary["dropped"] == 0) == (not real)
        assert summary["seconds"] == pytest.approx(39 / 40)  # the newest frame is never the one that goes


def exchanging(path: Path, changes: dict[int, Callable[[], object]]) -> Callable[[float], None]:
    """A progress that makes changes after some frames, and then waits until a plan that is being loaded is there."""
    done = 0

    def progress(_: float) -> None:
        nonlocal done
        done += 1
        changes.get(done, lambda: None)()
        for thread in threading.enumerate():
            if thread.name == "tamis-plan":
                thread.join(60)

    return progress


def test_a_new_plan_takes_over_between_two_frames(store: Store, tmp_path: Path) -> None:
    path, file, said = film(tmp_path / "a.mp4", 60, (10, 50)), tmp_path / "plan.json", list[str]()
    both = {"a": package(store, "a", [2, 3])}
    planned(store, file, [("a", 2, 10, 1), ("gone", 2, 10, 1)], packages=both)
    deployer = Deployer(store, torch.device("cpu"))
    recorder = Recorder(store, RUN, source="a.mp4", dataset="", config={})
    changes = {30: lambda: planned(store, file, [("a", 3, 10, 1), ("new", 3, 5, 1)], packages=both)}
    made = Runner(
        deployer.deploy(read_plan(file)), Video(str(path)), Options(), recorder=recorder,
        reloader=Reloader(file, deployer, every=0.0), say=said.append, progress=exchanging(file, changes),
    )  # fmt: skip
    summary = made.run()
    assert (summary["processed"], summary["dropped"], summary["reloads"]) == (60, 0, 1)
    assert "A new plan has taken over" in said[0]
    assert rows(store, "select list(frame order by frame) from looks where application = 'a'") == [(list(range(60)),)]
    ((first, last),) = rows(store, "select max(frame), count(*) from looks where application = 'gone'")
    assert first + 1 == last
    assert 30 <= last < 40
    ((first, count),) = rows(store, "select min(frame), count(*) from looks where application = 'new'")
    assert first == last  # the frame after the last one of the old plan
    assert count == pytest.approx((60 - first) / 2, abs=1)
    # The event that was open goes on where the application stays, and ends where it goes.
    found = rows(store, "select application, begins, ends from events order by 1")
    assert found == [("a", 1.0, 4.9), ("gone", 1.0, (last - 1) / 10), ("new", first / 10, pytest.approx(4.9, abs=0.11))]


def test_a_broken_plan_is_refused_and_the_old_one_goes_on(store: Store, tmp_path: Path) -> None:
    path, file, said = film(tmp_path / "a.mp4", 40), tmp_path / "plan.json", list[str]()
    planned(store, file, [("a", 3, 10, 1)])
    whole, control = file.read_text(), Control()

    def unknown() -> None:
        file.write_text(whole.replace("a@1", "nothing@1"))

    def hup() -> None:
        file.unlink()
        control.reload = True

    deployer = Deployer(store, torch.device("cpu"))
    changes = {5: lambda: file.write_text(whole[:50]), 15: unknown, 25: hup}
    made = Runner(
        deployer.deploy(read_plan(file)), Video(str(path)), Options(), reloader=Reloader(file, deployer, every=0.0),
        say=said.append, progress=exchanging(file, changes),
    )  # fmt: skip
    summary = made.run(control)
    assert (summary["reloads"], summary["refused"], summary["applications"][0]["looks"]) == (0, 3, 40)
    assert [("\n" in line, "the old one goes on" in line) for line in said] == [(False, True)] * 3
    assert ["cannot be read as a plan" in said[0], "nothing" in said[1], "There is no plan" in said[2]] == [True] * 3


def test_a_run_stops_after_the_frame_in_hand(store: Store, tmp_path: Path) -> None:
    control, done = Control(), list[float]()

    def progress(seconds: float) -> None:
        done.append(seconds)
        if len(done) == 15:
            control.stop = signal.SIGTERM

    recorder = Recorder(store, RUN, source="a.mp4", dataset="", config={})
    path, made = film(tmp_path / "a.mp4", 40, (10, 40)), plan(store, [("a", 3, 10, 1)])
    summary = runner(store, made, path, recorder=recorder, progress=progress).run(control)
    assert (summary["processed"], summary["ended"]) == (15, "stopped")
    assert rows(store, "select count(*) from looks") == [(15,)]
    assert rows(store, "select begins, ends from events") == [(1.0, 1.4)]  # the event that was open
    assert store.runs.get(RUN).status == "finished"


def test_where_every_application_fails_the_run_does(store: Store, tmp_path: Path) -> None:
    made = runner(
        store, plan(store, [("a", 3, 10, 1)]), film(tmp_path / "a.mp4", 20),
        recorder=Recorder(store, RUN, source="a.mp4", dataset="", config={}),
    )  # fmt: skip
    schedule = made.executor.schedule
    next(iter(schedule.trees.values())).module._rest["a"] = nn.Linear(1, 1)
    with pytest.raises(RunnerError, match="Every application failed and was switched off: a: RuntimeError"):
        made.run()
    assert store.runs.get(RUN).status == "failed"


def test_a_source_that_stalls_ends_the_run(store: Store, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 5)

    class Silent(Video):
        def frames(self) -> Any:
            yield from super().frames()
            threading.Event().wait(1.5)

    schedule = Deployer(store, torch.device("cpu")).deploy(plan(store, [("a", 3, 10, 1)]))
    recorder = Recorder(store, RUN, source="a.mp4", dataset="", config={})
    with pytest.raises(SourceStalled, match="gave no frame for"):
        Runner(schedule, Silent(str(path)), Options(stall=0.5), recorder=recorder).run()
    assert store.runs.get(RUN).status == "failed"
    assert rows(store, "select count(*) from looks") == [(5,)]  # what was seen before it stays


def test_events_are_judged_by_the_labels_of_a_dataset(store: Store, tmp_path: Path) -> None:
    """Bright at 1-2 s and 4-5 s, labelled 1-2 s: one event, found, and a false one in the second of its two gaps."""
    path, other = film(tmp_path / "a.mp4", 60, (10, 20), (40, 50)), film(tmp_path / "b.mp4", 20)
    videos = [VideoSource(str(one), "c") for one in (path, other)]
    add_videos(store.datasets, "site", videos, tmp_path / "shards", fps="10", start="after")
    query = "select sample, (sample between 10 and 19)::int as label from frames"
    judged = relabel(store, "site", sql=query, name="judged", classes=["dark", "bright"])
    made = plan(store, [("a", 3, 10, 1)])
    named = [("a", store.packages.get("a"))]
    labels = labels_of(store, "judged", "a.mp4", named)
    assert labels.dataset == judged.ref
    assert labels.stretches["a"] == [Stretch(0, 1, False), Stretch(1, 2, True), Stretch(2, pytest.approx(6), False)]
    (row,) = runner(store, made, path, labels=labels).run()["applications"]
    assert [row[name] for name in ("recall", "precision", "f1")] == [1.0, 0.5, pytest.approx(2 / 3)]
    for ref, source, said in (
        ("site", "a.mp4", "has no class 'bright'"),
        ("judged", "c.mp4", r"has no labels of c\.mp4; it has videos a\.mp4, b\.mp4"),
        ("judged", "b.mp4", "has no event 'bright' of b.mp4"),
    ):
        with pytest.raises(RunnerError, match=said):
            labels_of(store, ref, source, named)


def test_events_are_judged_by_intervals(store: Store, tmp_path: Path) -> None:
    """Bright at 1-2 s and 4-5 s; labelled 1-2 s and 2.5-3 s: one of two found, one gap with a false event."""
    path, file = film(tmp_path / "a.mp4", 60, (10, 20), (40, 50)), tmp_path / "labels.csv"
    file.write_text("application,begins,ends\na,1,2\na,2.5,3\nother,0,1\n")
    made = runner(store, plan(store, [("a", 3, 10, 1)]), path)
    named = [(name, one.package) for name, one in made.executor.schedule.applications.items()]
    labels = labels_of(store, str(file), "a.mp4", named)
    (row,) = runner(store, plan(store, [("a", 3, 10, 1)]), path, labels=labels).run()["applications"]
    assert [row[name] for name in ("labelled", "found", "false", "recall", "precision", "f1", "planned_f1")] == [
        2, 1, 1, 0.5, 0.5, 0.5, 0.8,
    ]  # fmt: skip
    for text, said in (
        ("application,begins,ends\nother,1,2\n", "no interval of application a"),
        ("application,begins,ends\na,2,1\n", "line 2: expected application, begins, ends"),
        ("who,begins,ends\na,1,2\n", "line 2: expected"),
    ):
        file.write_text(text)
        with pytest.raises(RunnerError, match=said):
            labels_of(store, str(file), "a.mp4", named)


@pytest.mark.nightly
def test_what_a_killed_run_wrote_stays(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    planned(store, tmp_path / "plan.json", [("a", 3, 10, 1)])
    film(tmp_path / "a.mp4", 100, (5, 8), (20, 23), (30, 33))
    with subprocess.Popen(
        [sys.executable, str(CHILD), str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            if line == "60\n":
                child.kill()
    assert store.runs.get(RUN).status == "interrupted"
    ((count, last),) = rows(store, "select count(*), max(frame) from looks")
    assert 0 < count == last + 1 <= 60  # whole parts, one after the other
    events = rows(store, "select begins from events order by 1")
    assert events == [row for row in [(0.5,), (2.0,), (3.0,)] if row in events]
    assert rows(store, "select count(*) from events e join looks l on l.seconds = e.ends and l.hit") == [(len(events),)]
