"""The search for the smallest frames, with a detector that loses what becomes too small."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from boxed import boxed
from numbered import Write

from tamis.curation.errors import CurationError
from tamis.flows.configs import DetectConfig, Resources
from tamis.flows.detections.detecting import detect
from tamis.flows.detections.resolution import ResolutionConfig, smallest_frames
from tamis.flows.runners import Direct
from tamis.store import Store
from tamis.store.datasets.packing import pack_samples
from tamis.training.detection.scaling import Shrunk, scaled
from tamis.training.signals.culling import CullingConfig

COUNT = 6
PAPER = CullingConfig(preset="paper")
SCALES = (1.0, 0.5, 0.25, 0.05, 0.02)


@pytest.fixture
def write() -> Write:
    """Writes a shard of (key, {suffix: bytes}) samples."""
    return lambda path, samples: pack_samples([(key, dict(members)) for key, members in samples], path)[0]


@pytest.fixture
def frames(tmp_path: Path, write: Write) -> tuple[Store, str]:
    """Frames, and the run of a teacher that sees them at full size."""
    torch.set_num_threads(1)
    store = Store.create(tmp_path / "store")
    boxed(store, tmp_path, write, "street", range(COUNT))
    return store, _look(store)(DetectConfig(dataset="street", model="painted:teacher"))["run"]


def _look(store: Store, asked: list[float] | None = None) -> Any:
    def look(config: DetectConfig) -> dict[str, Any]:
        if asked is not None:
            asked.append(config.scale)
        return detect(Direct(), store.root.url, config, Resources(device="cpu", batch_size=4))

    return look


def test_it_ends_at_the_first_scale_over_the_bound_and_names_the_one_before(frames: tuple[Store, str]) -> None:
    store, teacher = frames
    student, asked = DetectConfig(dataset="street", model="painted:teacher"), list[float]()
    given = {"student": student, "teacher": teacher, "scales": SCALES, "culling": PAPER}
    made = smallest_frames(store, ResolutionConfig(**given, bound=0.2), _look(store, asked))
    losses = {one["scale"]: one["loss"] for one in made["tried"]}
    assert asked == list(losses) == sorted(losses, reverse=True)
    *within, last = losses
    assert all(losses[scale] <= losses[1.0] + 0.2 for scale in within)
    assert losses[last] > losses[1.0] + 0.2
    assert made["scale"] == within[-1]
    assert made["frames"] == COUNT
    assert made["tried"][0]["run"] == teacher, "full size has the key of a pass without a scale"
    wide = smallest_frames(store, ResolutionConfig(**given, bound=1e6), _look(store))
    assert wide["scale"] == SCALES[-1]
    before = len(store.runs.all())
    assert smallest_frames(store, ResolutionConfig(**given, bound=0.2), _look(store)) == made
    assert len(store.runs.all()) == before


def test_boxes_come_back_in_pixels_of_the_frame() -> None:
    class Whole:
        classes = ()

        def __call__(self, images_BCHW: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            height, width = images_BCHW.shape[-2:]
            box = torch.tensor([[0.0, 0.0, width, height]])
            return [{"boxes": box, "labels": torch.zeros(1), "scores": torch.ones(1)} for _ in images_BCHW]

    frames = torch.zeros(2, 3, 57, 101, dtype=torch.uint8)
    assert scaled(frames, 0.3).shape == (2, 3, 17, 30)
    for one in Shrunk(Whole(), 0.3)(frames):
        assert one["boxes"].tolist() == [[0, 0, 101, 57]]


def test_the_command(frames: tuple[Store, str], tamis: Any) -> None:
    store, teacher = frames
    asked = ("score", "resolution", "--dataset", "street", "--model", "painted:teacher", "--teacher", teacher[:10],
             "--preset", "paper", "--scales", "0.5,1", "--bound", "1000", "--store", store.root.url)  # fmt: skip
    made = tamis(*asked, "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["scale"] == 0.5
    shown = tamis(*asked)
    assert "smallest scale that will do" in shown.out
    assert "try smaller ones" in shown.err
    for wrong in ("0", "2,1", "a", ""):
        refused = tamis(*asked[:-6], "--scales", wrong, "--store", store.root.url)
        assert refused.code == 2
        assert "expected numbers above 0, up to 1" in refused.err


def test_the_same_scale_twice_is_refused(frames: tuple[Store, str]) -> None:
    store, teacher = frames
    student = DetectConfig(dataset="street", model="painted:teacher")
    with pytest.raises(CurationError, match="expected different numbers"):
        smallest_frames(store, ResolutionConfig(student=student, teacher=teacher, scales=(0.5, 0.5)), _look(store))
