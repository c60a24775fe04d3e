"""What is kept of a shard: nothing is lost between passes at once, files stay few, marks of the dead stop nobody."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from s3kit import S3Server
from test_detecting import HERE, asking, looked, packed, png, times

from tamis.store import Store
from tamis.store.boxes import Boxes
from tamis.store.datasets import Dataset
from tamis.training.detection import detecting
from tamis.training.detection.blocks import MOST, Blocks, Part
from tamis.training.detection.detecting import Cost, Question, compute, finish
from tamis.training.detection.detector import find_detector
from tamis.training.streaming.batches import AHEAD

FRAMES = 300  # a block and some


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(HERE)


def part(*places: int) -> Part:
    """Frame i has i mod 3 boxes, of score i / 1000."""
    at = np.asarray(places, np.int64)
    counts = at % 3
    scores = np.repeat(at / 1000, counts).astype(np.float32)
    corners = np.repeat(scores[:, None], 4, axis=1)
    found = {
        "at": at,
        "counts": counts,
        "scores": scores,
        "corners": corners,
        "labels": np.zeros(len(scores), np.int32),
    }
    sizes, ms = np.ones((len(at), 2), np.int32), np.ones(len(at), np.float32)
    return found | {"sizes": sizes, "ms": ms, "errors": np.full(len(at), "", np.str_)}


def same(found: Part, *places: int) -> bool:
    return all(np.array_equal(value, part(*places)[name]) for name, value in found.items())


def files(store: Store) -> list[str]:
    return [name for name, _ in store.root.list("parts")]


def test_passes_that_read_before_either_wrote_lose_nothing(store: Store) -> None:
    one, other = Blocks(store.root, "parts/aa/shard"), Blocks(store.root, "parts/aa/shard")
    assert len(one.read(0)["at"]) == len(other.read(0)["at"]) == 0
    one.add(0, part(5, 1))
    other.add(0, part(2, 5, 8))
    for blocks in (one, other, Blocks(store.root, "parts/aa/shard")):
        blocks.add(1, part(256))
        assert same(blocks.read(0), 1, 2, 5, 8)
    assert same(one.read(1), 256)
    assert len(Blocks(store.root, "parts/aa/other").read(0)["at"]) == 0


def test_files_of_a_block_stay_few(store: Store) -> None:
    early = Blocks(store.root, "parts/aa/shard")
    rng, every = np.random.default_rng(0), list[int]()
    for i in range(5 * MOST):
        Blocks(store.root, "parts/aa/shard").add(0, part(*(some := rng.choice(40, 3, replace=False).tolist())))
        every += some
        if i == 0:
            early.read(0)  # it has listed the files, which are gone later on
        assert len(files(store)) <= MOST
    assert same(early.read(0), *sorted(set(every)))


def test_damaged_files_hold_nothing_and_go_with_the_others(store: Store) -> None:
    blocks = Blocks(store.root, "parts/aa/shard")
    store.root.put(f"{blocks.folder}/000000-{'f' * 32}.npz", b"no part")
    for i in range(MOST):
        blocks.add(0, part(i))
    assert same(blocks.read(0), *range(MOST))
    assert len(files(store)) == 1


def test_blocks_that_another_pass_is_at_come_last(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detecting, "BLOCK", 2)
    dataset = packed(store, tmp_path, [png(i) for i in range(12)], per_shard=12)
    asked, order = asking(store, dataset), list[NDArray[np.int64]]()
    kept = asked.kept(dataset.shards[0])
    assert [kept.take(0), kept.take(2), kept.take(0)] == [True, True, False]
    monkeypatch.setattr(Blocks, "add", _noting(Blocks.add, order))
    compute(asked, [0], device="cpu")
    assert np.concatenate(order).tolist() == [2, 3, 6, 7, 8, 9, 10, 11, 0, 1, 4, 5], "the dead stop nobody"
    assert not [name for name in files(store) if name.endswith("taken")]


def _noting(add: Any, order: list[NDArray[np.int64]]) -> Any:
    def noting(self: Blocks, block: int, found: Part) -> None:
        order.append(found["at"])
        add(self, block, found)

    return noting


def pass_of(store: Store, weights: Path, function: str, *block: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "boxes_child.py"), store.root.url, str(weights), function, *block]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def as_pixels(found: Boxes) -> list[Any]:
    return [found.status_N.tolist(), found.offsets_N1.tolist(), found.corners_B4.tolist(), found.scores_B.tolist()]


def asked_of(store: Store, function: str, weights: Path) -> Question:
    dataset = store.datasets.get("frames")
    return Question(store, dataset, find_detector(store, f"blob_detector:{function}", weights=str(weights)))


def test_killed_in_the_middle_and_said_again(store: Store, tmp_path: Path) -> None:
    """SIGKILL at frame 280 of 300: the first block of 256 is kept, and the other one alone is looked at again."""
    dataset = packed(store, tmp_path, [png(i % 12) for i in range(FRAMES)], per_shard=FRAMES)
    whole = looked(asking(store, dataset))
    seen, weights = tmp_path / "seen", tmp_path / "weights"
    weights.write_text(f"{seen}\n280\n")
    died = pass_of(store, weights, "mortal")
    said = died.communicate(timeout=120)
    assert died.returncode == -9, said
    assert times(seen) == 280
    asked = asked_of(store, "mortal", weights)
    assert asked.missing(0).tolist() == list(range(256, FRAMES))
    compute(asked, [0], device="cpu")
    assert times(seen) == 280 + FRAMES - 256
    run = finish(asked, ("bright", "dim"), Cost(0, 0), device="cpu")
    assert as_pixels(store.runs.boxes(run.key, dataset)) == as_pixels(whole)


def test_two_passes_at_once_share_the_work(store: Store, tmp_path: Path) -> None:
    count, block = 160, 8
    dataset = packed(store, tmp_path, [png(i % 12) for i in range(count)], per_shard=40)
    whole = looked(asking(store, dataset))
    seen, weights = tmp_path / "seen", tmp_path / "weights"
    weights.write_text(str(seen))
    both = [pass_of(store, weights, "slow", str(block)) for _ in range(2)]
    said = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert said[0][0] == said[1][0], "one run"
    assert as_pixels(store.runs.boxes(said[0][0].strip(), dataset)) == as_pixels(whole)
    # What the other one has in hand when a pass comes to its end, a batch a block: AHEAD, the one being read, the one
    # being looked at; and the same the other way round.
    in_hand = 2 * (AHEAD + 2) * block
    assert count <= times(seen) <= count + in_hand


def test_a_store_on_s3(s3: S3Server, tmp_path: Path) -> None:
    store = Store.create(f"{s3.bucket()}/store")
    members = [png(i) for i in range(7)]
    dataset: Dataset = packed(store, tmp_path, members, per_shard=4)
    found = looked(asking(store, dataset, samples=[1, 2, 5]))
    assert np.flatnonzero(found.status_N).tolist() == [1, 2, 5]
    found = looked(asking(Store.open(store.root.url), dataset))
    assert np.diff(found.offsets_N1).tolist() == [0, 2, 2, 2, 2, 2, 2]
    assert [found.corners_B4[found.frame(i)][1].tolist() for i in (1, 5)] == [[1, 2, 5, 6], [5, 2, 9, 6]]
    assert len(files(store)) == 4, "two passes of each of two shards' blocks, and no marks"
    rows = store.query("select status, count(*) as n from detections group by status").to_pylist()
    assert rows == [{"status": "ok", "n": 3 + 7}]
