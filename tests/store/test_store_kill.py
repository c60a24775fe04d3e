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
from tamis.store.tables.specs import TABLES

CHILD = Path(__file__).with_name("store_child.py")
# What each kind of work makes visible.
MADE = {
    "add": {"datasets": 1, "shards": 1, "samples": 3},
    "append": {"datasets": 1, "shards": 1, "samples": 3},
    "select": {"selections": 1, "selection_rounds": 1, "selection_samples": 3},
    "alias": {"selections": 1},
    "score": {},
    "finish": {"scores": 5},
    "blob": {},
    "lose": {"losses": 10},
}
WATCHED = WORK["watch"]
MOMENTS = 20  # more than any of them has writes


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


def killed(work: str, more: Path, places: list[Path]) -> list[bool]:
    """Work on each place, dying one write later on each; which of the processes were killed."""
    command = [sys.executable, str(CHILD), work, str(more), *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) == len(places), done.stderr
    assert set(codes) <= {0, -signal.SIGKILL}, done.stderr
    return [code != 0 for code in codes]


@pytest.mark.parametrize("work", MADE)
def test_killed_after_so_many_writes(ready: Path, tmp_path: Path, work: str) -> None:
    before = counts(Store.open(ready / "store"))
    after = {name: n + MADE[work].get(name, 0) for name, n in before.items()}
    places = [shutil.copytree(ready / "store", tmp_path / str(i)) for i in range(MOMENTS)]
    died = killed(work, ready / "more.tar", places)
    assert (died[0], died[-1]) == (True, False)
    assert died == sorted(died, reverse=True)
    seen = []
    for place in places[: died.index(False) + 1]:
        store = Store.open(place)
        found = counts(store)
        steps = [before, before | {"losses": 5}, after] if work == "lose" else [before, after]  # epoch by epoch
        seen.append(steps.index(found))
        if found == before and work not in ("score", "blob"):
            assert visible(store) == visible(Store.open(ready / "store"))
            assert [s.ref for s in store.selections.all()] == ["some@1"]
            assert (store.datasets.get("base").samples, store.runs.find(RUN)) == (5, None)
        for _ in range(2 if found == after else 1):
            WORK[work](place, ready / "more.tar")
            assert counts(store) == after
        if work == "finish":
            assert store.runs.scores(RUN, "entropy", 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
        if work == "blob":
            assert len([name for name, _ in store.root.list("blobs")]) == 1
        if work == "lose":
            rows = store.query(
                "select epoch, min(loss) as low, max(loss) as high from losses group by epoch order by 1"
            )
            assert [tuple(row.values()) for row in rows.to_pylist()] == [(0, 0.5, 0.5), (1, 1.5, 1.5)]
    assert seen == sorted(seen)
    assert not died[-1]


def test_what_a_killed_run_of_applications_saw_stays(ready: Path, tmp_path: Path) -> None:
    """Part by part, each whole, looks before the events in them; and the run may go on."""
    before = counts(Store.open(ready / "store"))
    places = [shutil.copytree(ready / "store", tmp_path / str(i)) for i in range(12)]
    died = killed("watch", ready / "more.tar", places)
    assert (died[0], died[-1]) == (True, False)
    seen = []
    for place in places[: died.index(False) + 1]:
        store = Store.open(place)
        found = counts(store)
        seen.append((found.pop("looks"), found.pop("events")))
        assert found == {name: n for name, n in before.items() if name not in ("looks", "events")}
        WATCHED(place, ready / "more.tar")
        assert counts(store)["looks"] == seen[-1][0] + 10
    assert sorted(set(seen)) == [(0, 0), (5, 0), (5, 1), (10, 1), (10, 2)]
    assert seen == sorted(seen)


def test_killed_while_a_store_is_made(tmp_path: Path) -> None:
    places = [tmp_path / str(i) for i in range(2 * len(TABLES) + 4)]  # each table is made, and said to be made
    died = killed("create", tmp_path, places)
    assert died[0]
    assert not died[-1]
    for path, dead in zip(places, died, strict=True):
        if dead and not (path / "tamis.json").exists():
            with pytest.raises(StoreNotFound, match=r"Create one with"):
                Store.open(path)
        store = Store.open_or_create(path)
        shard(path / "a.tar", "abc")
        publish(store, store.datasets.add("d", [path / "a.tar"]))
        assert counts(store)["selection_samples"] == 3


def test_killed_at_any_moment(ready: Path, tmp_path: Path) -> None:
    """A publisher is killed again and again, wherever it happens to be."""
    place = shutil.copytree(ready / "store", tmp_path / "store")
    store, rng = Store.open(place), random.Random(0)
    program = (
        "import sys; from pathlib import Path; from store_child import WORK, publish, Store\n"
        "store = Store.open(sys.argv[1]); base = store.datasets.get('base'); print('ready', flush=True)\n"
        "[publish(store, base, 'many', seed=seed) for seed in range(1, 100)]"
    )
    for _ in range(12):
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
