"""Many writers at once: 8 processes publish 10 selections each under one name. And what `import tamis.store` costs."""

import multiprocessing
import statistics
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from benchlib import Result, folder

from tamis.store import Store
from tamis.store.datasets.packing import pack_digits
from tamis.store.selections import Request, RoundData

IMPORT = "import time; t = time.perf_counter(); import tamis.store; print(time.perf_counter() - t)"


def run(quick: bool, data: Path | None) -> list[Result]:
    writers, each = (2, 2) if quick else (8, 10)
    with folder() as path:
        store = Store.create(path / "store")
        store.datasets.add("digits", pack_digits(path / "digits"))
        seconds = _race(path / "store", writers, each)
        there = [(s.version, s.seed) for s in store.selections.all()]
    total, note = writers * each, f"{writers} processes x {each}"
    return [
        Result("publications, all writers", round(seconds, 3), "s", note=f"{note}, first begins to last ends"),
        Result("  lost", total - len({seed for _, seed in there}), "", target=0, note=note),
        Result("  doubled", len(there) - len({seed for _, seed in there}), "", target=0, note=note),
        Result("  versions missing", total - len({v for v, _ in there} & set(range(1, total + 1))), "", target=0),
        Result("import tamis.store", _import(1 if quick else 7), "s", target=0.5, note="fresh process, median"),
    ]


def publish(path: Path, first: int, count: int, barrier: Barrier) -> None:
    """What one writer does: `count` selections with seeds from `first`."""
    store = Store.open(path)
    dataset = store.datasets.get("digits")
    barrier.wait()
    for seed in range(first, first + count):
        chosen = np.random.default_rng(seed).permutation(dataset.samples)[:500]
        store.selections.publish(Request(dataset, "random", 1, seed=seed), "race", [RoundData(chosen)], seconds=0.0)


def _race(path: Path, writers: int, each: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(writers + 1)
    processes = [context.Process(target=publish, args=(path, i * each, each, barrier)) for i in range(writers)]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - started


def _import(repeats: int) -> float:
    def once() -> float:
        done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
        return float(done.stdout)

    once()
    return statistics.median(once() for _ in range(repeats))
