"""Order is the log's order, whatever the clocks say; what is found does not depend on how much there is."""

import datetime as dt
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from storekit import counts, publish, shard, visible

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import QueryError, StoreFormatError
from tamis.store.tables import log
from tamis.store.tables.log import Log
from tamis.store.tables.specs import TABLES
from tamis.store.tables.tables import Tables

DAY = 86_400


@contextmanager
def clock_moved_by(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """This machine's clock, stepped: a mock, because a test cannot set the real one."""
    real = time.time_ns

    def now() -> dt.datetime:
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)

    with monkeypatch.context() as patch:
        patch.setattr(log.time, "time_ns", lambda: real() + int(seconds * 1e9))
        for module in ("runs.events", "selections.catalog", "datasets.catalog"):
            patch.setattr(f"tamis.store.{module}.now", now)
        yield


@pytest.fixture
def small(store: Store, tmp_path: Path) -> Dataset:
    return store.datasets.add("small", [shard(tmp_path / "small.tar", "abcdefghij")])


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_state_of_a_run_after_a_clock_step(
    store: Store, small: Dataset, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Whichever way the clock goes, the last word on a run is the last that was said."""
    store.runs.begin(kind="train", key="aaaa1", dataset=small.ref)
    store.runs.begin(kind="train", key="bbbb1", dataset=small.ref)
    with clock_moved_by(monkeypatch, step):
        store.runs.fail("aaaa1", "no luck")
        store.runs.begin(kind="train", key="aaaa1", dataset=small.ref)
    store.runs.fail("aaaa1", "again")
    with clock_moved_by(monkeypatch, 2 * step):
        store.runs.begin(kind="train", key="aaaa1", dataset=small.ref)
    assert store.runs.get("aaaa1").status == "running"
    assert [r.key for r in store.runs.all()] == ["aaaa1", "bbbb1"]
    rows = store.query("select run, status from runs order by run").to_pylist()
    assert [row["status"] for row in rows] == ["running", "running"]


def test_first_name_of_a_selection_after_a_clock_step(
    store: Store, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, small, "first")
    with clock_moved_by(monkeypatch, -DAY):
        publish(store, small, "second")
    assert store.selections.find(publish(store, small, "first").selection.key).name == "first"
    shutil.rmtree(Path(store.root.url) / "index")
    assert Store.open(store.root.url).selections.get("first").name == "first"
    assert [s.ref for s in store.selections.all()] == ["first@1", "second@1"]


def test_looking_back_after_a_clock_step(store: Store, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state at a time is the newest whose commits were all made, by the running maximum, until then."""
    moments = []
    for seed, step in enumerate((0, 2 * DAY, DAY, 3 * DAY)):
        with clock_moved_by(monkeypatch, step):
            publish(store, small, seed=seed)
            moments.append(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=step + 0.05))
    asked = "select count(*) as n from selections"
    assert [store.query(asked, at=m)["n"][0].as_py() for m in moments] == [1, 3, 1, 4]
    assert store.query("select count(*) as n from selection_samples", at=moments[0])["n"][0].as_py() == 3


def test_a_copied_store_answers_as_the_original(store: Store, small: Dataset, tmp_path: Path) -> None:
    moments = []
    for seed in range(3):
        publish(store, small, seed=seed)
        time.sleep(0.02)
        moments.append(dt.datetime.now(dt.UTC))
        time.sleep(0.02)
    copy = tmp_path / "copy"
    for file in Path(store.root.url).rglob("*"):  # without the files' times, as many copies are
        if file.is_file():
            to = copy / file.relative_to(store.root.url)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(file.read_bytes())
    asked = "select count(*) as n from selections"
    for opened in (store, Store.open(copy)):
        assert [opened.query(asked, at=m)["n"][0].as_py() for m in moments] == [1, 2, 3]


def test_time_beyond_either_end_of_the_log(store: Store, small: Dataset) -> None:
    publish(store, small)
    asked = "select count(*) as n from selections"
    assert store.query(asked, at=dt.datetime(2101, 1, 1))["n"][0].as_py() == 1
    assert store.query(asked, at=dt.datetime(1971, 1, 1))["n"][0].as_py() == 0
    with pytest.raises(QueryError, match="no state at version 99: it has 0 to 1"):
        store.query(asked, at={"selections": 99})


