"""The flow `cull`, with detectors whose answers are known: who looks at what, and what is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boxed import SIDE, boxed, drawn
from numbered import Write

from tamis.curation.errors import BudgetError, CurationError
from tamis.flows.configs import Resources
from tamis.flows.detections.culling import TAUGHT, CullConfig, Watcher
from tamis.flows.work import run
from tamis.store import Store
from tamis.store.datasets.packing import pack_samples
from tamis.training.config import TrainConfig
from tamis.training.errors import UnknownModelError
from tamis.training.signals.culling import CullingConfig

COUNT, FIRST = 24, 8
STUDENT = Watcher(model="painted:student")
# Rectangles are 18 to 27 pixels wide: those of fewer than 20 would not count by the authors' preset.
PAPER = CullingConfig(preset="paper")


@pytest.fixture
def write() -> Write:
    """Writes a shard of (key, {suffix: bytes}) samples."""
    return lambda path, samples: pack_samples([(key, dict(members)) for key, members in samples], path)[0]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def frames(tmp_path: Path, write: Write) -> Store:
    store = Store.create(tmp_path / "store")
    boxed(store, tmp_path, write, "street", range(COUNT))
    return store


@pytest.fixture
def teacher(tmp_path: Path) -> tuple[Watcher, Path]:
    """The teacher, and the file in which it tells each look."""
    weights, log = tmp_path / "weights", tmp_path / "seen"
    weights.write_text(str(log))
    return Watcher(model="painted:teacher", weights=str(weights)), log


def looks(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def go(store: Store, **asked: Any) -> dict[str, Any]:
    config = CullConfig(dataset="street", culling=PAPER, **asked)
    return run("cull", store.root.url, config, Resources(batch_size=4), runner="direct")


def test_the_teacher_looks_at_survivors_alone_and_never_twice(frames: Store, teacher: tuple[Watcher, Path]) -> None:
    who, log = teacher
    made = go(frames, teacher=who, student=STUDENT, first=str(FIRST), keep=("4", "1/12"))
    assert looks(log) == made["teacher_frames"] == made["teacher_new"] == FIRST
    survivors = set(frames.selections.get(made["stage1"]).round_at(0)[0].tolist())
    looked = frames.query(f"select sample from detections where run = '{made['runs']['teacher']}'")
    assert set(looked["sample"].to_pylist()) == survivors
    for budget, size in (("4", 4), ("1/12", 2)):
        kept = frames.selections.get(made["selections"][budget]).round_at(0)[0]
        assert len(kept) == size
        assert set(kept.tolist()) <= survivors
    again = go(frames, teacher=who, student=STUDENT, first=str(FIRST), keep=("3",))
    assert looks(log) == FIRST
    assert again["teacher_new"] == 0
    wider = go(frames, teacher=who, student=STUDENT, first="12", keep=("3",))
    assert looks(log) == 12  # four more
    assert wider["teacher_new"] == 4


def test_kept_are_the_frames_that_the_student_is_most_wrong_on(frames: Store, teacher: tuple[Watcher, Path]) -> None:
    made = go(frames, teacher=teacher[0], student=STUDENT, first=str(COUNT), keep=("5",), measure="recall")
    kept = set(frames.selections.get(made["selections"]["5"]).round_at(0)[0].tolist())
    blue = {i for i in range(COUNT) if any(row[0] == 1 for row in drawn(i)[1])}
    assert len(blue) > 5
    assert kept <= blue  # it finds red alone


def test_stage_0_trains_the_student_on_the_teachers_boxes(frames: Store, teacher: tuple[Watcher, Path]) -> None:
    who, log = teacher
    train = TrainConfig(
        dataset="street", task="detection", truth=(TAUGHT,), model="ssdlite32-mobilenet", epochs=1, batch_size=4,
        augment="none",
    )  # fmt: skip
    made = go(frames, teacher=who, train=train, stage0="1/4", first=str(FIRST), keep=("2",))
    few = frames.selections.get("street-culled-stage0")
    assert few.round_at(0)[0].tolist() == [0, 4, 8, 12, 16, 20]  # evenly over time
    trained = frames.runs.get(made["runs"]["stage0"])
    assert trained.selection == few.key
    assert made["teacher_frames"] == 6 + FIRST
    assert looks(log) == made["teacher_new"] <= 6 + FIRST
    assert made["seconds"]["stage0"] > 0
    parts = frames.selections.get(made["selections"]["2"]).stats["seconds"]
    passes = [frames.runs.get(made["runs"][who]).seconds["total"] for who in ("student", "teacher")]
    assert parts["proxy"] == trained.seconds["total"]
    assert parts["score"] >= sum(passes)
    assert frames.runs.get(made["runs"]["student"]).config["model_run"] == trained.key
    before = looks(log)
    assert go(frames, teacher=who, train=train, stage0="1/4", first=str(FIRST), keep=("2",))["teacher_new"] == 0
    assert looks(log) == before


def test_frames_that_look_alike_are_left_out_first(tmp_path: Path, write: Write, teacher: tuple[Watcher, Path]) -> None:
    store = Store.create(tmp_path / "still")
    scenes = [drawn(seed)[0] for seed in (0, 1, 2, 3)]
    shard = write(tmp_path / "still.tar", [(f"i{i:03d}", {"png": scenes[i // 6]}) for i in range(24)])
    store.datasets.add("street", [shard], label=None)
    made = go(store, teacher=teacher[0], student=STUDENT, first="3", keep=("2",), distinct=0)
    kept = store.selections.get(made["distinct"]).round_at(0)[0].tolist()
    assert kept == [0, 6, 12, 18]
    looked = store.query(f"select sample from detections where run = '{made['runs']['student']}' order by sample")
    assert looked["sample"].to_pylist() == kept


def test_what_does_not_go_together_is_refused_before_anything_runs(
    frames: Store, teacher: tuple[Watcher, Path]
) -> None:
    who, log = teacher
    with pytest.raises(BudgetError, match=r"1/2 of 24 frames are 12, more than the 8 that stage 1 keeps \(8\)"):
        go(frames, teacher=who, student=STUDENT, first="8", keep=("1/2",))
    with pytest.raises(ValueError, match="give either student or train"):
        go(frames, teacher=who)
    plain = TrainConfig(dataset="street", model="preact8")
    with pytest.raises(ValueError, match="stage 0 trains on the teacher's boxes"):
        go(frames, teacher=who, train=plain)
    with pytest.raises(UnknownModelError, match="painted:nobody"):
        go(frames, teacher=Watcher(model="painted:nobody"), student=STUDENT)
    with pytest.raises(CurationError, match="the classes differ: car, bus and red, blue"):
        go(frames, teacher=who.model_copy(update={"classes": ("car", "bus")}), student=STUDENT)
    with pytest.raises(CurationError, match="green"):
        run("cull", frames.root.url, CullConfig(dataset="street", teacher=who, student=STUDENT,
            culling=CullingConfig(classes=("green",))), Resources(), runner="direct")  # fmt: skip
    assert looks(log) == 0
    assert {one.kind for one in frames.runs.all()} == {"annotations"}


def test_the_command(frames: Store, teacher: tuple[Watcher, Path], tamis: Any) -> None:
    asked = ("--teacher", "painted:teacher", "--teacher-weights", teacher[0].weights, "--first", "8", "--keep", "4")
    asked = ("cull", "street", *asked, "--preset", "paper", "--store", frames.root.url)
    made = tamis(*asked, "--student", "painted:student", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["selections"] == {"4": "street-culled@1"}
    shown = tamis(*asked, "--student", "painted:student")
    assert "8 frames, 0 of them now" in shown.out
    missing = tamis(*asked)
    assert missing.code == 2
    assert "--student" in missing.err


def test_a_frame_is_as_large_as_said() -> None:
    """What the sizes above rest on."""
    widths = [row[3] - row[1] for seed in range(COUNT) for row in drawn(seed)[1]]
    assert min(widths) >= 18
    assert np.max(widths) < SIDE
