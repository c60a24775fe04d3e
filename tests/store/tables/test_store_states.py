"""A state that is carried forward is the one that the Delta library has; one that cannot be is read anew."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable, Field, Schema
from storekit import publish, shard

from tamis.store import Store
from tamis.store.tables.heads import Heads
from tamis.store.tables.log import Action, Published, Row
from tamis.store.tables.snapshot import Snapshot, snapshot
from tamis.store.tables.specs import TABLES
from tamis.store.tables.states import States
from tamis.store.tables.tables import Tables


def told(state: Snapshot) -> tuple[int, list[dict[str, Any]]]:
    return state.version, sorted(state.files.to_pylist(), key=lambda file: file["path"])


def fill(store: Store, dataset: Any, first: int, count: int) -> None:
    for seed in range(first, first + count):
        publish(store, dataset, f"n{seed % 3}", seed=seed)
        store.runs.put_losses("aaaa1", seed % 5, np.arange(10), np.full(10, float(seed)), seed % 5)


def test_every_table_is_carried_forward_as_the_library_has_it(store: Store, tmp_path: Path) -> None:
    """Through appends, merges, checkpoints and epochs that are replaced."""
    dataset = store.datasets.add("d", [shard(tmp_path / "d.tar", "abcdefghij")])
    store.runs.begin(kind="train", key="aaaa1", dataset=dataset.ref)
    states = States(store.root)
    for step in range(5):
        fill(store, dataset, 8 * step, 8)
        for name in TABLES:
            assert told(states.now(name)) == told(snapshot(store.root, name)), name


def test_a_state_is_carried_without_the_library(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = store.datasets.add("d", [shard(tmp_path / "d.tar", "abcdefghij")])
    states = States(store.root)
    seen = states.now("selections")
    publish(store, dataset)
    expected = told(snapshot(store.root, "selections"))
    monkeypatch.delattr("tamis.store.tables.states.snapshot")
    assert told(states.now("selections")) == expected
    assert expected[0] == seen.version + 1


def test_tables_that_were_restored_from_a_copy_are_read_anew(store: Store, tmp_path: Path) -> None:
    """Also where the log is as long again as it was when it was seen, or longer."""
    dataset = store.datasets.add("d", [shard(tmp_path / "d.tar", "abcdefghij")])
    publish(store, dataset, seed=0)
    table = Path(store.root.table_uri("selections"))
    copy = shutil.copytree(table, tmp_path / "copy")
    publish(store, dataset, seed=1)
    states = States(store.root)
    states.now("selections")
    shutil.rmtree(table)
    shutil.copytree(copy, table)
    assert told(states.now("selections")) == told(snapshot(store.root, "selections"))
    states.now("selections")
    for seed in (2, 3):
        publish(store, dataset, seed=seed)
        shutil.rmtree(table)
        shutil.copytree(copy, table)
        publish(store, dataset, seed=10 + seed)
        assert told(states.now("selections")) == told(snapshot(store.root, "selections"))


def test_what_another_writer_does_is_left_to_the_library(store: Store, tmp_path: Path) -> None:
    dataset = store.datasets.add("d", [shard(tmp_path / "d.tar", "abcdefghij")])
    states = States(store.root)
    states.now("samples")
    uri = store.root.table_uri("samples")
    DeltaTable(uri).alter.add_columns([Field("more", Schema.from_arrow(TABLES["samples"].schema).fields[0].type)])
    assert told(states.now("samples")) == told(snapshot(store.root, "samples"))
    DeltaTable(uri).delete(f"dataset = '{dataset.name}'")
    assert told(states.now("samples")) == told(snapshot(store.root, "samples"))
    assert not len(states.now("samples").files)


def test_an_index_that_two_make_at_once_has_what_either_published(store: Store) -> None:
    """Claims without rows are in no table, so that an index made from the table alone would grant them again."""
    root = store.root

    def derive() -> tuple[int, list[Published]]:
        Tables(root).publish("runs", [], {"scores/a": 1}, {"attempt": "first"})
        return snapshot(root, "runs").version, []

    def write(rows: Sequence[Row]) -> list[Action]:
        raise AssertionError(rows)

    heads = Heads(root, "runs", derive, write)
    assert heads.publish([], {"scores/a": 1}, {"attempt": "second"}) is None
    said = heads.get("scores/a", 1)
    assert said is not None
    assert said.note == {"attempt": "first"}