def test_any_delta_reader_reads_what_is_committed(store: Store, small: Dataset) -> None:
    """The Delta library has the last word on our commits: rows, history, versions."""
    for seed in range(40):  # merged and checkpointed on the way
        publish(store, small, seed=seed, chosen=[seed % 10, (seed + 1) % 10])
    store.runs.begin(kind="train", key="aaaa1", dataset=small.ref)
    for epoch in (0, 1, 0):
        store.runs.put_losses("aaaa1", epoch, np.arange(10), np.full(10, epoch), epoch)
    for name, rows in {"selections": 40, "selection_samples": 80, "losses": 20, "datasets": 1, "samples": 10}.items():
        table = DeltaTable(store.root.table_uri(name))
        assert table.to_pyarrow_table().num_rows == rows
        assert table.version() == Log(store.root, name).latest()
        assert {a["operation"] for a in table.history()} <= {"WRITE", "CREATE TABLE"}
    heads = DeltaTable(store.root.table_uri("selections")).to_pyarrow_table()
    assert sorted(heads["version"].to_pylist()) == list(range(1, 41))
    assert heads["log_version"].null_count == 0


def test_small_files_are_merged_and_nothing_changes(store: Store, small: Dataset) -> None:
    for seed in range(70):
        publish(store, small, f"n{seed % 3}", seed=seed, chosen=[seed % 10, 3 if seed % 10 != 3 else 4])
    lost = store.tables.read("selection_samples").slice(0, 1)
    at = lost.column_names.index("attempt")
    store.tables.append("selection_samples", lost.set_column(at, "attempt", [["killed" + "0" * 26]]))
    files = {name: len(store.tables.state(name).files) for name in ("selections", "selection_samples")}
    assert max(files.values()) < 40
    assert counts(store)["selection_samples"] == 140
    for selection in store.selections.all():
        assert selection.read_rounds()[0][0].tolist()[0] == selection.seed % 10
    older = store.query(
        "select count(*) as n, count(distinct selection) as s from selection_samples", at={"selections": 20}
    )
    assert older.to_pylist() == [{"n": 40, "s": 20}]  # of merged files, the rows of what was published by then


def test_a_dataset_of_many_versions_is_whole(store: Store, tmp_path: Path) -> None:
    paths = [shard(tmp_path / f"{i}.tar", [f"{i:02d}a", f"{i:02d}b"]) for i in range(40)]
    store.datasets.add("d", paths[:1])
    for path in paths[1:]:
        store.datasets.add("d", [path], append=True)
    assert len(store.tables.state("samples").files) < 40
    for version in (1, 17, 40):
        dataset = store.datasets.get(f"d@{version}")
        assert dataset.keys() == [f"{i:02d}{c}" for i in range(version) for c in "ab"]
        assert [s.uri for s in dataset.shards] == [str(p) for p in paths[:version]]
    assert store.datasets.add("d", paths[:17]).version == 17


@pytest.mark.parametrize("gone", ["index", "index/selections/mark.json", "index/runs"])
def test_an_index_that_is_missing_is_made_again(store: Store, small: Dataset, gone: str) -> None:
    publish(store, small, "one")
    publish(store, small, "two")
    publish(store, small, "one", seed=1)
    store.runs.begin(kind="score", key="aaaa1", dataset=small.ref)
    store.runs.put_scores("aaaa1", {"entropy": np.arange(10.0)}, np.arange(10))
    store.runs.finish("aaaa1")
    before = visible(store)
    path = Path(store.root.url) / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    opened = Store.open(store.root.url)
    assert [opened.selections.get(r).seed for r in ("one@1", "one", "two")] == [0, 1, 0]
    assert opened.runs.scores("aaaa1", "entropy", 10).tolist() == list(range(10))
    assert publish(opened, small, "one", seed=2).selection.ref == "one@3"
    opened.runs.begin(kind="train", key="bbbb1", dataset=small.ref)
    assert len(visible(opened)) == len(before) + 6
    assert [publish(opened, small, "one", seed=s).created for s in (0, 1, 2)] == [False] * 3


def test_tables_restored_from_a_copy_under_a_newer_index(store: Store, small: Dataset, tmp_path: Path) -> None:
    publish(store, small, "one")
    copy = shutil.copytree(Path(store.root.url) / "tables", tmp_path / "tables")
    for seed in range(1, 5):
        publish(store, small, "one", seed=seed)
    shutil.rmtree(Path(store.root.url) / "tables")
    shutil.copytree(copy, Path(store.root.url) / "tables")
    assert [s.ref for s in store.selections.all()] == ["one@1"]
    assert store.selections.get("one").ref == "one@1"
    assert publish(store, small, "one", seed=9).selection.ref == "one@2"
    assert store.selections.find(publish(store, small, "one", seed=3).selection.key).ref == "one@3"


