"""Removing, restoring, renaming and collecting in a store on an object store."""

import datetime as dt
from pathlib import Path

import pytest
from s3kit import S3Server
from storekit import counts, publish, shard

from tamis.store import Store
from tamis.store.errors import SelectionNotFound, StillNeeded
from tamis.store.upkeep.collect import collect
from tamis.store.upkeep.verify import verify


def test_a_life_on_an_object_store(s3: S3Server, tmp_path: Path) -> None:
    store = Store.create(f"{s3.bucket()}/store")
    base = store.datasets.add("base", [shard(tmp_path / "base.tar", "abcde")])
    publish(store, base)
    before = counts(store)
    with pytest.raises(StillNeeded, match="selection some@1 chooses from base@1"):
        store.datasets.remove("base")
    store.selections.remove("some")
    other = Store.open(store.root.url)
    with pytest.raises(SelectionNotFound, match="some@1 was removed"):
        other.selections.get("some@1")
    assert counts(other)["selection_samples"] == 0
    assert other.selections.restore("some") == ["some@1"]
    assert other.selections.rename("some", "new") == ["new@1"]
    assert (counts(store), store.query("select name from selections")["name"].to_pylist()) == (before, ["new"])
    store.selections.remove("new")
    assert collect(store, keep=dt.timedelta(0)) == []  # its files are young
    store.datasets.remove("base")
    assert verify(other).problems == []
    assert {name: n for name, n in counts(other).items() if n} == {}
