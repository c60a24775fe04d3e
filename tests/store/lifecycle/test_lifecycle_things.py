"""Datasets, runs and packages that are removed: what needs them, what is found afterwards, and stores of old."""

import shutil
import subprocess
import sys
from pathlib import Path

import packkit
import pytest
from lifekit import finished
from storekit import counts, publish, shard

from tamis.store import Store
from tamis.store.errors import (
    DatasetNotFound,
    NotFound,
    PackageNotFound,
    RestoreRefused,
    RunBusy,
    RunNotFound,
    StillNeeded,
)
from tamis.store.upkeep.verify import verify

FORMATS = Path(__file__).parents[2] / "formats"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def test_versions_of_a_dataset_go_from_the_last(store: Store, tmp_path: Path) -> None:
    files = [shard(tmp_path / f"{i}.tar", [f"s{i}-{j}" for j in range(3)]) for i in range(4)]
    for file in files[:3]:
        store.datasets.add("d", [file], append="d" in {row["dataset"] for row in store.datasets.all()})
    with pytest.raises(StillNeeded, match=r"d@2 has its shards; dataset d@3 has its shards"):
        store.datasets.remove("d@1")
    store.datasets.remove("d@3")
    assert (store.datasets.get("d").ref, counts(store)["samples"]) == ("d@2", 6)
    with pytest.raises(DatasetNotFound, match=r"d@3 was removed. `tamis dataset restore d@3`"):
        store.datasets.get("d@3")
    added = store.datasets.add("d", [files[3]], append=True)
    assert (added.ref, added.keys()[6:]) == ("d@4", ["s3-0", "s3-1", "s3-2"])
    assert store.query("select key from samples where sample = 6")["key"].to_pylist() == ["s3-0"]
    with pytest.raises(RestoreRefused, match="append the shards again"):
        store.datasets.restore("d@3")
    store.datasets.remove("d@4")
    assert store.datasets.restore("d@3") == ["d@3"]
    assert store.datasets.get("d").keys()[6:] == ["s2-0", "s2-1", "s2-2"]
    assert verify(store).problems == []


def test_moved_shards_of_a_removed_version_say_nothing_of_the_next(store: Store, tmp_path: Path) -> None:
    first, second, third = (shard(tmp_path / f"{i}.tar", [f"s{i}"]) for i in range(3))
    store.datasets.add("d", [first])
    store.datasets.add("d", [second], append=True)
    (tmp_path / "moved").mkdir()
    for file in (first, second):
        shutil.copy(file, tmp_path / "moved" / file.name)
    store.datasets.relocate("d", sorted((tmp_path / "moved").iterdir()))
    store.datasets.remove("d@2")
    made = store.datasets.add("d", [third], append=True)
    places = [str(tmp_path / "moved" / "0.tar"), str(third)]
    assert (
        [s.uri for s in made.shards] == [s.uri for s in Store.open(store.root.url).datasets.get("d").shards] == places
    )
    assert store.query("select uri from shards order by shard")["uri"].to_pylist() == places


def test_what_is_of_a_dataset_keeps_it(store: Store, tmp_path: Path) -> None:
    base = store.datasets.add("d", [shard(tmp_path / "d.tar", "abcde")])
    publish(store, base, "chosen")
    finished(store, "score1", base.ref)
    packkit.publish(store, dataset="d@1")
    said = store.datasets.removal("d").needed_by
    assert said == (
        "run score1 (score, finished) is of d@1", "selection chosen@1 chooses from d@1",
        "package trains@1 was trained on d@1",
    )  # fmt: skip
    store.packages.remove("trains")
    store.selections.remove("chosen")
    store.runs.remove("score1")
    store.datasets.remove("d")
    found = counts(store)
    assert {name: n for name, n in found.items() if n} == {"bases": 1}
    with pytest.raises(DatasetNotFound, match="removed meanwhile"):
        finished(store, "score2", base.ref)


def test_a_removed_run_is_found_by_a_part_of_its_key(store: Store) -> None:
    for key in ("aaaa1111", "aaaa2222", "bbbb1111"):
        finished(store, key, "d@1")
    store.runs.remove("aaaa1")
    store.runs.remove("bbbb")
    assert store.runs.get("aaaa").key == "aaaa2222"
    with pytest.raises(RunNotFound, match=r"bbbb1111 was removed. `tamis run restore bbbb1111`"):
        store.runs.get("bbbb1")
    assert [store.runs.restore("bbbb"), store.runs.restore("aaaa")] == [["bbbb1111"], ["aaaa1111"]]
    store.runs.remove("aaaa1111")
    store.runs.remove("aaaa2222")
    for part in ("aaaa", "aaa", ""):
        with pytest.raises(NotFound):
            store.runs.restore(part)


