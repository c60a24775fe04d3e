"""Streaming from this machine's disk: all samples and a tenth of them, as bytes and decoded, and the order.

Figures are CPU time of the process and its workers, in µs a delivered sample, with everything in the page cache unless
a line says cold. Other loaders do the same job in turn (`streampeers`); those that are not installed are named.
"""

import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import streampeers
import webdataset as wds
from benchlib import Result, cpu_seconds, folder, medians
from streampeers import Way, count, shuffled
from streamsets import Data, large, small
from torch.utils.data import DataLoader

from tamis.training.decoding.decode import decode_images
from tamis.training.streaming.shuffle import BLOCK, EpochOrder
from tamis.training.streaming.stream import SelectionStream

BATCH = 128
WORKERS = 2
WARM = 4  # batches
LEAST = 0.2  # s


@dataclass(frozen=True)
class Targets:
    """µs a sample, and ratios to peers' by the beginning of their names."""

    micros: float
    ratios: dict[str, float]


FULL = Targets(3, {"webdataset": 1 / 20, "litdata": 1})
TENTH = Targets(5, {"webdataset": 1 / 100})


def run(quick: bool, data: Path | None) -> list[Result]:
    with folder(kept=f"stream-{'quick' if quick else 'given' if data else 'digits'}") as path:
        first = small(path, data, quick)
        second = large(path, first, quick)
        turns = 1 if quick else 7
        return [
            *_passes(first, turns),
            *_cold(first),
            *_passes(second, turns),
            *_cold(second),
            *_decoded(first, 1 if quick else 5),
            *_workers(first, 1 if quick else 5),
            *_order(1_000_000 if quick else 10**9, turns),
        ]


def _passes(data: Data, turns: int) -> list[Result]:
    """All samples and a tenth, as bytes, ours and everybody else's."""
    peers = [streampeers.preads(data), *streampeers.every(data)]
    every, part = data.stream(False, batch_size=BATCH), data.stream(True, batch_size=BATCH)
    return [
        *_pass(f"all of {data.name}", every, {p.name: p.full for p in peers}, turns, FULL),
        *_pass(f"10 % of {data.name}", part, {p.name: p.part for p in peers}, turns, TENTH),
        *_warm(data),
        *(
            Result(f"{p.name}: its copy", p.seconds, "s", note="written once; ours needs none")
            for p in peers
            if p.seconds
        ),
    ]


def _pass(
    title: str, stream: SelectionStream, peers: dict[str, dict[str, Way]], turns: int, targets: Targets
) -> list[Result]:
    """As raw batches and as WebDataset dicts, against every way of every peer."""
    named = [(f"{peer} {how}".strip(), way) for peer, ways in peers.items() for how, way in ways.items()]
    raw, dicts, *others = _micros(turns, lambda: _size(stream.raw(0)), lambda: count(stream), *(w for _, w in named))
    results = [Result(f"{title}, raw", raw, "us", target=targets.micros)]
    for (name, _), other in zip(named, others, strict=True):
        ratio = next((ratio for peer, ratio in targets.ratios.items() if name.startswith(peer)), None)
        results.append(Result(f"{title}, raw", raw, "us", name, other, ratio))
        if name.startswith("webdataset"):
            results.append(Result(f"{title}, WebDataset dicts", dicts, "us", name, other))
    absent = [name for name, ways in peers.items() if not ways]
    return [*results, *(Result(f"{title}, raw", raw, "us", name, note="not installed") for name in absent)]


def _warm(data: Data) -> list[Result]:
    part, wanted = data.stream(True, batch_size=BATCH), data.bytes_chosen()
    _size(part.raw(0))
    ours, whole = _round(part.bytes_read / wanted), _round(data.dataset.bytes / wanted)
    title = f"10 % of {data.name}, bytes read over bytes chosen"
    return [Result(title, ours, "x", target=1), Result(title, ours, "x", "whole shards", whole)]


def _cold(data: Data) -> list[Result]:
    """Bytes that come from the disk for a tenth, when nothing of the shards is in memory."""
    title = f"10 % of {data.name}, cold: bytes from the disk over bytes chosen"
    part, wanted = data.stream(True, batch_size=BATCH), data.bytes_chosen()
    read = [
        _from_disk(data, way) / wanted for way in (lambda: _size(part.raw(0)), lambda: count(shuffled(data.shards)))
    ]
    if read[1] < 1:  # not even a pass over everything: memory is what this file system is
        return [Result(title, 0, "x", note="not measurable here: this file system reads no disk")]
    return [Result(title, _round(read[0]), "x", target=2.8, note=f"a pass over everything: {read[1]:.1f}")]


