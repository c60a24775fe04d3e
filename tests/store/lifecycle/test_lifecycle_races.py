"""Removers against those who publish at the same moment, in processes of their own."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from lifekit import remove_or_need, remove_or_publish
from storekit import counts, publish, shard, together

from tamis.store import Store
from tamis.store.upkeep.verify import verify


def test_nothing_is_ever_published_of_what_was_removed(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    for turn in range(20):
        store.datasets.add(f"d{turn}", [shard(tmp_path / f"{turn}.tar", [f"{turn}-{i}" for i in range(5)])])
    together(remove_or_need, tmp_path / "store", 3)
    there = {str(row["dataset"]) for row in store.datasets.all()}
    of = Counter(one.dataset.partition("@")[0] for one in store.selections.all())
    assert set(of) <= there
    for turn in range(20):
        said = [(tmp_path / f"{turn}-{i}.txt").read_text() for i in range(3)]
        removed = said[0] == "done"
        assert removed == (f"d{turn}" not in there)
        assert set(said[1:]) <= ({"gone"} if removed else {"done"}), said
        assert of[f"d{turn}"] == said[1:].count("done")
    assert counts(store)["selection_samples"] == 3 * sum(of.values())
    assert verify(store).problems == []


@pytest.mark.nightly
def test_removers_and_publishers_of_one_name(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    dataset = store.datasets.add("base", [shard(tmp_path / "base.tar", "abcde")])
    together(remove_or_publish, tmp_path / "store", 3)
    newest, life = store.tables.last_of("selections", "n")
    there = store.selections.all()
    assert [one.version for one in there] == [v for v in range(1, newest + 1) if life.alive(v)]
    assert len({one.key for one in there}) == len(there)
    assert counts(store)["selection_samples"] == 3 * len(there)
    assert all(store.selections.get(one.key).ref == one.ref for one in there)
    shutil.rmtree(tmp_path / "store" / "index")
    fresh = Store.open(tmp_path / "store")
    assert [one.ref for one in fresh.selections.all()] == [one.ref for one in there]
    assert publish(fresh, dataset, "n", seed=99_999).selection.version == newest + 1
    assert verify(fresh).problems == []
