"""Indexing shards: against a bare scan of the tar headers, and with digests against hashing the shards' bytes once."""

import itertools
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from benchlib import Result, folder, medians

from tamis.store import Store
from tamis.store.blobs import digest_of
from tamis.store.datasets.packing import Sample, pack_digits, pack_samples
from tamis.store.shards.tars import hop, index_shard

THREADS = min(8, (os.cpu_count() or 1) + 1)  # as datasets.add has it


def run(quick: bool, data: Path | None) -> list[Result]:
    with folder() as path:
        shards = [] if quick or data is None else sorted(Path(data).glob("train-*.tar"))
        shards = shards or pack_digits(path / "digits")
        note = f"{len(shards)} shards, {sum(s.stat().st_size for s in shards) / 1e6:.0f} MB"
        repeats = 1 if quick else 7
        results = [*_plain(path, shards, repeats, note), *_hashed(path, shards, repeats, note)]
        large = pack_samples(_made(20 if quick else 5000), path / "large", per_shard=1000)
        return [*results, *_hashed(path, large, repeats, f"{len(large)} shards, members of 20 kB")[:2]]


def _made(count: int) -> Iterator[Sample]:
    draw = np.random.default_rng(0)
    return ((f"{i:06d}", {"jpg": draw.bytes(20_000), "cls": b"1"}) for i in range(count))


def _plain(path: Path, shards: list[Path], repeats: int, note: str) -> list[Result]:
    add = _adder(path / "plain", shards, digests=False)
    index, whole, bare, tight = medians(
        repeats,
        lambda: [index_shard(shard, "cls") for shard in shards],
        add,
        lambda: [bare_scan(shard) for shard in shards],
        lambda: [_tight(shard) for shard in shards],
    )
    return [
        Result("index, no digests", index, "s", "bare scan of the headers", bare, 2, note),
        Result("index, no digests", index, "s", "tightest loop over a map", tight, note=note),
        Result("datasets.add, no digests", whole, "s", "bare scan of the headers", bare, 2, note),
    ]


def _hashed(path: Path, shards: list[Path], repeats: int, note: str) -> list[Result]:
    add = _adder(path / "hashed", shards, digests=True)
    index, whole, threads, single = medians(
        repeats,
        lambda: _in_threads(lambda shard: (index_shard(shard, "cls"), digest_of(shard)), shards),
        add,
        lambda: _in_threads(digest_of, shards),
        lambda: [digest_of(shard) for shard in shards],
    )
    same = f"hashing, {THREADS} threads"
    return [
        Result("index with digests", index, "s", "hashing, one thread", single, 1.3, note),
        Result("index with digests", index, "s", same, threads, note=note),
        Result("datasets.add with digests", whole, "s", "hashing, one thread", single, note=note),
        Result("datasets.add with digests", whole, "s", same, threads, note=note),
    ]


def bare_scan(shard: Path) -> list[tuple[str, int]]:
    """Name and size of every member, as anybody would write it."""
    members: list[tuple[str, int]] = []
    with shard.open("rb") as file:
        while (header := file.read(512))[:1] != b"\0":
            size = int(header[124:136].rstrip(b"\0 "), 8)
            members.append((header[:100].rstrip(b"\0").decode(), size))
            file.seek(size + 511 & -512, os.SEEK_CUR)
    return members


def _tight(shard: Path) -> object:
    with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return hop(mapped)


def _adder(path: Path, shards: list[Path], digests: bool) -> Callable[[], object]:
    store, number = Store.open_or_create(path), itertools.count()
    return lambda: store.datasets.add(f"data{len(shards)}-{shards[0].stem}-{next(number)}", shards, digests=digests)


def _in_threads(work: Callable[[Path], object], shards: list[Path]) -> list[object]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, shards))
