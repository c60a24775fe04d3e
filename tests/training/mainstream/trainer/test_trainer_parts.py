"""Parts of the data: whole blocks of video, every class in every part, nothing in two."""

import numpy as np
import pytest

from tamis.store.datasets.frames import Frames
from tamis.store.errors import PackageError
from tamis.training.mainstream.trainer.parts import FIT, HELD, VALIDATION, blocks_of, check_events, deal_parts

SHARES = {HELD: 0.25, VALIDATION: 0.15}


def line(*cameras: tuple[int, float]) -> Frames:
    """Frames of cameras: how many, and seconds between two."""
    camera = np.concatenate([np.full(count, at, np.int32) for at, (count, _) in enumerate(cameras)])
    seconds = np.concatenate([np.arange(count) * apart + 100.0 for count, apart in cameras])
    names = tuple(f"c{at}" for at in range(len(cameras)))
    return Frames(names, names, camera, camera.copy(), seconds)


def test_blocks_begin_with_the_camera_and_never_span_two() -> None:
    block_N, count = blocks_of(line((25, 0.1), (10, 1.0)), 1.0)
    assert count == 3 + 10
    assert np.bincount(block_N).tolist() == [10, 10, 5, *[1] * 10]


def test_a_block_of_video_stays_together_and_each_part_has_events() -> None:
    frames = line((400, 0.1), (400, 0.1))  # 80 s, 20 blocks of 4 s
    labels = (np.arange(800) % 200 < 60).astype(np.int64)  # 4 events of 6 s
    dealt = deal_parts(labels, 1, SHARES, seed=3, block=4.0, frames=frames)
    assert sorted(np.concatenate([*dealt.values()]).tolist()) == list(range(800))
    block_N, count = blocks_of(frames, 4.0)
    assert [len(set(block_N[rows].tolist())) for rows in (dealt[HELD], dealt[VALIDATION], dealt[FIT])] == [5, 3, 12]
    assert sum(len(set(block_N[rows].tolist())) for rows in dealt.values()) == count  # none in two parts
    assert all(0 < (labels[rows] == 1).mean() < 1 for rows in dealt.values())
    again = deal_parts(labels, 1, SHARES, seed=3, block=4.0, frames=frames)
    assert all((again[part] == dealt[part]).all() for part in dealt)
    other = deal_parts(labels, 1, SHARES, seed=4, block=4.0, frames=frames)
    assert other[HELD].tolist() != dealt[HELD].tolist()


def test_single_images_are_dealt_out_class_by_class() -> None:
    labels = np.repeat([0, 1, 2], [40, 20, 20])
    dealt = deal_parts(labels, 1, SHARES, seed=0, block=4.0)
    assert {part: np.bincount(labels[rows]).tolist() for part, rows in dealt.items()} == {
        HELD: [10, 5, 5], VALIDATION: [6, 3, 3], FIT: [24, 12, 12],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "There are no held-out samples"),
        ([0, 2, 2], "None of the 3 held-out samples is of the event's class person"),
        ([1, 1], "All 2 held-out samples are of the event's class person"),
    ],
)
def test_samples_without_the_event_or_with_nothing_else_are_refused(labels: list[int], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        check_events(np.asarray(labels, np.int64), 1, "person", "held-out samples")
