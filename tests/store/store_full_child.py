"""What a full medium does to a store: python store_full_child.py FOLDER tmpfs|rlimit. Exits 0 when all holds.

With `tmpfs` the FOLDER lies on a small file system of its own, which is filled to the last byte; with `rlimit` no file
may grow beyond 64 KiB.
"""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from storekit import publish, samples, visible, write_tar

from tamis.store import Store
from tamis.store.datasets.packing import pack_samples
from tamis.store.errors import StoreFull

RUN = "f00d" + "0" * 28
COUNT = 20_000


def fill(folder: Path) -> Callable[[], None]:
    """Take all the room there is; returns what gives it back."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(block))
            except OSError:
                continue
    return ballast.unlink


def limit(folder: Path) -> Callable[[], None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refused(what: str, work: Callable[[], object]) -> None:
    with pytest.raises(
        StoreFull, match=r"No space left while writing to .*Free some space and run the same command"
    ) as caught:
        pytest.fail(f"{what} went through on a full medium: {work()}")
    assert isinstance(caught.value, OSError)


def main(folder: Path, take: Callable[[Path], Callable[[], None]]) -> None:
    store = Store.create(folder / "store")
    base = store.datasets.add("base", [write_tar(folder / "base.tar", samples(f"{i:05d}" for i in range(COUNT // 10)))])
    publish(store, base)
    store.runs.begin(kind="score", key=RUN, dataset=base.ref)
    more = write_tar(folder / "more.tar", samples(f"more{i:05d}" for i in range(COUNT // 10)))
    random = np.random.default_rng(0)
    values, numbers = random.random(COUNT), np.arange(COUNT)
    chosen = random.permutation(base.samples)
    writes: dict[str, Callable[[], object]] = {
        "scores": lambda: store.runs.put_scores(RUN, {"entropy": values}, numbers),
        "losses": lambda: store.runs.put_losses(RUN, 0, numbers, values, 0),
        "blob": lambda: store.blobs.put(values.tobytes()),
        "file": lambda: store.root.put("parts/a", values.tobytes()),
        "packing": lambda: pack_samples([("a", {"png": values.tobytes()})], folder / "out"),
    }
    small: dict[str, Callable[[], object]] = {
        "selection": lambda: publish(store, base, "new", seed=1, chosen=chosen),
        "second name": lambda: publish(store, base, "second"),
        "dataset": lambda: store.datasets.add("more", [more]),
        "append": lambda: store.datasets.add("base", [more], append=True),
        "run": lambda: store.runs.finish(RUN),
        "store": lambda: Store.create(folder / "another"),
    }
    if take is fill:
        writes |= small
    before = visible(store)
    give_back = take(folder)
    for what, work in writes.items():
        refused(what, work)
        assert visible(store) == before, what
    assert not list(folder.glob("*.tmp"))
    give_back()
    for work in writes.values():
        work()
    store.runs.finish(RUN)
    assert store.runs.scores(RUN, "entropy", COUNT).tolist() == values.tolist()
    assert store.blobs.get(store.blobs.put(values.tobytes())) == values.tobytes()
    if take is fill:
        assert (store.datasets.get("base").ref, store.datasets.get("more").samples) == ("base@2", COUNT // 10)
        assert [s.ref for s in store.selections.all()] == ["new@1", "second@1", "some@1"]
        assert np.array_equal(store.selections.get("new").round_at(0)[0], chosen)
        Store.open(folder / "another")


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"tmpfs": fill, "rlimit": limit}[sys.argv[2]])
