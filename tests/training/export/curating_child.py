"""A process that writes curated shards: python curating_child.py STORE SELECTION DESTINATION WORKERS [CALLS | full]

With CALLS it kills itself with SIGKILL once so many of its writes have come back. With `full` no file may grow beyond
20 kB at first; exits 0 when that is reported as a full medium, and the same call goes through once there is room.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tamis.store import Store
from tamis.store.errors import StoreFull
from tamis.store.roots.roots import Root
from tamis.training.export.manifest import Curated
from tamis.training.export.materialize import materialize

SIZE = 300_000


def kill_after(calls: int) -> None:
    """Fault injection: the real calls happen, and then the process is gone."""
    left = calls

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*args)

        return call

    Root.put, Root.put_new, Root.delete = dying(Root.put), dying(Root.put_new), dying(Root.delete)


def on_full_medium(work: Callable[[], Curated]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    with pytest.raises(StoreFull, match="run the same command again"):
        work()
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not work().cached
    assert work().cached


if __name__ == "__main__":
    where, name, destination, workers, *how = sys.argv[1:]
    store = Store.open(where)

    def work() -> Curated:
        return materialize(store, store.selections.get(name), destination, shard_size=SIZE, workers=int(workers))

    if how == ["full"]:
        on_full_medium(work)
    else:
        if how:
            kill_after(int(how[0]))
        work()
