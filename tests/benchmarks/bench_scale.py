"""What a dataset costs by its size, at two sizes: index, scores, a selection, the start of a stream; and at 10^9.

Shards of 10,000 samples with an image of 300 bytes and a class. Each step runs in a process of its own, so its peak of
memory is its own; time is CPU time, so that a busy machine counts as little as can be. What grows by sample is the
difference of the two sizes; 10^9 samples are extrapolated from it.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchlib import Result, cpu_seconds, folder, peak

from tamis.store import Store

GOAL = 10**9
METRICS = ("confidence", "margin", "entropy", "loss", "correct", "prediction")
_BLOCK, _IMAGE = 512, 300


def run(quick: bool, data: Path | None) -> list[Result]:
    sizes, each = ((200, 600), 100) if quick else ((100_000, 1_000_000), 10_000)
    results = list[Result]()
    with folder() as path:
        costs = [measured(path / str(size), size, each) for size in sizes]
    for step in costs[0]:
        few, many = costs[0][step], costs[1][step]
        results += [_line(step, unit, sizes, (few[unit], many[unit])) for unit in few]
    return results


def _line(step: str, unit: str, sizes: tuple[int, int], found: tuple[float, float]) -> Result:
    slope = (found[1] - found[0]) / (sizes[1] - sizes[0])
    scale, name, goal = {"s": (1e6, "µs", 3600), "B": (1, "B", 1e9), "MB": (1e6, "B", 1e3)}[unit]
    at_goal = f"10^9: {(found[1] + slope * (GOAL - sizes[1])) / goal:.3g} {'h' if unit == 's' else 'GB'}"
    what = {"s": "CPU", "B": "on disk", "MB": "memory"}[unit]
    note = f"{found[0]:.4g} {unit} at {sizes[0]:,}, {found[1]:.4g} {unit} at {sizes[1]:,}; {at_goal}"
    return Result(f"{step}: {what} a sample", max(slope, 0.0) * scale, name, note=note)


def measured(path: Path, size: int, each: int) -> dict[str, dict[str, float]]:
    """What each step costs at a size: CPU seconds, megabytes at the peak, and bytes that it left."""
    shards = [write_shard(path / f"{i:06d}.tar", i * each, each) for i in range(size // each)]
    Store.create(path / "store")
    found: dict[str, dict[str, float]] = {}
    for step in STEPS:
        before = _bytes(path / "store")
        command = [sys.executable, __file__, step, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[step] = json.loads(done.stdout) | {"B": float(_bytes(path / "store") - before)}
    for shard in shards:
        shard.unlink()
    return found


def write_shard(path: Path, first: int, count: int) -> Path:
    """A tar of samples, made by arithmetic: a header and a block for the image, a header and a block for the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks_NB = np.zeros((count, 4, _BLOCK), np.uint8)
    draw = np.random.default_rng(first)
    blocks_NB[:, 1, :_IMAGE] = draw.integers(0, 256, (count, _IMAGE), dtype=np.uint8)
    blocks_NB[:, 3, 0] = ord("0") + draw.integers(0, 10, count)
    names_N = np.char.zfill(np.arange(first, first + count).astype("S10"), 10)
    for block, suffix, size in ((0, b".png", _IMAGE), (2, b".cls", 1)):
        _headers(blocks_NB[:, block], names_N, suffix, size)
    with path.open("wb") as file:
        blocks_NB.tofile(file)
        file.write(bytes(2 * _BLOCK))
    return path


def _headers(headers_NB: np.ndarray, names_N: np.ndarray, suffix: bytes, size: int) -> None:
    fixed = {100: b"0000644\0", 108: b"0000000\0", 116: b"0000000\0", 124: b"%011o\0" % size, 136: b"00000000000\0",
             148: b" " * 8, 156: b"0", 257: b"ustar\00000"}  # fmt: skip
    for at, text in fixed.items():
        headers_NB[:, at : at + len(text)] = np.frombuffer(text, np.uint8)
    names_NC = np.char.add(names_N, suffix)
    headers_NB[:, : names_NC.dtype.itemsize] = names_NC.view(np.uint8).reshape(len(names_N), -1)
    sums = b"".join(b"%06o\0 " % total for total in headers_NB.sum(axis=1, dtype=np.int64))
    headers_NB[:, 148:156] = np.frombuffer(sums, np.uint8).reshape(-1, 8)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def index(store: Store, path: Path) -> None:
    store.datasets.add("data", sorted(path.glob("*.tar")))


def open_dataset(store: Store, path: Path) -> None:
    assert store.datasets.get("data").samples > 0


def publish_scores(store: Store, path: Path) -> None:
    dataset, draw = store.datasets.get("data"), np.random.default_rng(0)
    key = store.runs.begin(kind="score", key="ab" * 16, dataset=dataset.ref, config={"hard": {"entropy": "higher"}}).key
    batches = (
        (
            {metric: draw.random(s.count, np.float32) for metric in METRICS},
            np.arange(s.first_sample, s.first_sample + s.count),
        )
        for s in dataset.shards
    )
    store.runs.put_score_batches(key, batches)
    store.runs.finish(key)


def select(store: Store, path: Path) -> None:
    from tamis.training.selecting.by_scores import SelectConfig
    from tamis.training.selecting.by_scores import select as choose

    choose(store, SelectConfig(dataset="data", budget=0.1, scores=("ab" * 16,), name="chosen"))


def start_stream(store: Store, path: Path) -> None:
    from tamis.training.streaming.lookup import Index

    chosen, _ = store.selections.get("chosen").round_at(0)
    opened = Index.open(store, store.datasets.get("data"))
    first = np.sort(chosen)[:64]
    assert opened.bytes_of(first) == _IMAGE * len(first)


STEPS: dict[str, Callable[[Store, Path], None]] = {
    "index": index,
    "open the dataset": open_dataset,
    "publish six scores": publish_scores,
    "select a tenth": select,
    "open the stream's index": start_stream,
}


def main() -> None:
    step, path = sys.argv[1], Path(sys.argv[2])
    store = Store.open(path / "store")
    started = cpu_seconds()
    STEPS[step](store, path)
    print(json.dumps({"s": cpu_seconds() - started, "MB": peak()}))


if __name__ == "__main__":
    main()
