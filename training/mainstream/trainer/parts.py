"""Which samples candidates train on, which decide when they stop, and which they are measured on.

What: `deal_parts` gives each sample its part by (seed, data) alone. Single images are dealt out class by class. Frames
of videos are dealt out in blocks of some seconds that stay together, those without the event, with some of it and with
more than half by themselves: neighbouring frames are nearly alike, and a frame that is measured on between two that
were trained on measures nothing. Inside of a block frames still follow each other, so misses of consecutive frames can
be counted.
With a selection, what is trained on are its samples; what is measured on is dealt out of the whole dataset, so that the
figures are those of the data and not of what was chosen as hard.
Cost: a sort of the samples.

Legend: N samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.store.datasets.frames import Frames
from tamis.store.datasets.splitting import deal
from tamis.store.errors import PackageError

Ints = npt.NDArray[np.int64]
HELD, VALIDATION, FIT = "held", "validation", "fit"


@dataclass(frozen=True)
class Parts:
    """Sample numbers of each part, rising.

    Attributes:
        fit: trained on.
        validation: decide when training stops.
        held: measured on; of another dataset where one was given.
    """

    fit: Ints
    validation: Ints
    held: Ints


def deal_parts(
    labels_N: Ints,
    event: int,
    shares: Mapping[str, float],
    *,
    seed: int,
    block: float,
    frames: Frames | None = None,
) -> dict[str, Ints]:
    """Deal samples out.

    Args:
        labels_N: class numbers.
        event: the class that is the event.
        shares: {part: share}; what they leave is FIT.
        seed: of the order.
        block: seconds of video that stay together.
        frames: which samples are frames of which camera, and when; None where none are.

    Returns:
        {part: places in `labels_N`, rising}, FIT among them.

    Raises:
        ShardError: a part would be empty.
    """
    into = {**shares, FIT: 1 - sum(shares.values())}
    if frames is None or (frames.camera_N < 0).any():
        return deal(len(labels_N), into, seed=seed, labels=labels_N)
    block_N, count = blocks_of(frames, block)
    inside = np.bincount(block_N, labels_N == event, count) / np.bincount(block_N, minlength=count)
    dealt = deal(count, into, seed=seed, labels=np.ceil(2 * inside).astype(np.int64))
    return {part: np.flatnonzero(np.isin(block_N, blocks)) for part, blocks in dealt.items()}


def blocks_of(frames: Frames, seconds: float) -> tuple[Ints, int]:
    """[N] the block of each frame, numbered from 0, and how many there are. A camera's blocks begin with it."""
    line_N = np.empty(len(frames.camera_N), np.int64)
    for camera in range(len(frames.cameras)):
        mine = frames.camera_N == camera
        since = frames.seconds_N[mine] - frames.seconds_N[mine].min(initial=np.inf)
        line_N[mine] = np.floor(since / seconds + 1e-9).astype(np.int64)
    both = np.stack([frames.camera_N.astype(np.int64), line_N], axis=1)
    found, block_N = np.unique(both, axis=0, return_inverse=True)
    return block_N.reshape(-1), len(found)


def check_events(labels_N: Ints, event: int, name: str, what: str, classes: int = 2) -> None:
    """Refuse samples among which none is the event, or all are.

    Args:
        labels_N: their class numbers.
        event: the class that is the event.
        name: of it.
        what: the samples are called.
        classes: that there must be at least, 1 or 2.

    Raises:
        PackageError: naming what is missing.
    """
    inside = int((labels_N == event).sum())
    if not len(labels_N):
        raise PackageError(f"There are no {what}: give a dataset with more samples, or smaller shares.")
    if inside == 0:
        raise PackageError(
            f"None of the {len(labels_N)} {what} is of the event's class {name}: without events nothing can be learnt "
            "or measured. Give data with events, or another split (seed, block, shares)."
        )
    if classes > 1 and inside == len(labels_N):
        raise PackageError(
            f"All {inside} {what} are of the event's class {name}: a detector also needs samples without the event. "
            "Give data with some, or another split (seed, block, shares)."
        )
