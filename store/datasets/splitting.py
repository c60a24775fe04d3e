"""Splitting a dataset into parts that are datasets of their own, without copying or rewriting a shard.

A part has the same shards, and of each the rows of its own samples: a reader goes by the places of members and never
sees the others. Its shards' content, and with it the part's key and the keys of all that is computed from it, is that
of the file and of the samples that were taken.

How: samples are drawn in an order that (dataset, seed) decides, and dealt out so that every part has its share to
within one sample; with `stratify`, to within one sample of every class. The same question gives the same parts.
Frames of videos can be split by time instead: of each camera the first part has the earliest frames, the next part the
following ones, so that parts have neighbouring frames only where they meet.
Cost: one read of the samples' rows, one append a part; memory for the rows of the dataset.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.datasets.dataset import Dataset
from tamis.store.datasets.frames import Frames
from tamis.store.errors import ShardError
from tamis.store.shards.shards import PART, RELABELLED, Shard
from tamis.store.tables.specs import TABLES

Ints = npt.NDArray[np.int64]


def deal(count: int, into: Mapping[str, float], *, seed: int, labels: npt.ArrayLike | None = None) -> dict[str, Ints]:
    """Which samples each part has.

    Args:
        count: N, the samples.
        into: {part: its share, above 0}; shares add up to 1 at most. What they leave is in no part.
        seed: of the order in which samples are dealt out.
        labels: [N] class numbers: each class is dealt out by itself. None deals out all together.

    Returns:
        {part: sample numbers, rising}.

    Raises:
        ShardError: a share is none, they add up to more than 1, or a part would be empty.
    """
    shares = check_shares(into)
    names = [*shares, ""]  # the last has what is left
    share = np.asarray([*shares.values(), max(0.0, 1.0 - math.fsum(shares.values()))])
    generator = np.random.default_rng(np.random.SeedSequence([seed, *b"split"]))
    classes = np.zeros(count, np.int64) if labels is None else np.asarray(labels, np.int64)
    drawn = generator.permutation(count)
    grouped = drawn[np.argsort(classes[drawn], kind="stable")]
    part, wanted, dealt, start = np.empty(count, np.int64), np.zeros(len(share)), np.zeros(len(share), np.int64), 0
    for size in np.unique(classes, return_counts=True)[1].tolist():
        wanted += share * size
        counts = _whole(share * size, size, wanted - dealt)
        dealt += counts
        part[grouped[start : start + size]] = np.repeat(np.arange(len(share)), counts)
        start += size
    return _filled({name: np.flatnonzero(part == i) for i, name in enumerate(names) if name}, count)


def deal_by_time(frames: Frames, into: Mapping[str, float]) -> dict[str, Ints]:
    """Which samples each part has, where each camera's time line is cut.

    Args:
        frames: of the dataset; samples that are no frames are in no part.
        into: {part: its share of the frames of each camera, above 0}, the earliest first; shares add up to 1 at most.

    Returns:
        {part: sample numbers, rising}; exact to within one frame of each camera.

    Raises:
        ShardError: a share is none, they add up to more than 1, or a part would be empty.
    """
    shares = check_shares(into)
    ends = np.cumsum(list(shares.values()))
    order = np.lexsort((frames.seconds_N, frames.camera_N))
    part = np.full(len(order), -1, np.int64)
    for camera in range(len(frames.cameras)):
        line = order[frames.camera_N[order] == camera]
        cuts = np.floor(ends * len(line) + 0.5 - 1e-9).astype(np.int64)
        place = np.searchsorted(cuts, np.arange(len(line)), side="right")
        part[line] = np.where(place < len(shares), place, -1)
    return _filled({name: np.flatnonzero(part == i) for i, name in enumerate(shares)}, len(order))


def check_shares(into: Mapping[str, float]) -> dict[str, float]:
    """Refuse shares that are none.

    Raises:
        ShardError: naming the first, or their sum.
    """
    for name, share in into.items():
        if not (math.isfinite(share) and 0 < share <= 1):
            raise ShardError(f"The share of {name!r} is {share}: expected a number above 0 and at most 1.")
    total = math.fsum(into.values())
    if not into or total > 1 + 1e-9:
        raise ShardError(f"The shares add up to {total:g}: expected one or more parts that add up to at most 1.")
    return dict(into)


def part_of(dataset: Dataset, samples: Ints) -> tuple[tuple[Shard, ...], list[int]]:
    """The shards of a part as they are kept with it, and which of the dataset's they are.

    Args:
        dataset: the whole.
        samples: rising numbers in it, at least one.
    """
    starts = np.asarray([shard.first_sample for shard in dataset.shards] + [dataset.samples])
    ends = np.searchsorted(samples, starts)
    shards, numbers = list[Shard](), list[int]()
    for number, shard in enumerate(dataset.shards):
        inside = samples[ends[number] : ends[number + 1]] - shard.first_sample
        if not len(inside):
            continue
        mark = RELABELLED if shard.is_relabelled else PART
        taken = hashlib.sha256(f"{shard.content}\n".encode() + inside.astype("<i8").tobytes()).hexdigest()
        shards.append(
            replace(shard, index_digest=mark + taken, first_sample=int(ends[number]), count=len(inside))
            if len(inside) < shard.count
            else replace(shard, first_sample=int(ends[number]))
        )
        numbers.append(number)
    return tuple(shards), numbers


def part_rows(rows: pa.Table, name: str, numbers: list[int], samples: Ints, attempt: str) -> pa.RecordBatchReader:
    """The samples' rows of a part.

    Args:
        rows: of the whole (`Dataset.rows`).
        name: of the part.
        numbers: from `part_of`.
        samples: of the part, rising.
        attempt: that writes it.
    """
    taken = rows.take(pa.array(samples))
    shard = np.searchsorted(numbers, np.asarray(taken["shard"]))
    made = {
        "dataset": pa.repeat(pa.scalar(name), len(samples)),
        "attempt": pa.repeat(pa.scalar(attempt), len(samples)),
        "sample": pa.array(np.arange(len(samples))),
        "shard": pa.array(shard, pa.int32()),
    }
    columns = [made.get(field.name, taken[field.name]) for field in TABLES["samples"].schema]
    table = pa.Table.from_arrays(columns, schema=TABLES["samples"].schema)
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1 << 16))


def _filled(found: dict[str, Ints], count: int) -> dict[str, Ints]:
    """The parts, none of which is empty."""
    empty = [name for name, samples in found.items() if not len(samples)]
    if empty:
        raise ShardError(f"Part {empty[0]!r} would have none of the {count} samples: give it a larger share.")
    return found


def _whole(shares: npt.NDArray[np.float64], size: int, lacking: npt.NDArray[np.float64]) -> Ints:
    """Whole numbers that add up to `size`, each the share rounded down or up; up for those that lack most so far."""
    counts = np.floor(shares + 1e-9).astype(np.int64)
    rounded = shares - counts > 1e-9
    order = np.lexsort((-(lacking - counts), ~rounded))
    counts[order[: size - int(counts.sum())]] += 1
    return counts
