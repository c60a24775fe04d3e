"""kill -9 at every stage of every write: nothing half-done is ever seen, and saying it again finishes it."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_child import RUN, WORK
from storekit import counts, publish, shard, visible

from tamis.store import Store
from tamis.store.errors import StoreNotFound

CHILD = Path(__file__).with_name("store_child.py")
# Work, how many writes it is made of, and what it makes visible.
WRITES = {
    "add": (3, {"datasets": 1, "shards": 1, "samples": 3}),
    "append": (3, {"datasets": 1, "shards": 1, "samples": 3}),
    "select": (3, {"selections": 1, "selection_rounds": 1, "selection_samples": 3}),
    "alias": (1, {"selections": 1}),
    "score": (1, {}),
    "finish": (2, {"scores": 5}),
    "blob": (1, {}),
}
MOMENTS = [(work, calls) for work, (writes, _) in WRITES.items() for calls in range(writes + 1)]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds a dataset, a selection and a run under way, and a shard beside it."""
    folder = tmp_path_factory.mktemp("ready")
    store = Store.create(folder / "store")
    base = store.datasets.add("base", [shard(folder / "base.tar", "abcde")])
    publish(store, base)
    store.runs.begin(kind="train", key=RUN, dataset=base.ref)
    shard(folder / "more.tar", "xyz")
    return folder


@pytest.fixture
def place(ready: Path, tmp_path: Path) -> Path:
    return shutil.copytree(ready / "store", tmp_path / "store")


def start(work: str, path: Path, more: Path, *calls: int) -> int:
    command = [sys.executable, str(CHILD), work, str(path), str(more), *map(str, calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize(("work", "calls"), MOMENTS)
def test_killed_after_so_many_writes(ready: Path, place: Path, work: str, calls: int) -> None:
    store, (writes, made) = Store.open(place), WRITES[work]
    before, full = counts(store), visible(store)
    after = {name: n + made.get(name, 0) for name, n in before.items()}
    assert start(work, place, ready / "more.tar", calls) == -signal.SIGKILL
    if calls < writes:
        assert visible(store) == full
        assert [s.ref for s in store.selections.all()] == ["some@1"]
        assert (store.datasets.get("base").samples, store.runs.find(RUN)) == (5, None)
    else:
        assert counts(store) == after
    WORK[work](place, ready / "more.tar")
    assert counts(store) == after
    once = visible(store)
    WORK[work](place, ready / "more.tar")
    assert visible(store) == once
    if work == "finish":
        assert store.runs.scores(RUN, "entropy", 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    if work == "blob":
        assert len([name for name, _ in store.root.list("blobs")]) == 1


@pytest.mark.parametrize("calls", range(3))
def test_killed_while_losses_are_put(ready: Path, place: Path, calls: int) -> None:
    """Losses are seen epoch by epoch, each epoch whole."""
    store = Store.open(place)
    assert start("lose", place, ready / "more.tar", calls) == -signal.SIGKILL
    assert counts(store)["losses"] == 5 * calls
    for _ in range(2):
        WORK["lose"](place, ready / "more.tar")
        rows = store.query(
            "select epoch, count(*) as n, min(loss) as low, max(loss) as high from losses group by epoch"
        )
        assert sorted(tuple(row.values()) for row in rows.to_pylist()) == [(0, 5, 0.5, 0.5), (1, 5, 1.5, 1.5)]


@pytest.mark.parametrize("calls", [0, 1, 4, 9, 10])
def test_killed_while_a_store_is_made(tmp_path: Path, calls: int) -> None:
    path = tmp_path / "store"
    assert start("create", path, tmp_path, calls) == -signal.SIGKILL
    if calls < 10:
        with pytest.raises(StoreNotFound, match=r"Make one with"):
            Store.open(path)
    store = Store.open_or_create(path)
    publish(store, store.datasets.add("d", [shard(tmp_path / "a.tar", "abc")]))
    assert counts(store)["selection_samples"] == 3


def test_killed_at_any_moment(ready: Path, place: Path) -> None:
    """A publisher is killed again and again, wherever it happens to be."""
    store, rng = Store.open(place), random.Random(0)
    program = (
        "import sys; from pathlib import Path; from store_child import WORK, publish, Store\n"
        "store = Store.open(sys.argv[1]); base = store.datasets.get('base'); print('ready', flush=True)\n"
        "[publish(store, base, 'many', seed=seed) for seed in range(1, 100)]"
    )
    for _ in range(6):
        command = [sys.executable, "-c", program, str(place)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHILD.parent)
        assert child.stdout is not None
        with child, child.stdout:
            child.stdout.readline()
            time.sleep(rng.uniform(0, 0.15))
            child.kill()
        there = store.selections.all()
        many = [s for s in there if s.name == "many"]
        assert [s.version for s in many] == list(range(1, len(many) + 1))
        assert [s.seed for s in many] == list(range(1, len(many) + 1))
        assert all(s.round_at(0)[0].tolist() == [2, 0, 1] for s in many)
        assert counts(store)["selection_samples"] == 3 * len(there)
        assert counts(store)["selection_rounds"] == len(there)
    base = store.datasets.get("base")
    for seed in range(1, len(many) + 3):
        publish(store, base, "many", seed=seed)
    assert [s.seed for s in store.selections.all() if s.name == "many"] == list(range(1, len(many) + 3))
