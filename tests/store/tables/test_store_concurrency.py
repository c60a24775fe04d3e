"""Many processes at once: nothing lost, nothing doubled, one copy of what was said by several."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from storekit import counts, publish, shard, together

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.tables.tables import TABLES

RUN = "f00d" + "0" * 28
FORMATS = Path(__file__).parents[2] / "formats"
NAMES = [f"alias{i}" for i in range(5)]


def publish_ten(path: Path, number: int) -> None:
    store = Store.open(path)
    dataset = store.datasets.get("base")
    for seed in range(10 * number, 10 * number + 10):
        publish(store, dataset, "race", seed=seed, chosen=[seed % 5, (seed + 1) % 5])


def publish_one(path: Path, number: int) -> None:
    store = Store.open(path)
    publish(store, store.datasets.get("base"), "race", chosen=[4, 2])


def name_one(path: Path, number: int) -> None:
    store = Store.open(path)
    dataset = store.datasets.get("base")
    for name in NAMES:
        publish(store, dataset, name, chosen=[4, 2])


def append_own(path: Path, number: int) -> None:
    Store.open(path).datasets.add("base", [path.parent / f"more{number}.tar"], append=True)


def add_same(path: Path, number: int) -> None:
    Store.open(path).datasets.add("fresh", [path.parent / "more0.tar"])


def lose(path: Path, number: int) -> None:
    store = Store.open(path)
    for epoch in range(3):
        store.runs.put_losses(RUN, epoch, np.arange(20), np.full(20, number), epoch)


def score(path: Path, number: int) -> None:
    store = Store.open(path)
    store.runs.begin(kind="score", key=RUN, dataset="base@1")
    store.runs.put_scores(RUN, {"entropy": np.full(5, number / 8)}, np.arange(5))
    store.runs.finish(RUN, metrics={"by": number})


def put_same(path: Path, number: int) -> None:
    store = Store.open(path)
    for i in range(20):
        store.blobs.put(b"%d" % i * 1000)
        store.root.put_new(f"parts/{i}", b"%d" % number)


def open_or_create(path: Path, number: int) -> None:
    store = Store.open_or_create(path)
    store.runs.begin(kind="train", key=f"run{number}", dataset="none@1")


def lose_correct(path: Path, number: int) -> None:
    runs = Store.open(path).runs
    for epoch in range(number, 12, 4):
        runs.put_losses(RUN, epoch, np.arange(5), np.full(5, 0.5), epoch, correct=np.arange(5) < number)


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Dataset:
    for i in range(3):
        shard(tmp_path / f"more{i}.tar", [f"more{i}-{j}" for j in range(4)])
    return store.datasets.add("base", [shard(tmp_path / "base.tar", "abcde")])


def attempts(store: Store, table: str) -> set[str]:
    """The attempts whose payload is in the table's active files, seen or not."""
    return set(store.tables.read(table, None, ["attempt"])["attempt"].to_pylist())


@pytest.mark.slow
def test_eight_processes_publish_ten_each_under_one_name(store: Store, base: Dataset, tmp_path: Path) -> None:
    together(publish_ten, tmp_path / "store", 8)
    there = store.selections.all()
    assert [s.version for s in there] == list(range(1, 81))
    assert sorted(s.seed for s in there) == list(range(80))
    assert len({s.key for s in there}) == 80
    found = counts(store)
    assert (found["selections"], found["selection_rounds"], found["selection_samples"]) == (80, 80, 160)
    assert all(s.round_at(0)[0].tolist() == [s.seed % 5, (s.seed + 1) % 5] for s in there[::9])


def test_six_processes_publish_the_same(store: Store, base: Dataset, tmp_path: Path) -> None:
    together(publish_one, tmp_path / "store", 6)
    assert [s.ref for s in store.selections.all()] == ["race@1"]
    found = counts(store)
    assert (found["selections"], found["selection_rounds"], found["selection_samples"]) == (1, 1, 2)
    head = store.tables.read("selections", None, ["attempt"])["attempt"].to_pylist()
    assert len(head) == 1
    assert attempts(store, "selection_samples") == attempts(store, "selection_rounds") == set(head)


