"""Shards that move and classes that are renamed: said once, seen everywhere, and nothing that was computed is lost."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from storekit import publish, samples, shard, write_tar

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound, ShardChanged, ShardError


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    return [_shard(tmp_path / "old", letter) for letter in "ab"]


def _shard(folder: Path, letter: str) -> Path:
    folder.mkdir(exist_ok=True)
    return write_tar(folder / f"{letter}.tar", [m for i in range(3) for m in samples([f"{letter}{i}"], label=i % 2)])


def moved(places: list[Path], to: Path) -> list[Path]:
    to.mkdir(exist_ok=True)
    return [Path(shutil.move(place, to / place.name)) for place in places]


def uris(dataset: Dataset) -> list[str]:
    return [s.uri for s in dataset.shards]


def test_adding_moved_shards_says_where_they_lie(store: Store, tmp_path: Path, places: list[Path]) -> None:
    made = store.datasets.add("d", places)
    chosen = publish(store, made).selection
    new = moved(places, tmp_path / "new")
    added = store.datasets.index("d", new)
    assert (added.moved, added.renamed, uris(added.dataset)) == (2, False, [str(p) for p in new])
    again = Store.open(store.root.url)
    there = again.datasets.get("d")
    assert (uris(there), there.key, there.ref, there.verify()) == ([str(p) for p in new], made.key, "d@1", [])
    assert again.selections.get(chosen.ref).dataset == there.ref
    assert store.datasets.index("d", new).moved == 0
    assert len(store.datasets.changes("d")) == 2


def test_relocating_some_in_any_order_under_any_name(store: Store, tmp_path: Path, places: list[Path]) -> None:
    made = store.datasets.add("d", places)
    there = [Path(shutil.move(places[1], tmp_path / "x.tar")), Path(shutil.move(places[0], tmp_path / "y.tar"))]
    dataset, count = store.datasets.relocate("d", there)
    assert (count, uris(dataset), dataset.key) == (2, [str(there[1]), str(there[0])], made.key)
    assert store.datasets.get("d").verify() == []
    back = Path(shutil.move(there[1], tmp_path / "z.tar"))
    dataset, count = store.datasets.relocate("d", [back])
    assert (count, uris(dataset)) == (1, [str(back), str(there[0])])


def test_every_version_knows_where_its_shards_lie(store: Store, tmp_path: Path, places: list[Path]) -> None:
    store.datasets.add("d", places[:1])
    store.datasets.add("d", places[1:], append=True)
    new = moved(places, tmp_path / "new")
    assert store.datasets.index("d", new[:1]).moved == 1
    assert uris(store.datasets.get("d@1")) == [str(new[0])]
    assert uris(store.datasets.get("d@2")) == [str(new[0]), str(places[1])]
    more = shard(tmp_path / "more.tar", "xyz")
    added = store.datasets.index("d", [*new, more], append=True)  # known ones beside a new one
    assert (added.moved, added.dataset.ref, uris(added.dataset)) == (1, "d@3", [*map(str, new), str(more)])
    assert added.dataset.verify() == []


def test_shards_in_the_store_keep_moving_with_it(store: Store, tmp_path: Path, places: list[Path]) -> None:
    store.datasets.add("d", places)
    store.datasets.relocate("d", moved(places, Path(store.root.url) / "shards"))
    shutil.move(store.root.url, tmp_path / "elsewhere")
    assert Store.open(tmp_path / "elsewhere").datasets.get("d").verify() == []


def test_other_files_are_no_relocation(store: Store, tmp_path: Path, places: list[Path]) -> None:
    made = store.datasets.add("d", places)
    other = shard(tmp_path / "other.tar", "ab")
    with pytest.raises(
        ShardError,
        match=r"1 of 2 files do not match the digest of any shard of d@1.*other\.tar\)\. Nothing was changed",
    ):
        store.datasets.relocate("d", [*moved(places[:1], tmp_path / "new"), other])
    assert uris(store.datasets.get("d")) == uris(made)
    with pytest.raises(DatasetNotFound):
        store.datasets.relocate("none", places)
    with pytest.raises((ShardError, OSError), match="gone"):
        store.datasets.relocate("d", [tmp_path / "gone.tar"])


def test_without_digests_nobody_can_tell(store: Store, tmp_path: Path, places: list[Path]) -> None:
    store.datasets.add("d", places, digests=False)
    new = moved(places, tmp_path / "new")
    with pytest.raises(ShardError, match=r"indexed without digests.*another name"):
        store.datasets.relocate("d", new)
    with pytest.raises(ShardError, match=r"a\.tar looks like shard .*without a digest.*another name"):
        store.datasets.add("d", new)
    assert uris(store.datasets.get("d")) == [str(p) for p in places]


def test_corrected_class_names(store: Store, places: list[Path]) -> None:
    made = store.datasets.add("d", places, classes=["cat", "god"])
    added = store.datasets.index("d", places, classes=["cat", "dog"])
    assert (added.renamed, added.dataset.classes, added.dataset.key) == (True, ("cat", "dog"), made.key)
    assert store.datasets.get("d").classes == ("cat", "dog")
    assert [row["classes"] for row in store.datasets.all()] == [["cat", "dog"]]
    assert not store.datasets.index("d", places, classes=["cat", "dog"]).renamed
    assert store.datasets.add("d", places).classes == ("cat", "dog")
    assert store.datasets.rename_classes("d", ["Katze", "Hund", "Maus"]).classes == ("Katze", "Hund", "Maus")
    assert [c["classes"] for c in store.datasets.changes("d")] == [["cat", "dog"], ["Katze", "Hund", "Maus"]]


def test_names_can_come_late(store: Store, places: list[Path]) -> None:
    assert store.datasets.add("d", places).classes == ()
    assert store.datasets.rename_classes("d", ["cat", "dog"]).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat"], "1 class names and a label 1 in d@1"),
        ([], "0 class names"),
        (["cat", ""], "class 1 is empty"),
        (["a\n", "b"], "control"),
    ],
)
def test_names_that_do_not_fit(store: Store, places: list[Path], names: list[str], message: str) -> None:
    store.datasets.add("d", places, classes=["x", "y"])
    with pytest.raises(ShardError, match=message):
        store.datasets.rename_classes("d", names)
    assert store.datasets.get("d").classes == ("x", "y")


def test_a_later_version_has_the_names_it_was_published_with(store: Store, places: list[Path]) -> None:
    store.datasets.add("d", places[:1], classes=["cat", "god"])
    store.datasets.rename_classes("d", ["cat", "dog"])
    assert store.datasets.add("d", places[1:], append=True).classes == ("cat", "dog")
    assert store.datasets.get("d@1").classes == ("cat", "dog")
    more = write_tar(places[0].parent / "c.tar", samples(["c0"], label=2))
    assert store.datasets.add("d", [more], append=True, classes=["Cat", "Dog", "Emu"]).classes == ("Cat", "Dog", "Emu")
    assert store.datasets.get("d@2").classes == ("cat", "dog")
    store.datasets.rename_classes("d", ["c", "d", "e"])
    assert [store.datasets.get(f"d@{v}").classes for v in (1, 2, 3)] == [("c", "d", "e")] * 3


def test_many_at_once_lose_nothing(store: Store, tmp_path: Path, places: list[Path]) -> None:
    store.datasets.add("d", places, classes=["x", "y"])
    copies = [Path(shutil.copy(p, tmp_path / f"{i}-{p.name}")) for i in range(3) for p in places]

    def work(i: int) -> None:
        Store.open(store.root.url).datasets.relocate("d", [copies[i]])
        Store.open(store.root.url).datasets.rename_classes("d", [f"x{i}", "y"])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    changes = store.datasets.changes("d")
    assert [c["change"] for c in changes] == list(range(1, 13))
    assert store.datasets.get("d").verify() == []
    assert {c["classes"][0] for c in changes if c["kind"] == "classes"} == {f"x{i}" for i in range(6)}


def test_a_changed_shard_is_no_moved_one(store: Store, tmp_path: Path, places: list[Path]) -> None:
    store.datasets.add("d", places)
    data = bytearray(places[0].read_bytes())
    data[512] ^= 1
    places[0].write_bytes(data)
    with pytest.raises((ShardError, ShardChanged), match="any shard of d@1"):
        store.datasets.relocate("d", [places[0]])


def test_sql_sees_what_was_put_right_and_what_was(store: Store, tmp_path: Path, places: list[Path]) -> None:
    store.datasets.add("e", [shard(tmp_path / "e.tar", "xyz")], classes=["left", "alone"])
    store.datasets.add("d", places[:1], classes=["it's", "god"])
    store.datasets.add("d", places[1:], append=True)
    new = moved(places, tmp_path / "n'ew {x}")
    store.datasets.relocate("d", new[1:])
    store.datasets.rename_classes("d", ["it's", "dog"])
    rows = store.query("select dataset, shard, uri, stamp from shards order by dataset, shard").to_pylist()
    assert [r["uri"] for r in rows] == [str(places[0]), str(new[1]), str(tmp_path / "e.tar")]
    assert [r["stamp"] for r in rows[:2]] == [s.stamp for s in store.datasets.get("d").shards]
    query = "select dataset, version, classes from datasets order by dataset, version"
    assert [r["classes"] for r in store.query(query).to_pylist()] == [["it's", "dog"]] * 2 + [["left", "alone"]]
    was = store.query(query, at={"dataset_changes": 1}).to_pylist()
    assert [r["classes"] for r in was] == [["it's", "god"]] * 2 + [["left", "alone"]]
    assert store.query("select count(*) n from dataset_changes").to_pylist() == [{"n": 2}]
