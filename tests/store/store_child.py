"""Programs that the tests start and kill: python store_child.py WORK SHARD STORE...

Each store is worked on by a process of its own, which kills itself with SIGKILL once so many of its writes have come
back as there were stores before: 0 is before the first; "-" is none, and only counts. A write is a file
that gets its name or loses it (a data file, a commit, an entry of an index, a mark, a blob), or the making of a table.
"""

import contextlib
import datetime as dt
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable
from storekit import publish

from tamis.store import Store
from tamis.store.errors import NotFound, SelectionNotFound
from tamis.store.roots.roots import Root
from tamis.store.tables import datafiles, preparing
from tamis.store.upkeep import collect as upkeep

RUN = "f00d" + "0" * 28


def create(path: str | Path, shard: Path) -> None:
    Store.create(path)


def add(path: str | Path, shard: Path) -> None:
    Store.open(path).datasets.add("more", [shard])


def append(path: str | Path, shard: Path) -> None:
    Store.open(path).datasets.add("base", [shard], append=True)


def select(path: str | Path, shard: Path) -> None:
    store = Store.open(path)
    publish(store, store.datasets.get("base@1"), "new", seed=7)


def alias(path: str | Path, shard: Path) -> None:
    store = Store.open(path)
    publish(store, store.datasets.get("base@1"), "second")


def score(path: str | Path, shard: Path) -> None:
    Store.open(path).runs.put_scores(RUN, {"entropy": np.arange(5) / 4}, np.arange(5))


def finish(path: str | Path, shard: Path) -> None:
    store = Store.open(path)
    store.runs.put_scores(RUN, {"entropy": np.arange(5) / 4}, np.arange(5))
    store.runs.finish(RUN, metrics={"accuracy": 0.5})


def lose(path: str | Path, shard: Path) -> None:
    store = Store.open(path)
    for epoch in (0, 1):
        store.runs.put_losses(RUN, epoch, np.arange(5), np.full(5, 0.5 + epoch), epoch)


def watch(path: str | Path, shard: Path) -> None:
    """Two parts of what an application saw: five looks and an event each."""
    store = Store.open(path)
    for part in range(2):
        same = {"application": "a", "package": "p@1", "score": 0.5}
        looks = [same | {"frame": i, "seconds": i / 10, "hit": True, "ms": 1.0} for i in range(5 * part, 5 * part + 5)]
        store.runs.add_looks(RUN, "camera", looks)
        seen = {"begins": part / 2, "ends": part / 2 + 0.4, "reported": part / 2, "votes": 1, "hits": 5, "looks": 5}
        store.runs.add_events(RUN, "camera", [same | seen])


def blob(path: str | Path, shard: Path) -> None:
    Store.open(path).blobs.put(b"weights" * 1000)


def remove(path: str | Path, shard: Path) -> None:
    with contextlib.suppress(SelectionNotFound):  # done before
        Store.open(path).selections.remove("some")


def rename(path: str | Path, shard: Path) -> None:
    with contextlib.suppress(NotFound):
        Store.open(path).selections.rename("some", "new")


def collect(path: str | Path, shard: Path) -> None:
    upkeep.collect(Store.open(path), keep=dt.timedelta(0))


_ALL = (create, add, append, select, alias, score, finish, lose, watch, blob, remove, rename, collect)
WORK = {f.__name__: f for f in _ALL}


def kill_after(calls: int) -> None:
    """Fault injection: the real calls happen, and then the process is gone."""
    left = calls

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(*args, **more)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    Root.put, Root.put_new, Root.delete = dying(Root.put), dying(Root.put_new), dying(Root.delete)
    datafiles._keep = dying(datafiles._keep)
    preparing.DeltaTable = type("Dying", (DeltaTable,), {"create": staticmethod(dying(DeltaTable.create))})


def in_turn(work: str, shard: Path, paths: list[str]) -> None:
    """Do the work on the first store and die at once, on the second after one write, ...; prints how each ended."""
    for calls, path in enumerate(paths):
        if path == "-":
            continue
        child = os.fork()  # nothing has started a thread yet: this process has only imported
        if child == 0:
            kill_after(calls)
            WORK[work](path, shard)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    in_turn(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
