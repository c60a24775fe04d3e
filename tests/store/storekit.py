"""What the store's tests share: tars written byte by byte, publications in one line, and all that is visible."""

import io
import multiprocessing
import tarfile
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Published, Request, RoundData
from tamis.store.tables.tables import TABLES

Members = Iterable[tuple[str, bytes]]
Work = Callable[[Path, int], None]

# Older releases read no statement that writes inside of WITH: that is an error of theirs, and nothing is written.
WRITES_IN_CTE = pytest.mark.skipif(int(duckdb.__version__.split(".")[0]) < 2, reason="not in DuckDB 1")


def write_tar(path: Path, members: Members, kind: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar with these (name, content) members, in order."""
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(keys: Iterable[str], label: int = 1) -> list[tuple[str, bytes]]:
    """Members of small samples: KEY.png (any bytes: the store reads none) and KEY.cls."""
    return [m for key in keys for m in ((f"{key}.png", f"image {key}".encode()), (f"{key}.cls", b"%d" % label))]


def shard(path: Path, keys: Iterable[str]) -> Path:
    """A good shard with these keys."""
    return write_tar(path, samples(keys))


def publish(
    store: Store, dataset: Dataset, name: str = "some", *, seed: int = 0, chosen: Sequence[int] = (2, 0, 1), **more: Any
) -> Published:
    """Publish a selection whose key depends on the dataset and the seed."""
    request = Request(dataset, "random", 1, {"k": 3}, seed=seed)
    return store.selections.publish(request, name, more.pop("rounds", [RoundData(chosen)]), seconds=0.5, **more)


def visible(store: Store) -> list[tuple[str, str]]:
    """Every row of every view, sorted."""
    each = (f"select '{name}' as view, to_json(x)::varchar as row from {name} as x" for name in TABLES)
    rows = store.query(" union all ".join(each))
    return sorted(zip(rows["view"].to_pylist(), rows["row"].to_pylist(), strict=True))


def counts(store: Store) -> dict[str, int]:
    """How many rows each view shows."""
    each = ", ".join(f"(select count(*) from {name}) as {name}" for name in TABLES)
    return store.query(f"select {each}").to_pylist()[0]


def child(work: Work, path: Path, number: int, barrier: Barrier) -> None:
    barrier.wait()
    work(path, number)


def together(work: Work, path: Path, count: int) -> None:
    """Run work(path, 0), work(path, 1), ... in processes of their own that begin at one moment."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    processes = [context.Process(target=child, args=(work, path, i, barrier)) for i in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0] * count
