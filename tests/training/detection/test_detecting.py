"""A detector's pass: each frame once, whatever is asked for later; the same answer for any batch; faults by frame."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tamis.flows import work
from tamis.flows.configs import DetectConfig, Resources
from tamis.store import Store
from tamis.store.boxes import Boxes
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_samples
from tamis.store.errors import RunNotFound
from tamis.store.selections import Request, RoundData
from tamis.training.detection import detecting
from tamis.training.detection.detecting import Cost, Question, compute, finish
from tamis.training.detection.detector import find_detector
from tamis.training.errors import ModelFailed, UnknownModelError

HERE = Path(__file__).parent
COUNT = 12


def png(number: int, *, size: tuple[int, int] = (16, 12), corner: int = 0) -> bytes:
    """A dark frame with a bright square of 4 pixels at (number, 2); none of number 0."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    if number:
        pixels[2:6, number : number + 4] = 200
    pixels[0, 0] = corner
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def packed(store: Store, folder: Path, images: list[bytes], per_shard: int = 5) -> Dataset:
    members = ((f"f{i:03d}", {"png": data}) for i, data in enumerate(images))
    return store.datasets.add("frames", pack_samples(members, folder / "frames", per_shard=per_shard), label=None)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(HERE)


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """Where the detector tells of each frame that it looked at; the weights file names it."""
    (tmp_path / "weights").write_text(str(tmp_path / "seen"))
    (tmp_path / "seen").touch()
    return tmp_path / "seen"


@pytest.fixture
def frames(store: Store, tmp_path: Path) -> Dataset:
    return packed(store, tmp_path, [png(i) for i in range(COUNT)])


def asking(store: Store, dataset: Dataset, seen: Path | None = None, samples: Any = None) -> Question:
    weights = None if seen is None else str(seen.with_name("weights"))
    chosen = None if samples is None else np.asarray(samples, np.int64)
    return Question(store, dataset, find_detector(store, "blob_detector:detector", weights=weights), chosen)


def looked(asked: Question, **options: Any) -> Boxes:
    compute(asked, range(len(asked.dataset.shards)), device="cpu", **options)
    run = finish(asked, ("bright", "dim"), Cost(0, 0), device="cpu")
    return asked.store.runs.boxes(run.key, asked.dataset)


def times(seen: Path) -> int:
    return len(seen.read_text().splitlines())


def test_boxes_are_what_the_detector_found(store: Store, frames: Dataset) -> None:
    """By hand: a square of 4 pixels at (i, 2); labels of torchvision's contract begin with the background."""
    found = looked(asking(store, frames))
    assert np.diff(found.offsets_N1).tolist() == [0] + [2] * (COUNT - 1)
    assert found.status_N.tolist() == [1] * COUNT
    for i in range(1, COUNT):
        assert found.corners_B4[found.frame(i)].tolist() == [[i + 1, 3, i + 5, 7], [i, 2, i + 4, 6]]
        assert found.labels_B[found.frame(i)].tolist() == [1, 0]
        assert found.scores_B[found.frame(i)] == pytest.approx([200 / 255, 100 / 255])
    rows = store.query("select distinct width, height from detections").to_pylist()
    assert rows == [{"width": 16, "height": 12}]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_scores_do_not_depend_on_the_batch(store: Store, frames: Dataset, size: int) -> None:
    whole = looked(asking(store, frames), batch_size=COUNT)
    for name, _ in store.root.list("parts"):
        store.root.delete(name)
    part = asking(store, frames, samples=range(1, COUNT))  # another run, and other batches
    found = looked(part, batch_size=size)
    assert found.scores_B == pytest.approx(whole.scores_B, abs=1e-4)
    assert found.corners_B4 == pytest.approx(whole.corners_B4, abs=1e-4)


