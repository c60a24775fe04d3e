"""Matching pursuit on last-layer gradients of CIFAR-10, one thread, against CORDS' `OrthogonalMP_REG_Parallel`.

Gradients in closed form: features of a torchvision resnet18 with random weights (512 numbers and a 1), under a softmax
head fitted by least squares, so that the errors are real ones: (p - y) x features, [N, 10 * 513]; the wide case is one
class's part, [N, 512]. Each run is a process of its own with one thread; what is compared is CPU time. CORDS is
measured where TAMIS_BENCH_CORDS is a checkout of it (only its `omp_solvers.py` is loaded, which needs scipy).
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchlib import Result, folder
from threadpoolctl import threadpool_limits

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LAM = 0.5
EXTRAPOLATED = 7500.0  # CPU seconds of CORDS for k = 5,000, from its growth up to k = 1,000 on another day
# Rows, all classes or one, k, the ratio to reach, repeats of CORDS.
CASES = [(5000, True, 500, 1 / 2, 2), (5000, True, 1000, 1 / 5, 1), (5000, True, 5000, 1 / 60, 0)]
CASES += [(50_000, False, 500, 1 / 1.5, 2)]
QUICK = [(600, True, 20, None, 1)]


def run(quick: bool, data: Path | None) -> list[Result]:
    real = data is not None and not quick
    with folder("pursuit-cifar10" if real else None) as path:
        features, labels = _features(path, data) if real else _digits()
        results: list[Result] = []
        for n, whole, k, target, repeats in CASES if real else QUICK:
            rows = path / f"rows-{n}-{'all' if whole else 'one'}.npy"
            if not rows.exists():
                np.save(rows, _gradients(features[:n], labels[:n], whole))
            results += _case(rows, k, target, repeats, 3 if real else 1)
        return results + _classes(features, labels, 3 if real else 1)


def _classes(features: np.ndarray, labels: np.ndarray, times: int) -> list[Result]:
    """10 %, per class per gradient, as Grad-Match does it: in a process a core, and one after the other."""
    from tamis.curation.gradmatch.gradients import LastLayer
    from tamis.curation.gradmatch.matching import match
    from tamis.curation.omp.problem import Problem
    from tamis.curation.omp.processes import Pursuers
    from tamis.curation.omp.solver import pursue_each

    source = LastLayer(_errors(features, labels)[0].astype(np.float32), features)
    cores, k = len(os.sched_getaffinity(0)), len(labels) // 10
    seconds: dict[str, list[float]] = {"processes": [], "here": []}
    with Pursuers(cores) as pursuers, threadpool_limits(1, user_api="blas"):
        list(pursuers.pursue([Problem(np.eye(2, dtype=np.float32), np.ones(2), 1)] * cores))  # they have started
        for _ in range(times):
            for way, pursue in (("processes", pursuers.pursue), ("here", pursue_each)):
                started = time.perf_counter()
                match(source, labels.astype(np.int64), k=k, pursue=pursue, generator=np.random.default_rng(0))
                seconds[way].append(time.perf_counter() - started)
    name = f"{k:,} of {len(labels):,}, ten classes, spare 0.05"
    one, other = median(seconds["processes"]), median(seconds["here"])
    note = f"{cores} processes, {min(seconds['processes']):.2f} to {max(seconds['processes']):.2f} s"
    return [
        Result(name, one, "s", target=3 if len(labels) >= 50_000 else None, note=note),
        Result("  the same", one, "s", "one after the other", other),
    ]


def _case(rows: Path, k: int, target: float | None, repeats: int, ours: int) -> list[Result]:
    n, d = np.load(rows, mmap_mode="r").shape
    mine = _child(rows, k, ours)
    cords = os.environ.get("TAMIS_BENCH_CORDS", "")
    name = f"n={n:,} d={d:,} k={k:,}"
    memory = Result("  memory beside the data", round(mine["memory"], 2), "x its size", target=2 if target else None)
    note = f"chosen {mine['chosen']:,}, {min(mine['seconds']):.2f} to {max(mine['seconds']):.2f} s"
    if not repeats:
        return [Result(name, median(mine["seconds"]), "s", "CORDS, extrapolated", EXTRAPOLATED, target, note), memory]
    if not cords:
        return [Result(name, median(mine["seconds"]), "s", "CORDS: not given", note=note), memory]
    theirs = _child(rows, k, repeats, cords)
    reached = theirs["chosen"]  # it stops where it would pick a row again
    same = mine if reached == mine["chosen"] else _child(rows, max(1, reached), ours)
    note += f"; CORDS {reached:,}, {min(theirs['seconds']):.2f} to {max(theirs['seconds']):.2f} s"
    seconds, short = median(theirs["seconds"]), reached < 0.95 * k
    results = [Result(name, median(mine["seconds"]), "s", "CORDS", seconds, None if short else target, note)]
    if short:
        results.append(Result(f"  with {reached:,} rows", median(same["seconds"]), "s", "CORDS", seconds, target))
    at = f"both with {reached:,} rows, of ||b||^2"
    spare = _child(rows, max(1, reached), 1, spare=0.05)
    seconds_with = f"{at}; {spare['seconds'][0]:.2f} s"
    return [
        *results,
        Result("  objective, greedy alone", same["objective"], "", "CORDS", theirs["objective"], note=at),
        Result("  with 5 % spare picks", spare["objective"], "", "CORDS", theirs["objective"], 1, seconds_with),
        memory,
    ]


def _gradients(features: np.ndarray, labels: np.ndarray, whole: bool) -> np.ndarray:
    """(p - y) x features under a head fitted by least squares: of all classes with the bias, or of one without."""
    errors, inputs = _errors(features, labels)
    if not whole:
        return (errors[:, :1] * features).astype(np.float32)
    return (errors[:, :, None] * inputs[:, None, :]).reshape(len(inputs), -1).astype(np.float32)


def _errors(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p - y [N, 10] under a head fitted by least squares, and what it is given [N, E + 1]."""
    inputs = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    head = np.linalg.lstsq(inputs, np.eye(10)[labels], rcond=1e-6)[0]
    logits = 4 * inputs @ head
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(10)[labels], inputs


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels.astype(np.float32) / 16, labels