def test_a_run_is_begun_anew_after_it_was_removed(store: Store) -> None:
    finished(store, "aaaa1", "d@1")
    store.runs.put_losses("aaaa1", 0, [0, 1], [0.5, 0.5], 0)
    store.runs.remove("aaaa1")
    assert (store.runs.find("aaaa1"), counts(store)["scores"], counts(store)["losses"]) == (None, 0, 0)
    with pytest.raises(RunNotFound, match="tamis run restore aaaa1"):
        store.runs.get("aaaa1")
    assert store.runs.restore("aaaa1") == ["aaaa1"]
    assert (counts(store)["scores"], counts(store)["losses"]) == (5, 2)
    store.runs.remove("aaaa1")
    store.runs.begin(kind="score", key="aaaa1", dataset="d@1")
    assert (store.runs.get("aaaa1").status, counts(store)["losses"]) == ("running", 0)
    store.runs.put_scores("aaaa1", {"entropy": [9, 9]}, [0, 1])
    store.runs.finish("aaaa1")
    assert store.runs.scores("aaaa1", "entropy", 2).tolist() == [9, 9]
    assert counts(store)["scores"] == 2
    with pytest.raises(RestoreRefused, match="begun anew"):
        store.runs.restore("aaaa1")
    shutil.rmtree(Path(store.root.url) / "index" / "runs")
    fresh = Store.open(store.root.url)
    assert fresh.runs.scores("aaaa1", "entropy", 2).tolist() == [9, 9]
    fresh.runs.put_scores("aaaa1", {"entropy": [1, 1]}, [0, 1])  # there already
    assert counts(fresh)["scores"] == 2
    assert verify(fresh).problems == []


def test_packages_are_removed_and_renamed(store: Store) -> None:
    packkit.publish(store)
    packkit.publish(store, seed=1, branches=2)
    assert store.packages.rename("trains", "rails") == ["rails@1", "rails@2"]
    assert [one.name for one in store.packages.all()] == ["rails", "rails"]
    assert store.packages.get("trains@1").name == "rails"
    store.runs.begin(kind="mainstream", key="watch1", dataset="", config={"plan": [{"package": "rails@1"}]})
    store.runs.finish("watch1")
    with pytest.raises(StillNeeded, match=r"run watch1 \(mainstream, finished\) uses package rails"):
        store.packages.remove("rails@1")
    store.packages.remove("rails@2")
    with pytest.raises(PackageNotFound, match=r"rails@2 was removed"):
        store.packages.get("rails@2")
    assert store.packages.get("rails").version == 1
    again = packkit.publish(store, "rails", seed=1, branches=2)
    assert (again.created, again.package.version) == (True, 3)
    shown = store.query("select distinct package from candidates order by 1")["package"].to_pylist()
    assert shown == ["rails@1", "rails@3"]


@pytest.mark.parametrize("artefact", ["store-format-1", "store-format-2"])
def test_stores_of_old_can_remove(tmp_path: Path, artefact: str) -> None:
    shutil.unpack_archive(FORMATS / f"{artefact}.zip", tmp_path / "old")
    store = Store.open(tmp_path / "old")
    before, versions = counts(store), store.tables.versions()
    selections = store.selections.all()
    keys = {one.key for one in selections}
    for run in {*(one.key for one in store.runs.all())}:
        needed = store.runs.removal(run).needed_by
        assert all("was made from run" in one or "is being" in one for one in needed)
    removable = [one.ref for one in selections if not store.selections.removal(one.ref).needed_by]
    for ref in removable:
        store.selections.remove(ref)
    left = {one.ref for one in selections} - set(removable)
    assert {one.ref for one in store.selections.all()} == left
    past = store.query("select count(*) as n from selections", at=versions)["n"].to_pylist()
    assert past == [before["selections"]]
    for ref in removable:
        store.selections.restore(ref)
    assert counts(store) == before
    assert {store.selections.get(key).key for key in keys} == keys
    assert verify(store, shards=False).problems == []


BUSY = """
import sys
from tamis.store import Store
Store.open(sys.argv[1]).runs.begin(kind="train", key="busy1", dataset="d@1")
print("begun", flush=True)
sys.stdin.read()
"""


def test_a_run_whose_process_lives_stays(store: Store) -> None:
    command = [sys.executable, "-c", BUSY, store.root.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        with pytest.raises(RunBusy, match="busy1 is being written by"):
            store.runs.remove("busy1")
        child.kill()
    assert store.runs.remove("busy1").removes == ("busy1",)
    with pytest.raises(RunNotFound, match="removed"):
        store.runs.finish("busy1")
    assert counts(store)["runs"] == 0
