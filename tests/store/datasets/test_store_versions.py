"""An append goes behind the newest version, whoever published it, and costs what it costs however many there are."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from storekit import shard

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import ShardError
from tamis.store.tables import datafiles


def append(store: Store, path: Path, number: int) -> Dataset:
    return store.datasets.add("d", [shard(path / f"{number:03d}.tar", [f"{number:03d}"])], append=True)


def same(a: Dataset, b: Dataset) -> bool:
    return a == b and a.attempts == b.attempts and a.keys() == b.keys()


@pytest.fixture
def three(store: Store, tmp_path: Path) -> Store:
    store.datasets.add("d", [shard(tmp_path / "000.tar", ["000"])])
    for number in (1, 2):
        append(store, tmp_path, number)
    return store


def test_what_is_returned_is_what_is_read(three: Store, tmp_path: Path) -> None:
    made = append(three, tmp_path, 3)
    assert same(made, Store.open(three.root.url).datasets.get("d"))
    assert made.keys() == [f"{number:03d}" for number in range(4)]


def test_versions_of_others_come_first(three: Store, tmp_path: Path) -> None:
    append(Store.open(three.root.url), tmp_path, 3)
    made = append(three, tmp_path, 4)
    assert (made.version, made.keys()) == (5, [f"{number:03d}" for number in range(5)])
    assert same(made, Store.open(three.root.url).datasets.get("d"))


def test_a_key_that_another_has_given_meanwhile_is_refused(three: Store, tmp_path: Path) -> None:
    other = Store.open(three.root.url)
    other.datasets.add("d", [shard(tmp_path / "other.tar", ["x"])], append=True)
    for twice in ("x", "001"):
        with pytest.raises(ShardError, match=f"more than one sample .first: {twice}"):
            three.datasets.add("d", [shard(tmp_path / "mine.tar", [twice, "y"])], append=True)
    assert three.datasets.get("d").version == 4


def test_changes_of_others_are_seen(three: Store, tmp_path: Path) -> None:
    other = Store.open(three.root.url)
    moved = shutil.move(tmp_path / "001.tar", tmp_path / "elsewhere.tar")
    other.datasets.relocate("d", [moved])
    other.datasets.rename_classes("d", ["no", "yes"])
    made = append(three, tmp_path, 3)
    assert made.shards[1].uri == str(moved)
    assert made.classes == ("no", "yes")
    assert same(made, Store.open(three.root.url).datasets.get("d"))


def test_versions_that_were_taken_back_are_not_appended_to(three: Store, tmp_path: Path) -> None:
    """As where the store is restored from a copy, and goes on from there with other shards."""
    root = Path(three.root.url)
    copy = shutil.copytree(root, tmp_path / "copy")
    append(three, tmp_path, 3)
    for folder in ("tables", "index"):
        shutil.rmtree(root / folder)
        shutil.copytree(copy / folder, root / folder)
    append(Store.open(root), tmp_path, 4)  # a version of the same number
    made = append(three, tmp_path, 5)
    assert made.keys() == ["000", "001", "002", "004", "005"]
    assert same(made, Store.open(root).datasets.get("d"))


def test_appends_read_as_much_at_first_as_later(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upkeep, every eighth commit, included: eight appends read as many files and open as many tables as eight did."""
    done: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            done[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    store.datasets.add("d", [shard(tmp_path / "000.tar", ["000"])])
    for module, name in (
        (datafiles, "parse"), ("tamis.store.tables.states", "snapshot"), ("tamis.store.tables.snapshot", "DeltaTable"),
    ):  # fmt: skip
        counted(__import__(module, fromlist=["x"]) if isinstance(module, str) else module, name)
    costs: list[Counter[str]] = []
    for number in range(1, 57):
        append(store, tmp_path, number)
        if number % 7 == 0:  # and a commit that merges
            costs.append(+done)
            done.clear()
    assert costs[2] == costs[-1]
    assert costs[-1]["snapshot"] == 0
    assert costs[-1]["DeltaTable"] == 3  # to write a checkpoint of each table