def test_six_processes_give_the_same_further_names(store: Store, base: Dataset, tmp_path: Path) -> None:
    publish(store, base, "race", chosen=[4, 2])
    together(name_one, tmp_path / "store", 6)
    assert [s.ref for s in store.selections.all()] == [*(f"{name}@1" for name in NAMES), "race@1"]
    assert counts(store)["selection_samples"] == 2


def test_three_processes_append_different_shards(store: Store, base: Dataset, tmp_path: Path) -> None:
    together(append_own, tmp_path / "store", 3)
    dataset = store.datasets.get("base")
    assert (dataset.ref, dataset.samples) == ("base@4", 17)
    assert sorted(Path(s.uri).name for s in dataset.shards) == ["base.tar", "more0.tar", "more1.tar", "more2.tar"]
    assert len(set(dataset.keys())) == 17
    assert [s.first_sample for s in dataset.shards] == [0, 5, 9, 13]
    for version in (1, 2, 3):
        assert store.datasets.get(f"base@{version}").keys() == dataset.keys()[: 1 + 4 * version]
    rows = store.query(
        "select sample, count(*) as n from samples where dataset = 'base' group by sample order by sample"
    )
    assert rows["sample"].to_pylist() == list(range(17))
    assert set(rows["n"].to_pylist()) == {1}
    assert len(attempts(store, "samples")) == 4


def test_four_processes_add_the_same_dataset(store: Store, base: Dataset, tmp_path: Path) -> None:
    together(add_same, tmp_path / "store", 4)
    assert [(row["dataset"], row["version"]) for row in store.datasets.all()] == [("base", 1), ("fresh", 1)]
    assert counts(store)["samples"] == 9
    assert len(attempts(store, "samples")) == 2


def test_six_processes_replace_the_same_losses(store: Store, base: Dataset, tmp_path: Path) -> None:
    store.runs.begin(kind="train", key=RUN, dataset=base.ref)
    together(lose, tmp_path / "store", 6)
    rows = store.query("select epoch, count(*) as n, min(loss) as low, max(loss) as high from losses group by epoch")
    assert sorted((row["epoch"], row["n"]) for row in rows.to_pylist()) == [(0, 20), (1, 20), (2, 20)]
    assert all(row["low"] == row["high"] for row in rows.to_pylist())


def test_four_processes_add_a_column_to_an_old_store(tmp_path: Path) -> None:
    shutil.unpack_archive(FORMATS / "store-format-2.zip", tmp_path / "old")
    store = Store.open(tmp_path / "old")
    store.runs.begin(kind="train", key=RUN, dataset="three@1")
    together(lose_correct, tmp_path / "old", 4)
    asked = "select epoch, count(*) filter (correct) as right, count(correct) as known from losses where run = $run"
    rows = store.query(f"{asked} group by epoch order by epoch", {"run": RUN}).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(epoch, epoch % 4, 5) for epoch in range(12)]
    assert store.query("select count(*) as n from losses where correct is null")["n"].to_pylist() == [6]


def test_six_processes_score_and_finish_one_run(store: Store, base: Dataset, tmp_path: Path) -> None:
    together(score, tmp_path / "store", 6)
    values = store.runs.scores(RUN, "entropy", 5)
    assert set(values.tolist()) <= {number / 8 for number in range(6)}
    assert len(set(values.tolist())) == 1
    assert counts(store)["scores"] == 5
    finished = [row for row in store.tables.read("runs", run=RUN).to_pylist() if row["status"] == "finished"]
    assert len(finished) == 1


def test_four_processes_put_the_same_files(store: Store, tmp_path: Path) -> None:
    together(put_same, tmp_path / "store", 4)
    assert len(store.root.list("blobs")) == 20
    assert all(store.blobs.get(name.rpartition("/")[2]) for name, _ in store.root.list("blobs"))
    assert len(store.root.list("parts")) == 20


def test_six_processes_make_one_store(tmp_path: Path) -> None:
    together(open_or_create, tmp_path / "new", 6)
    store = Store.open(tmp_path / "new")
    assert sorted(r.key for r in store.runs.all()) == [f"run{i}" for i in range(6)]
    assert set(store.tables.versions()) == set(TABLES)
