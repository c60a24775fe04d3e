"""`tamis gc` after removals: what is freed and when, what is written anew, rules, and collectors that are killed."""

import datetime as dt
import itertools
import random
import shutil
from pathlib import Path

import pytest
from lifekit import age, finished
from storekit import counts, publish, shard, visible

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RestoreRefused
from tamis.store.upkeep.collect import collect
from tamis.store.upkeep.retention import Rule, retire
from tamis.store.upkeep.verify import verify

NOW = dt.timedelta(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Dataset:
    return store.datasets.add("base", [shard(tmp_path / "base.tar", "abcde")])


def test_removed_is_freed_once_it_is_old_and_not_before(store: Store, base: Dataset) -> None:
    publish(store, base)
    kept = publish(store, base, "kept", seed=1).selection
    finished(store, "aaaa1", base.ref)
    store.runs.begin(kind="train", key="aaaa2", dataset=base.ref)
    store.runs.put_losses("aaaa2", 0, range(5), [1.0] * 5, 0)
    store.runs.finish("aaaa2", model=store.blobs.put(b"weights"))
    store.root.put("checkpoints/aaaa2/1.pt", b"state")
    for remove in (store.selections.remove, store.runs.remove):
        remove("some" if remove == store.selections.remove else "aaaa1")
    store.runs.remove("aaaa2")
    age(store)
    assert [one for one in collect(store) if one.why == "removed"] == []  # within 30 days
    assert store.selections.restore("some") == ["some@1"]
    store.selections.remove("some")
    said = collect(store, keep=NOW, dry_run=True)
    assert store.runs.restore("aaaa1") == ["aaaa1"]
    store.runs.remove("aaaa1")
    found = [one for one in collect(store, keep=NOW) if one.why == "removed" or one.name.startswith("blobs/")]
    assert [one for one in said if one.why == "removed" or one.name.startswith("blobs/")] == found
    tables = [one.name.split("/")[1 if one.name.startswith("tables/") else 0] for one in found]
    assert sorted(tables) == ["blobs", "checkpoints", "losses", "scores", "selection_rounds", "selection_samples"]
    for catalog, ref in ((store.selections, "some"), (store.runs, "aaaa1"), (store.runs, "aaaa2")):
        with pytest.raises(RestoreRefused, match="freed"):
            catalog.restore(ref)
    assert kept.read_rounds()[0][0].tolist() == [2, 0, 1]
    assert verify(store).problems == []
    assert publish(store, base).selection.ref == "some@2"
    finished(store, "aaaa1", base.ref)
    assert (counts(store)["scores"], verify(store).problems) == (5, [])


def test_files_shared_with_what_stays_are_written_anew(store: Store, base: Dataset) -> None:
    for seed in range(40):  # the 32nd merges
        publish(store, base, seed=seed)
    for version in (3, 5):
        store.selections.remove(f"some@{version}")
    assert store.selections.removal("some@4").shared == 2  # samples and rounds
    before = visible(store)
    age(store)
    collect(store, keep=NOW)
    attempts = store.tables.read("selection_samples", None, ["attempt"])["attempt"].to_pylist()
    assert (len(attempts), len(set(attempts)), visible(store)) == (3 * 38, 38, before)
    assert verify(store).problems == []
    assert all(len(one.read_rounds()[0][0]) == 3 for one in store.selections.all())


def test_rules_keep_the_newest_and_what_is_needed(store: Store, base: Dataset) -> None:
    keys = [publish(store, base, seed=seed).selection.key for seed in range(6)]
    publish(store, base, "single", seed=9)
    store.runs.begin(kind="train", key="aaaa1", dataset=base.ref, selection=keys[1])
    store.runs.finish("aaaa1")
    rule = Rule(versions=2)
    said = retire(store, rule, dry_run=True)
    assert [(one.ref, one.needed_by is None) for one in said] == [
        ("some@1", True), ("some@2", False), ("some@3", True), ("some@4", True),
    ]  # fmt: skip
    assert len(store.selections.all()) == 7
    assert retire(store, Rule(versions=2, older=dt.timedelta(days=1))) == []
    assert retire(store, rule) == said
    assert [one.ref for one in store.selections.all()] == ["single@1", "some@2", "some@5", "some@6"]
    assert [one.ref for one in retire(store, rule) if one.needed_by is None] == []
    assert store.selections.restore("some") == ["some@1", "some@3", "some@4"]


def test_rules_over_runs_spare_those_under_way(store: Store, base: Dataset) -> None:
    for i in range(3):
        finished(store, f"aaaa{i}", base.ref)
    store.runs.begin(kind="score", key="bbbb1", dataset=base.ref)
    assert [one.ref for one in retire(store, Rule(), ("runs",))] == ["aaaa0", "aaaa1"]
    assert [one.key for one in store.runs.all()] == ["aaaa2", "bbbb1"]


def test_a_walk_at_random_is_what_a_model_says(store: Store, base: Dataset) -> None:
    """Publishing, removing, restoring, renaming, collecting: after each step the store has what the model has."""
    draw = random.Random(20261126)
    names = {"a": "a", "b": "b"}  # first name -> what it is called
    there: dict[tuple[str, int], int] = {}  # (first name, version) -> seed
    gone: dict[tuple[str, int], int] = {}
    last, fresh, shown = dict.fromkeys(names, 0), itertools.count(), list[tuple[str, int, int]]()
    for _ in range(40):
        thing = draw.choice(sorted(names))
        step = draw.choice(["publish", "publish", "publish", "remove", "remove", "restore", "rename", "gc"])
        mine = [one for one in there if one[0] == thing]
        if step == "publish":
            seed = draw.randrange(8)
            made = publish(store, base, names[thing], seed=seed)
            same = [one for one in mine if there[one] == seed]
            assert made.created == (not same)
            if not same:
                last[thing] += 1
                there[thing, last[thing]] = seed
        elif step == "remove" and mine:
            one = draw.choice(mine)
            store.selections.remove(f"{names[thing]}@{one[1]}")
            gone[one] = there.pop(one)
        elif step == "restore" and gone:
            one = draw.choice(sorted(gone))
            alive = gone[one] in there.values()
            try:
                store.selections.restore(f"{names[one[0]]}@{one[1]}")
                there[one] = gone.pop(one)
            except RestoreRefused:
                assert alive
        elif step == "rename" and mine:
            new = f"{thing}{next(fresh)}"
            store.selections.rename(names[thing], new)
            names[thing] = new
        elif step == "gc":
            age(store)
            collect(store, keep=dt.timedelta(days=1))
        shown = sorted((names[name], version, seed) for (name, version), seed in there.items())
        assert [(one.name, one.version, one.seed) for one in store.selections.all()] == shown
    for (name, version), seed in there.items():
        assert store.selections.get(f"{names[name]}@{version}").seed == seed
    assert counts(store)["selection_samples"] == 3 * len(set(there.values()))
    shutil.rmtree(Path(store.root.url) / "index" / "selections")
    again = Store.open(store.root.url)
    assert [(one.name, one.version, one.seed) for one in again.selections.all()] == shown
    assert verify(again).problems == []