def _features(path: Path, data: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Features [50000, 512] and labels of CIFAR-10, made once for a folder that is kept."""
    kept = path / "features.npz"
    if not kept.exists():
        import torch
        from torchvision.models import resnet18

        from tamis.store import Store
        from tamis.training.streaming.batches import Chosen, load_batches
        from tamis.training.streaming.lookup import Index

        store = Store.open_or_create(path / "store")
        dataset = store.datasets.add("data", sorted(Path(data or ".").glob("train-*.tar")))
        starts = range(0, dataset.samples, 500)
        groups = (np.arange(a, min(a + 500, dataset.samples)) for a in starts)
        torch.manual_seed(0)
        model = resnet18()  # in training mode: batch statistics stand in for those of a trained model
        model.fc = torch.nn.Identity()
        features, labels = list[np.ndarray](), list[np.ndarray]()
        with torch.no_grad():
            for loaded in load_batches(
                Index.open(store, dataset), (Chosen(g, np.ones(len(g), np.float32)) for g in groups)
            ):
                features.append(model((loaded.batch.images.float() / 255 - 0.5) / 0.25).numpy())
                labels.append(loaded.batch.labels.numpy())
        np.savez(kept, features=np.concatenate(features), labels=np.concatenate(labels))
    with np.load(kept) as found:
        return found["features"], found["labels"]


def _child(rows: Path, k: int, repeats: int, cords: str = "", spare: float = 0.0) -> dict[str, Any]:
    """A measurement in a process with one thread."""
    command = [sys.executable, __file__, str(rows), str(k), str(repeats), cords, str(spare)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    return json.loads(done.stdout)


def measure(path: str, k: int, repeats: int, cords: str, spare: float) -> dict[str, Any]:
    """CPU seconds, how many rows, E over ||b||^2 in float64, and the memory it took over the size of the data."""
    from tamis.curation.omp.solver import objective, pursue

    rows = np.load(path)
    target = rows.sum(0, dtype=np.float64)
    pursue(rows[:50], target, k=5)  # loads what is loaded on first use
    solve = _cords(cords, rows, target) if cords else lambda k: _pairs(pursue(rows, target, k=k, lam=LAM, spare=spare))
    before, seconds = _peak(), list[float]()
    chosen, weights = np.zeros(0, np.int64), np.zeros(0)
    for _ in range(repeats):
        started = time.process_time()
        chosen, weights = solve(k)
        seconds.append(time.process_time() - started)
    left = objective(rows, target, chosen, weights, LAM) / float(target @ target)
    return {"seconds": seconds, "chosen": len(chosen), "objective": left, "memory": (_peak() - before) / rows.nbytes}


def _pairs(found: Any) -> tuple[np.ndarray, np.ndarray]:
    return found.rows, found.weights


def _cords(folder: str, rows: np.ndarray, target: np.ndarray) -> Any:
    """CORDS' solver, from its own file."""
    import torch

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("omp_solvers", next(Path(folder).rglob("omp_solvers.py")))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    columns, b = torch.from_numpy(rows).T, torch.from_numpy(target.astype(np.float32))

    def solve(k: int) -> tuple[np.ndarray, np.ndarray]:
        found = module.OrthogonalMP_REG_Parallel(columns, b, tol=1e-100, nnz=k, positive=True, lam=LAM).numpy()
        chosen = np.flatnonzero(found)
        return chosen, found[chosen].astype(np.float64)

    return solve


def _peak() -> int:
    """Bytes that this process has held at most; its own, where ru_maxrss begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))))