def _from_disk(data: Data, way: Way) -> int:
    os.sync()  # pages that wait to be written cannot be dropped
    for uri in data.shards:
        descriptor = os.open(uri, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    before = _disk_bytes()
    way()
    return _disk_bytes() - before


def _disk_bytes() -> int:
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def _decoded(data: Data, turns: int) -> list[Result]:
    """Batches of tensors, against the decoder alone on the same bytes in memory."""
    every, image = data.stream(False, batch_size=BATCH), data.dataset.image
    batches = [list(batch.members[image]) for batch in data.stream(False, batch_size=BATCH).raw(0)]

    def alone() -> int:
        for members in batches:
            decode_images(members, image)
        return data.dataset.samples

    def theirs() -> int:
        stages = shuffled(data.shards).decode("torchrgb8").to_tuple(image, "cls").batched(BATCH)
        return sum(len(labels) for _, labels in stages)

    mine, decoder, other = _micros(turns, lambda: _size(every.epoch(0)), alone, theirs)
    title = f"all of {data.name}, decoded, batches of {BATCH}"
    return [
        Result(title, mine, "us", "the decoder alone", decoder),
        Result("  on top of the decoder", max(0.0, _round(mine - decoder)), "us", target=3),
        Result(title, mine, "us", f"webdataset {wds.__version__} torchrgb8", other),
    ]


def _workers(data: Data, turns: int) -> list[Result]:
    """Two worker processes, in mid-epoch: neither their start nor their end has a part in it."""
    every, image, batches = data.stream(False, batch_size=BATCH), data.dataset.image, data.dataset.samples // BATCH

    def theirs() -> float:
        stages = shuffled(data.shards).to_tuple(image, "cls").batched(BATCH)
        loader: Any = DataLoader(stages, batch_size=None, num_workers=WORKERS, multiprocessing_context="forkserver")
        return _steady((len(labels) for _, labels in loader), batches)

    def mine() -> float:
        return _steady((len(batch.samples) for batch in every.raw(0, workers=WORKERS)), batches)

    turned = [(mine(), theirs()) for _ in range(turns)]
    ours, other = (_round(median(each) * 1e6) for each in zip(*turned, strict=True))
    title = f"all of {data.name}, raw, {WORKERS} workers"
    return [
        Result(title, ours, "us", target=10, note="all processes, their start not counted"),
        Result(title, ours, "us", f"webdataset {wds.__version__}, in batches", other),
    ]


def _steady(sizes: Iterator[int], batches: int) -> float:
    """CPU seconds a sample from when workers run to before they end. What they are ahead is the same at both."""
    count(islice(sizes, WARM))
    started = cpu_seconds()
    delivered = sum(islice(sizes, batches - 2 * WARM))
    used = cpu_seconds() - started
    count(sizes)
    return used / delivered


def _order(most: int, turns: int) -> list[Result]:
    """Positions of an epoch in blocks, and what the order of very many samples takes."""
    results: list[Result] = []
    for n in (50_000, most):
        blocks = min(64, -(-n // BLOCK))
        positions = min(n, blocks * BLOCK)
        (seconds,) = medians(turns, lambda n=n, k=blocks: _walk(n, k), clock=cpu_seconds)
        results.append(
            Result(f"order of {n:,} samples, a position", _round(seconds / positions * 1e9), "ns", target=60)
        )
    tracemalloc.start()
    _walk(most, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [*results, Result(f"order of {most:,} samples, memory", _round(peak / 1e6), "MB", target=8)]


def _walk(n: int, blocks: int) -> int:
    return count(islice(EpochOrder("bench", n, 0, 0).blocks(), blocks))


def _micros(turns: int, *ways: Way) -> list[float]:
    """Median µs of CPU time a delivered sample, of each way. Short passes are repeated until they take `LEAST`."""
    sizes, passes = [0] * len(ways), [0] * len(ways)
    for i, way in enumerate(ways):
        way()
        started = cpu_seconds()
        sizes[i] = way()
        passes[i] = max(1, ceil(LEAST / max(cpu_seconds() - started, LEAST / 100)))
    work = (partial(_repeat, way, number) for way, number in zip(ways, passes, strict=True))
    seconds = medians(turns, *work, clock=cpu_seconds)
    return [_round(s / size / number * 1e6) for s, size, number in zip(seconds, sizes, passes, strict=True)]


def _repeat(way: Way, number: int) -> None:
    for _ in range(number):
        way()


def _size(batches: Any) -> int:
    return sum(len(batch.samples) for batch in batches)


def _round(value: float) -> float:
    return float(f"{value:.3g}")
