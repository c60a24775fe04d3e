"""What a process that streams holds of its own: a dataset of 5,000,000 samples against one of 200,000.

Half of each is chosen. A fresh process opens the stream and takes 100 raw batches; then what it and its workers hold in
private, anonymous memory is added up (what several share counts in parts). The difference of the two, over the
difference of the samples chosen, is what a chosen sample costs. The samples have empty images: a tar of headers, which
is indexed as any other is; so nothing but the index and the order is measured.
"""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from benchlib import Result, below, folder

from tamis.store import Store
from tamis.store.selections import Request, RoundData
from tamis.training.streaming.stream import SelectionStream

BATCHES = 100
PER_SHARD = 100_000
_BLOCK = 512


def run(quick: bool, data: Path | None) -> list[Result]:
    sizes = (30_000, 60_000) if quick else (200_000, 5_000_000)
    with folder(kept=f"headers-{sizes[1]}") as path:
        for size in sizes:
            _publish(path, size)
        return [_slope(path / "store", sizes, workers, 1 if quick else 3) for workers in (0, 2)]


def _slope(store: Path, sizes: tuple[int, int], workers: int, turns: int) -> Result:
    held: dict[int, list[int]] = {size: [] for size in sizes}
    for _ in range(turns):
        for size in sizes:
            held[size].append(_ask(store, size, workers))
    few, many = (median(held[size]) for size in sizes)
    slope = (many - few) / ((sizes[1] - sizes[0]) // 2)
    note = f"{few / 1e6:.0f} MB with {sizes[0] // 2:,} chosen, {many / 1e6:.0f} MB with {sizes[1] // 2:,}"
    what = f"own memory, {workers} workers, a chosen sample"
    return Result(what, max(0.0, round(slope, 2)), "bytes", target=8, note=note)


def _ask(store: Path, size: int, workers: int) -> int:
    command = [sys.executable, __file__, str(store), f"made{size}", str(workers)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _publish(path: Path, size: int) -> None:
    """A dataset of so many samples, and half of it as a selection; nothing where they are there."""
    store = Store.open_or_create(path / "store")
    if any(one.name == f"made{size}" for one in store.selections.all()):
        return
    into = path / f"made{size}"
    into.mkdir(exist_ok=True)
    shards = [_shard(into, first, min(PER_SHARD, size - first)) for first in range(0, size, PER_SHARD)]
    dataset = store.datasets.add(f"made{size}", shards, label=None, digests=False)
    chosen = np.random.default_rng(0).permutation(size)[: size // 2]
    selection = store.selections.publish(
        Request(dataset, "random", 1), f"made{size}", [RoundData(chosen)], seconds=0.0
    ).selection
    SelectionStream(store, selection)  # makes the flat copies, which is not what is measured


def _shard(path: Path, first: int, count: int) -> Path:
    """A tar of so many empty members, numbered from `first`."""
    header = np.zeros(_BLOCK, np.uint8)
    for at, text in ((100, b"0000644\0"), (124, b"00000000000\0"), (136, b"00000000000\0"), (257, b"ustar\x0000")):
        header[at : at + len(text)] = np.frombuffer(text, np.uint8)
    headers = np.tile(header, (count, 1))
    headers[:, :13] = np.array([b"%09d.png" % n for n in range(first, first + count)])[:, None].view(np.uint8)
    headers[:, 156] = ord("0")
    sums = headers.sum(axis=1) + 8 * ord(" ")  # of the checksum itself, as blanks
    headers[:, 148:156] = np.array([b"%06o\0 " % n for n in sums.tolist()], "S8")[:, None].view(np.uint8)
    shard = path / f"{first:09d}.tar"
    with shard.open("wb") as file:
        headers.tofile(file)
        file.write(bytes(2 * _BLOCK))
    return shard


def private() -> int:
    """Bytes of this process and all below it that are theirs alone, or a share of what some of them share."""
    held = 0
    for process in (os.getpid(), *below(os.getpid())):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        held += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon"))
    return held


def main(path: str, name: str, workers: int) -> None:
    store = Store.open(path)
    stream = SelectionStream(store, store.selections.get(name), batch_size=128)
    batches = stream.raw(0, workers=workers)
    list(islice(batches, BATCHES))
    print(private(), flush=True)
    batches.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
