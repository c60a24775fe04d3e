"""What a store costs as its history grows: publishing, finding, listing and appending, and 24 writers under one name.

One store is filled to 10,000 selections of 20 samples; at 10, 100, 1,000 and 10,000 the same calls are measured. CPU
time of this process, so that a busy machine counts as little as can be; upkeep (merging and checkpoints, every 32nd
commit) is in the means, not in the medians.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from benchlib import Result, folder

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_digits, pack_samples
from tamis.store.selections import Request, RoundData


def run(quick: bool, data: Path | None) -> list[Result]:
    steps = (5, 10) if quick else (10, 100, 1_000, 10_000)
    appends, writers = (4, 2) if quick else (500, 24)
    with folder() as path:
        results = _publications(path, steps)
    with folder() as path:
        results += _appends(path, appends)
    with folder() as path:
        results += _race(path, writers)
    return results


def publish(store: Store, dataset: Dataset, name: str, seed: int) -> None:
    chosen = np.random.default_rng(seed).choice(dataset.samples, 20, replace=False)
    store.selections.publish(Request(dataset, "random", 1, seed=seed), name, [RoundData(chosen)], seconds=0.0)


def _publications(path: Path, steps: tuple[int, ...]) -> list[Result]:
    store = Store.create(path / "store")
    dataset = store.datasets.add("digits", pack_digits(path / "digits"))
    cpu: list[float] = []
    results: list[Result] = []
    first: dict[str, float] = {}
    for count in steps:
        while len(cpu) < count:
            began = time.process_time()
            publish(store, dataset, f"n{len(cpu) % 50}", len(cpu))
            cpu.append(time.process_time() - began)
        some = store.selections.get("n1")
        calls: dict[str, tuple[Callable[[], object], float | None]] = {
            "get(name@version)": (lambda ref=some.ref: store.selections.get(ref), 1.5),
            "get(name)": (lambda: store.selections.get("n1"), None),
            "find(key)": (lambda key=some.key: store.selections.find(key), 1.5),
            "find(key), nothing there": (lambda: store.selections.find("0" * 32), None),
            "read a selection": (lambda one=some: one.read_rounds(), None),
            "heads of all": (store.selections.all, None),
            "sql: count(*) of selection_samples": (lambda: store.query("select count(*) from selection_samples"), None),
        }
        figures: dict[str, tuple[float, float | None]] = {
            "publish, CPU, median of the last 9": (statistics.median(cpu[-9:]), 1.5),
            "publish, CPU, mean of the last 64": (statistics.mean(cpu[-64:]), None),
        } | {name: (_median(call), target) for name, (call, target) in calls.items()}
        for name, (seconds, target) in figures.items():
            first.setdefault(name, seconds)
            later = count > steps[0]
            results.append(
                Result(
                    f"{name} at {count:,}", round(seconds * 1000, 3), "ms", f"at {steps[0]}" if later else "",
                    round(first[name] * 1000, 3) if later else None, target if later else None,
                )
            )  # fmt: skip
    heads = next(r for r in reversed(results) if r.name.startswith("heads of all"))
    return [*results, Result(f"{heads.name}, of .3 s", heads.ours, "ms", target=300)]


def _median(call: Callable[[], object], repeats: int = 7) -> float:
    taken: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _appends(path: Path, count: int) -> list[Result]:
    """One shard of two samples a version."""
    store = Store.create(path / "store")
    shards = [
        pack_samples([(f"{i:06d}-{j}", {"png": b"x", "cls": b"0"}) for j in range(2)], path / f"{i:06d}")[0]
        for i in range(count + 1)
    ]
    store.datasets.add("d", shards[:1])
    cpu: list[float] = []
    for shard in shards[1:]:
        began = time.process_time()
        store.datasets.add("d", [shard], append=True)
        cpu.append(time.process_time() - began)
    few = min(9, count)
    begin, end = (round(statistics.median(some) * 1000, 1) for some in (cpu[:few], cpu[-few:]))
    note = f"median of {few}; mean of the last 64: {statistics.mean(cpu[-64:]) * 1000:.0f} ms"
    return [Result(f"append at {count} versions, CPU", end, "ms", f"the first {few}", begin, 2, note)]


def _one(path: Path, seed: int, barrier: Barrier, waits: "multiprocessing.Queue[float]") -> None:
    store = Store.open(path)
    dataset = store.datasets.get("digits")
    barrier.wait()
    began = time.perf_counter()
    publish(store, dataset, "race", seed)
    waits.put(time.perf_counter() - began)


def _race(path: Path, writers: int) -> list[Result]:
    """Processes that have imported and opened the store publish once each, behind a barrier."""
    store = Store.create(path / "store")
    store.datasets.add("digits", pack_digits(path / "digits"))
    context = multiprocessing.get_context("spawn")
    barrier, waits = context.Barrier(writers), context.Queue()
    processes = [context.Process(target=_one, args=(path / "store", i, barrier, waits)) for i in range(writers)]
    for process in processes:
        process.start()
    taken = [waits.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    there = [s.version for s in store.selections.all()]
    note = f"{writers} writers, one publication each, call to return"
    return [
        Result("wait under one name, mean", round(statistics.mean(taken), 3), "s", target=8, note=note),
        Result("  worst", round(max(taken), 3), "s", target=30, note=note),
        Result("  versions missing or doubled", len(set(range(1, writers + 1)) ^ set(there)), "", target=0),
    ]
