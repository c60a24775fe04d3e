"""kill -9 in removing, renaming and collecting: all or nothing is seen, and saying it again finishes it."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifekit import age
from store_child import WORK
from storekit import publish, shard, visible

from tamis.store import Store
from tamis.store.upkeep.verify import verify

CHILD = Path(__file__).parents[1] / "store_child.py"
AFTER = {"remove": ["kept"], "rename": ["kept", "new"], "collect": ["kept"]}
MOMENTS = (0, 1, 3, 6, 30)  # writes until it dies; none has 30


@pytest.mark.parametrize(
    "work", ["remove", *(pytest.param(work, marks=pytest.mark.nightly) for work in ("rename", "collect"))]
)
def test_killed_after_so_many_writes(tmp_path: Path, work: str) -> None:
    store = Store.create(tmp_path / "ready")
    base = store.datasets.add("base", [shard(tmp_path / "base.tar", "abcde")])
    publish(store, base)
    publish(store, base, "kept", seed=1)
    if work == "collect":
        store.selections.remove("some")
        age(store)
    before = visible(store)
    places = {i: tmp_path / str(i) for i in MOMENTS}
    for place in places.values():
        shutil.copytree(tmp_path / "ready", place)
    asked = [str(places.get(i, "-")) for i in range(max(MOMENTS) + 1)]
    command = [sys.executable, str(CHILD), work, str(tmp_path / "base.tar"), *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    codes = [int(line) for line in done.stdout.split()]
    assert set(codes) == {0, -signal.SIGKILL}, done.stderr
    assert (codes[0], codes[-1]) == (-signal.SIGKILL, 0)
    for place in places.values():
        store = Store.open(place)
        names = [one.name for one in store.selections.all()]
        assert names in (["kept", "some"], AFTER[work])
        assert (visible(store) == before) == (names != AFTER[work] or work == "collect")
        WORK[work](place, tmp_path / "base.tar")
        assert [one.name for one in store.selections.all()] == AFTER[work]
        assert verify(store, shards=False).problems == []
        assert [one.read_rounds()[0][0].tolist() for one in store.selections.all()] == [[2, 0, 1]] * len(AFTER[work])