def test_a_table_of_a_later_version_reads_as_empty_and_is_made_by_its_writer(store: Store, small: Dataset) -> None:
    """As in a store of an earlier version, which has neither the table nor its layout."""
    folder = Path(store.root.url)
    shutil.rmtree(folder / "tables" / "dataset_changes")
    shutil.rmtree(folder / "index" / "dataset_changes")
    opened = Store.open(folder)
    before = sorted(p.name for p in folder.rglob("*"))
    assert opened.query("select count(*) as n from dataset_changes")["n"][0].as_py() == 0
    assert opened.tables.versions()["dataset_changes"] == -1
    assert opened.datasets.get("small").samples == 10
    assert sorted(p.name for p in folder.rglob("*")) == before
    row = {"dataset": "small", "change": 1, "kind": "classes", "classes": ["a"]}
    assert opened.tables.publish("dataset_changes", [row], {"name/small": 1})
    assert not Store.open(folder).tables.publish("dataset_changes", [row], {"name/small": 1})
    assert opened.query("select classes from dataset_changes").to_pylist() == [{"classes": ["a"]}]


def test_a_claim_is_granted_once(store: Store) -> None:
    tables = [Tables(store.root), Tables(store.root)]
    row = {"dataset": "d", "change": 1, "kind": "k"}
    won = [t.publish("dataset_changes", [row], {"name/d": 1}) for t in tables]
    assert won == [True, False]
    assert [t.claimed("dataset_changes", "name/d") for t in tables] == [1, 1]
    assert [t.claimed("dataset_changes", "name/x") for t in tables] == [0, 0]


def test_commit_times_never_go_back(store: Store, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, step in enumerate((0, 500, -500, 20)):
        with clock_moved_by(monkeypatch, step):
            publish(store, small, seed=seed)
    commits = Log(store.root, "selections").after(0)
    clocks = [c.info["clock"] for c in commits]
    walls = [c.info["timestamp"] for c in commits]
    assert clocks == [max(walls[: i + 1]) for i in range(4)]
    assert walls != sorted(walls)


def test_a_run_whose_process_is_gone_is_interrupted(store: Store, small: Dataset) -> None:
    import subprocess
    import sys

    program = (
        "import sys, os\nfrom tamis.store import Store\n"
        "Store.open(sys.argv[1]).runs.begin(kind='train', key='aaaa1', dataset='small@1'); print('begun', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, store.root.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        assert store.runs.get("aaaa1").status == "running"
        child.kill()
    asked = "select status from runs"
    assert store.runs.get("aaaa1").status == "interrupted"
    assert [r.status for r in store.runs.all()] == ["interrupted"]
    assert store.query(asked).to_pylist() == [{"status": "interrupted"}]
    assert store.query(asked, at=dt.datetime.now()).to_pylist() == [{"status": "running"}]  # as it was said
    store.runs.begin(kind="train", key="aaaa1", dataset=small.ref)
    assert store.query(asked).to_pylist() == [{"status": "running"}]


def test_runs_of_other_machines_are_left_alone(store: Store, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"host": "elsewhere", "boot": "b", "pid": 1, "start": "1"})
    monkeypatch.setattr("tamis.store.runs.events.this_process", lambda: said)
    store.runs.begin(kind="train", key="aaaa1", dataset=small.ref)
    assert store.runs.get("aaaa1").status == "running"


def test_every_head_has_its_place_in_the_log() -> None:
    assert {name for name, spec in TABLES.items() if spec.is_head} == {
        "datasets", "dataset_changes", "priorities", "runs", "selections", "bases", "packages", "candidates",
        "profiles",
    }  # fmt: skip
    assert all(TABLES[spec.head].is_head for spec in TABLES.values() if spec.head)


def test_a_lost_table_is_not_an_empty_one(store: Store, small: Dataset) -> None:
    publish(store, small)
    shutil.rmtree(Path(store.root.table_uri("selections")) / "_delta_log")
    for work in (store.selections.all, lambda: Store.open(store.root.url).query("select * from selections")):
        with pytest.raises(StoreFormatError, match=r"Table selections of .* is damaged: its log is missing"):
            work()
