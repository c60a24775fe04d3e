"""Boxes: three kinds of frames told apart, one order, what cannot be kept counted; as arrays and by SQL."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3kit import S3Server
from storekit import counts, shard

from tamis.store import Store
from tamis.store.boxes import FAILED, LOOKED, UNSEEN, Frames, Tally, starts
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound, SelectionError

NAN, INF = float("nan"), float("inf")
Box = tuple[int, float, tuple[float, float, float, float]]
CAT, DOG = 0, 1


def frames(found: dict[int, list[Box] | str], size: tuple[int, int] = (100, 50)) -> Frames:
    """Frames by sample: their boxes, or what the detector said."""
    each: list[list[Box]] = [[] if isinstance(one, str) else one for one in found.values()]
    every = [box for one in each for box in one]
    return Frames(
        np.asarray([*found], np.int64),
        starts(np.asarray([len(one) for one in each], np.int64)),
        np.asarray([b[0] for b in every], np.int32),
        np.asarray([b[1] for b in every], np.float32),
        np.asarray([b[2] for b in every], np.float32).reshape(-1, 4),
        np.full((len(found), 2), size, np.int32),
        [one if isinstance(one, str) else None for one in found.values()],
    )


def put(store: Store, dataset: Dataset, *batches: Frames, key: str = "b0" * 16, finish: bool = True) -> Tally:
    store.runs.begin(kind="detect", key=key, dataset=dataset.ref, config={"classes": ["cat", "dog"]})
    tally = store.runs.put_boxes(key, iter(batches))
    if finish:
        store.runs.finish(key)
    return tally


@pytest.fixture
def four(store: Store, tmp_path: Path) -> Dataset:
    return store.datasets.add("four", [shard(tmp_path / "four.tar", ["a", "b", "c", "d"])])


A: Box = (CAT, 0.5, (1, 2, 3, 4))
B: Box = (DOG, 0.75, (5, 6, 7, 8))
RUN = "b0" * 16


def test_an_empty_a_failed_and_an_unseen_frame_are_told_apart(store: Store, four: Dataset) -> None:
    tally = put(store, four, frames({3: [A, B], 0: []}), frames({2: "out of\nluck"}))
    found = store.runs.boxes(RUN, four)
    assert found.status_N.tolist() == [LOOKED, UNSEEN, FAILED, LOOKED]
    assert found.offsets_N1.tolist() == [0, 0, 0, 0, 2]
    assert (found.labels_B.tolist(), found.scores_B.tolist()) == ([DOG, CAT], [0.75, 0.5])
    assert found.corners_B4[found.frame(3)].tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    assert found.classes == ("cat", "dog")
    assert tally == Tally(frames=3, failed=1, empty=1, boxes=2)
    rows = store.query("select sample, status, boxes, width, height, ms, error from detections order by sample")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        (0, "ok", 0, 100, 50, None, None),
        (2, "failed", 0, 100, 50, None, "out of luck"),
        (3, "ok", 2, 100, 50, None, None),
    ]
    rows = store.query("select sample, class, score, x1, y1, x2, y2 from boxes order by score")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        (3, "cat", 0.5, 1, 2, 3, 4),
        (3, "dog", 0.75, 5, 6, 7, 8),
    ]


def test_nothing_depends_on_the_order_of_boxes(store: Store, four: Dataset) -> None:
    """Also not of equal scores, classes and corners: every order in which four boxes may come is stored alike."""
    tied: list[Box] = [A, (CAT, 0.5, (1, 2, 3, 5)), (DOG, 0.5, (1, 2, 3, 4)), B]
    for number, some in enumerate(permutations(tied)):
        key = f"{number:032x}"
        put(store, four, frames({1: list(some)}), key=key)
        found = store.runs.boxes(key, four)
        assert found.corners_B4.tolist() == [[5, 6, 7, 8], [1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4]]
        assert found.labels_B.tolist() == [DOG, CAT, CAT, DOG]
        if number == 5:
            break


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((CAT, NAN, (1, 2, 3, 4)), "nonfinite"),
        ((CAT, INF, (1, 2, 3, 4)), "nonfinite"),
        ((CAT, 0.5, (1, NAN, 3, 4)), "nonfinite"),
        ((CAT, 0.5, (1, 2, INF, 4)), "nonfinite"),
        ((CAT, 0.5, (1, 2, 1, 4)), "outside"),
        ((CAT, 0.5, (3, 2, 1, 4)), "outside"),
        ((CAT, 0.5, (200, 2, 300, 4)), "outside"),
        ((CAT, 0.5, (-9, -9, 0, 0)), "outside"),
        ((2, 0.5, (1, 2, 3, 4)), "unknown"),
        ((-1, 0.5, (1, 2, 3, 4)), "unknown"),
    ],
)
def test_boxes_that_are_none_are_left_out_and_counted(store: Store, four: Dataset, box: Box, said: str) -> None:
    tally = put(store, four, frames({0: [box, A], 1: [box]}))
    assert tally == Tally(frames=2, empty=1, boxes=1, **{said: 2})
    found = store.runs.boxes(RUN, four)
    assert (found.corners_B4.tolist(), found.status_N.tolist()) == ([[1, 2, 3, 4]], [LOOKED, LOOKED, UNSEEN, UNSEEN])


def test_boxes_are_cut_to_the_image(store: Store, four: Dataset) -> None:
    put(store, four, frames({0: [(CAT, 0.5, (-5, 10, 300, 60.5))]}))
    assert store.runs.boxes(RUN, four).corners_B4.tolist() == [[0, 10, 100, 50]]


def test_all_frames_without_boxes(store: Store, four: Dataset) -> None:
    put(store, four, frames({0: [], 1: []}))
    found = store.runs.boxes(RUN, four)
    assert (found.corners_B4.shape, found.offsets_N1.tolist()) == ((0, 4), [0, 0, 0, 0, 0])
    assert counts(store)["boxes"] == 0
    assert store.runs.find(RUN) is not None


def test_boxes_show_with_the_finished_run_and_once(store: Store, four: Dataset) -> None:
    """A pass that was killed before it finished is put again: the first one that is there whole stays."""
    tally = put(store, four, frames({0: [A]}), finish=False)
    assert (counts(store)["boxes"], counts(store)["detections"]) == (0, 0)
    with pytest.raises(RunNotFound, match="not a finished run with boxes"):
        store.runs.boxes(RUN, four)
    assert put(store, four, frames({0: [A, B], 1: []})) == tally
    assert (counts(store)["boxes"], counts(store)["detections"]) == (1, 1)


def test_boxes_of_an_earlier_version_hold_for_what_was_appended_to(store: Store, four: Dataset, tmp_path: Path) -> None:
    put(store, four, frames({3: [A]}))
    more = store.datasets.add("four", [shard(tmp_path / "more.tar", ["e"])], append=True)
    assert store.runs.boxes(RUN, more).status_N.tolist() == [UNSEEN, UNSEEN, UNSEEN, LOOKED, UNSEEN]
    put(store, more, frames({4: [A]}), key="c0" * 16)
    with pytest.raises(SelectionError, match=r"boxes of four@2, which are not those of four@1"):
        store.runs.boxes("c0" * 16, four)
    other = store.datasets.add("other", [shard(tmp_path / "other.tar", ["x", "y", "z", "w"])])
    with pytest.raises(SelectionError, match="not those of other@1"):
        store.runs.boxes(RUN, other)


def test_other_runs_have_no_boxes(store: Store, four: Dataset) -> None:
    store.runs.begin(kind="train", key="7ea1", dataset=four.ref)
    store.runs.finish("7ea1")
    with pytest.raises(RunNotFound, match="is a train run and has no boxes"):
        store.runs.boxes("7ea1", four)


def test_the_index_of_runs_can_be_made_again(store: Store, four: Dataset) -> None:
    """It is derived from the rows: with it gone, boxes are still found, and nothing is taken for garbage."""
    put(store, four, frames({0: [A], 1: "no"}))
    for name, _ in store.root.list("index/runs"):
        store.root.delete(name)
    opened = Store.open(store.root.url)
    assert opened.runs.boxes(RUN, four).status_N.tolist() == [LOOKED, FAILED, UNSEEN, UNSEEN]
    assert opened.runs.put_boxes(RUN, iter([])) is not None
    assert counts(opened)["detections"] == 2


def test_from_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    store = Store.create(f"{s3.bucket()}/store")
    four = store.datasets.add("four", [shard(tmp_path / "four.tar", ["a", "b"])])
    put(store, four, frames({0: [B], 1: []}))
    assert store.query("select sample, class from boxes").to_pylist() == [{"sample": 0, "class": "dog"}]
    rows: list[dict[str, Any]] = store.query("select count(*) as n from detections").to_pylist()
    assert rows == [{"n": 2}]
    assert store.runs.boxes(RUN, four).offsets_N1.tolist() == [0, 1, 1]
