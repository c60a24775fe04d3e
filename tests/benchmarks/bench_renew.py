"""A nightly renewal over ten thousand shards that are scored already: one that finds nothing new, and one new shard.

Shards have two digits each: what is measured is what their number costs. Whole commands in processes of their own,
without a server; their CPU time, so that a busy machine counts as little as can be, and beside it the wall clock's. The
limit is the same command on a store of a few shards.
"""

import json
import os
import subprocess
import sys
import time
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from benchlib import Result, cpu_seconds, folder

from tamis.store import Store
from tamis.store.datasets.packing import digit_samples, pack_samples

_MODELS = Path(__file__).parents[1]  # where tiny_model lies
_FILLED = "config.json"  # written last
_NEW = count(1)
Seconds = tuple[float, float]  # of CPU time, and on the clock


def run(quick: bool, data: Path | None) -> list[Result]:
    shards = 4 if quick else 10_000
    with folder(f"renew-{shards}") as path, folder() as other:
        many = _measured(path, shards)
        few = many if quick else _measured(other, 4)
    results: list[Result] = []
    for name, ours, least in zip(("nothing new", "one new shard"), many, few, strict=True):
        note = f"{shards:,} scored shards, two selections, the whole command; {ours[1]:.1f} s on the clock"
        results.append(Result(f"renew, {name}, CPU", round(ours[0], 2), "s", target=15, note=note))
        results.append(Result("  against few shards", round(ours[0], 2), "s", "4 shards", round(least[0], 2)))
    return results


def _measured(path: Path, shards: int) -> tuple[Seconds, Seconds]:
    """What a renewal takes that finds nothing, and one with a new shard."""
    if not (path / _FILLED).exists():
        _fill(path, shards)
    _renew(path)  # what is not scored yet
    idle, said = _renew(path)
    assert said["nothing_new"]
    _shards(path, f"later-{time.time_ns()}-{next(_NEW)}", 1)
    one, said = _renew(path)
    assert (said["fresh"], said["passes"][0]["parts_computed"]) == (1, 1)
    return idle, one


def _fill(path: Path, shards: int) -> None:
    paths = _shards(path, "grown", shards)
    Store.create(path / "store").datasets.add("grown", paths)
    config = {
        "dataset": "grown",
        "shards": [str(path / "shards")],
        "proxies": [{"model": "tiny_model:linear", "epochs": 1, "augment": "none"}],
        "selections": [{"measure": "entropy", "budget": "40%"}, {"method": "random", "budget": "10%"}],
    }
    (path / _FILLED).write_text(json.dumps(config))


def _shards(path: Path, name: str, shards: int) -> list[Path]:
    digits = islice(cycle(digit_samples()), 2 * shards)
    samples = ((f"{name}-{i:06d}", members) for i, (_, members) in enumerate(digits))
    return pack_samples(samples, path / "shards" / name, per_shard=2)


def _renew(path: Path) -> tuple[Seconds, dict[str, Any]]:
    words = ("--store", path / "store", "dataset", "renew", "--config", path / _FILLED, "--json")
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    given = [sys.executable, "-m", "tamis.flows.cli", *map(str, words)]
    began, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run(given, cwd=_MODELS, env=environment, check=True, capture_output=True, text=True)
    return (cpu_seconds() - used, time.perf_counter() - began), json.loads(done.stdout)
