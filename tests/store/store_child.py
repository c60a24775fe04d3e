"""Programs that the tests start and kill, or start several of: python store_child.py WORK STORE SHARD [CALLS]

With CALLS the process kills itself with SIGKILL once so many of its writes have come back: 0 is before the first.
A write is a commit to a table (append or replace), the making of a table, or a file put where none was.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from storekit import publish

from tamis.store import Store
from tamis.store.roots import Root
from tamis.store.tables import Tables

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


def blob(path: str | Path, shard: Path) -> None:
    Store.open(path).blobs.put(b"weights" * 1000)


WORK = {f.__name__: f for f in (create, add, append, select, alias, score, finish, lose, blob)}


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

    Tables.append, Tables.replace, Root.put_new = dying(Tables.append), dying(Tables.replace), dying(Root.put_new)
    import tamis.store.tables

    class Dying(tamis.store.tables.DeltaTable):
        create = staticmethod(dying(tamis.store.tables.DeltaTable.create))

    tamis.store.tables.DeltaTable = Dying


if __name__ == "__main__":
    work, path, shard = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if len(sys.argv) > 4:
        kill_after(int(sys.argv[4]))
    WORK[work](path, shard)