def test_a_real_architecture_gives_the_same_for_any_batch(store: Store, tmp_path: Path) -> None:
    """torchvision's SSDlite, untrained, whose convolutions do depend on how many frames they are given."""
    noise = np.random.default_rng(0)
    images: list[bytes] = []
    for _ in range(8):
        file = io.BytesIO()
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    dataset = packed(store, tmp_path, images, per_shard=8)
    (tmp_path / "ssd.py").write_text(
        "import torch\n"
        "from torchvision.models.detection import ssdlite320_mobilenet_v3_large\n\n\n"
        "def make(weights):\n"
        "    torch.manual_seed(0)\n"
        "    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        answers: list[Any] = []
        for size in (1, 3, 8):
            for name, _ in store.root.list("parts"):
                store.root.delete(name)
            asked = Question(store, dataset, find_detector(store, "ssd:make"))
            compute(asked, [0], device="cpu", batch_size=size)
            answers.append(asked.kept(dataset.shards[0]).read(0))
    for other in answers[1:]:
        assert other["counts"].tolist() == answers[0]["counts"].tolist()
        assert np.sort(other["scores"]) == pytest.approx(np.sort(answers[0]["scores"]), abs=1e-4)
    assert answers[0]["counts"].sum() > 0


def test_no_frame_is_looked_at_twice(store: Store, frames: Dataset, seen: Path) -> None:
    looked(asking(store, frames, seen, [1, 4, 9]))
    assert times(seen) == 3
    found = looked(asking(store, frames, seen, [0, 1, 4, 7, 9, 11]))
    assert times(seen) == 6
    assert found.status_N.tolist() == [1, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1]
    assert np.diff(found.offsets_N1).tolist() == [0, 2, 0, 0, 2, 0, 0, 2, 0, 2, 0, 2]
    looked(asking(store, frames, seen, [9]))
    assert times(seen) == 6
    looked(asking(store, frames, seen))
    assert times(seen) == COUNT


def test_the_same_shards_elsewhere_and_appended_ones(store: Store, frames: Dataset, seen: Path, tmp_path: Path) -> None:
    looked(asking(store, frames, seen))
    other = store.datasets.add("other", [Path(shard.uri) for shard in frames.shards[:2]], label=None)
    looked(asking(store, other, seen))
    assert times(seen) == COUNT
    more = pack_samples((("new", {"png": png(3)}) for _ in range(1)), tmp_path / "more")
    looked(asking(store, store.datasets.add("frames", more, append=True, label=None), seen))
    assert times(seen) == COUNT + 1


def test_other_weights_are_another_detector(store: Store, frames: Dataset, seen: Path) -> None:
    looked(asking(store, frames, seen))
    (seen.with_name("weights")).write_text(f"{seen.parent}/./seen")
    looked(asking(store, frames, seen))
    assert times(seen) == 2 * COUNT


def test_a_killed_pass_goes_on(store: Store, frames: Dataset, seen: Path) -> None:
    """It ends behind the first shard, as kill -9 would: what is kept is kept block by block."""

    class Killed(BaseException):
        pass

    def kill(_: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        looked(asking(store, frames, seen), progress=kill)
    before = times(seen)
    assert before == 5
    assert looked(asking(store, frames, seen)).status_N.tolist() == [1] * COUNT
    assert times(seen) == COUNT


@pytest.mark.parametrize("size", [1, 4, 64])
def test_a_frame_that_fails_is_recorded_and_the_others_are_done(store: Store, tmp_path: Path, size: int) -> None:
    images = [png(i, corner=255 if i in (2, 7) else 0) for i in range(COUNT)]
    images[5] = images[5][:60]  # damaged
    dataset = packed(store, tmp_path, images)
    found = looked(asking(store, dataset), batch_size=size)
    assert np.flatnonzero(found.status_N == -1).tolist() == [2, 5, 7]
    assert np.diff(found.offsets_N1).tolist() == [0, 2, 0, 2, 2, 0, 2, 0, 2, 2, 2, 2]
    errors = store.query("select error from detections where status = 'failed' order by sample")["error"].to_pylist()
    assert "ValueError: a white corner" in errors[0]
    assert "DecodeError" in errors[1]
    assert all("\n" not in error for error in errors)


def test_frames_of_several_sizes(store: Store, tmp_path: Path) -> None:
    images = [png(i % 8, size=(16, 12) if i % 3 else (24, 20)) for i in range(COUNT)]
    found = looked(asking(store, packed(store, tmp_path, images)), batch_size=4)
    for i in range(COUNT):
        square = [[i % 8 + 1, 3, i % 8 + 5, 7], [i % 8, 2, i % 8 + 4, 6]] if i % 8 else []
        assert found.corners_B4[found.frame(i)].tolist() == square
    sizes = store.query("select count(*) as n from detections group by width order by n")["n"].to_pylist()
    assert sizes == [4, 8]


def test_a_detector_that_is_broken_ends_the_pass(store: Store, tmp_path: Path) -> None:
    dataset = packed(store, tmp_path, [png(i % 8) for i in range(9)], per_shard=9)
    asked = Question(store, dataset, find_detector(store, "blob_detector:broken"))
    with pytest.raises(ModelFailed, match=r"failed on all of 9 frames, first with: .*no such kernel"):
        compute(asked, [0], device="cpu")
    assert len(asked.missing(0)) == 9
    unruly = Question(store, dataset, find_detector(store, "blob_detector:unruly"))
    with pytest.raises(UnknownModelError, match=r"expected a dict of boxes \[n, 4\]"):
        compute(unruly, [0], device="cpu")


def test_what_is_no_detector(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="cannot be read"):
        find_detector(store, "blob_detector:detector", weights=str(tmp_path / "none"))
    with pytest.raises(UnknownModelError, match="there is no module 'nothing_here'"):
        find_detector(store, "nothing_here:detector")
    with pytest.raises(RunNotFound):
        find_detector(store, "1f0c9a")
    store.runs.begin(kind="score", key="5c0e", dataset="frames@1")
    with pytest.raises(RunNotFound, match="is a score run"):
        find_detector(store, "5c0e")


def test_parts_that_are_damaged_are_made_again(store: Store, frames: Dataset, seen: Path) -> None:
    asked = asking(store, frames, seen)
    compute(asked, range(3), device="cpu")
    for name, _ in store.root.list(asked.kept(frames.shards[1]).folder):
        store.root.put(name, b"no part")
    assert looked(asked).status_N.tolist() == [1] * COUNT
    assert times(seen) == COUNT + 5


@pytest.mark.parametrize("workers", [1, 2])
def test_the_flow_says_what_it_cost(store: Store, frames: Dataset, seen: Path, workers: int) -> None:
    chosen = store.selections.publish(
        Request(frames, "random", 1, {"k": 3}), "some", [RoundData([11, 0, 3])], seconds=0.1
    ).selection
    weights, limits = str(seen.with_name("weights")), Resources(device="cpu", workers=workers, batch_size=4)
    config = DetectConfig(dataset="frames", model="blob_detector:detector", weights=weights, selection="some")
    first = work.run("detect", store.root.url, config, limits, runner="direct")
    assert {name: first["metrics"][name] for name in ("frames", "cached", "empty", "failed", "boxes")} == {
        "frames": 3, "cached": 0, "empty": 1, "failed": 0, "boxes": 4,
    }  # fmt: skip
    assert first["metrics"]["ms"] > 0
    run = store.runs.get(first["run"])
    assert (run.selection, run.config["classes"], run.config["model"]) == (
        chosen.key, ["bright", "dim"], "blob_detector:detector",
    )  # fmt: skip
    assert work.run("detect", store.root.url, config, limits, runner="direct")["cached"] is True
    whole = work.run("detect", store.root.url, config.model_copy(update={"selection": None}), limits, runner="direct")
    assert (whole["metrics"]["frames"], whole["metrics"]["cached"]) == (COUNT, 3)
    assert times(seen) == COUNT


def test_memory_and_order_are_those_of_blocks(store: Store, frames: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of several blocks, extended block by block, reads as one of one block does."""
    whole = looked(asking(store, frames, samples=range(COUNT)))
    monkeypatch.setattr(detecting, "BLOCK", 2)
    some = asking(store, frames, samples=[0, 1, 3, 4, 8, 10, 11])
    compute(some, range(3), device="cpu", batch_size=3)
    assert [len(some.missing(i)) for i in range(3)] == [0, 0, 0]
    again = asking(store, frames)
    assert [again.missing(i).tolist() for i in range(3)] == [[2], [5, 6, 7, 9], []]
    found = looked(again)
    assert np.array_equal(found.corners_B4, whole.corners_B4)
    assert torch.equal(torch.tensor(found.scores_B), torch.tensor(whole.scores_B))
