"""`rm`, `restore`, `rename` and the rules of `gc` from the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tamis.store import Store
from tamis.store.datasets.packing import pack_digits
from tamis.store.selections import Request, RoundData

Tamis = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    dataset = store.datasets.add("base", pack_digits(tmp_path / "digits", test=True))
    for seed in range(3):
        request = Request(dataset, "random", 1, seed=seed)
        store.selections.publish(request, "some", [RoundData([seed, 5])], seconds=0.0)
    return store


def test_what_is_needed_is_named_and_stays(tamis: Tamis, store: Store) -> None:
    said = tamis("dataset", "rm", "base", "--dry-run", "--json")
    assert (said.code, said.json["removed"], len(said.json["needed_by"])) == (1, ["base@1"], 3)
    refused = tamis("dataset", "rm", "base", "--yes")
    assert (refused.code, refused.err.count("chooses from base@1")) == (1, 3)
    assert store.datasets.get("base").version == 1


def test_removed_restored_and_renamed(tamis: Tamis, store: Store) -> None:
    dry = tamis("selection", "rm", "some@2", "--dry-run", "--json").json
    assert (dry["dry_run"], dry["files"], dry["undo"]) == (True, 2, "tamis selection restore some@2")
    assert tamis("selection", "rm", "some@2").code == 0  # nobody to ask
    gone = tamis("selection", "show", "some@2")
    assert (gone.code, "tamis selection restore some@2" in gone.err) == (1, True)
    assert tamis("selection", "restore", "some@2", "--json").json == {"restored": ["some@2"]}
    renamed = tamis("selection", "rename", "some", "better", "--json").json
    assert renamed["selections"] == ["better@1", "better@2", "better@3"]
    assert "renamed to 'better'" in tamis("selection", "rm", "some").err


def test_rules(tamis: Tamis, store: Store) -> None:
    dry = tamis("gc", "--versions", 1, "--dry-run", "--json").json
    assert [one["ref"] for one in dry["retired"]] == ["some@1", "some@2"]
    assert tamis("gc", "--older-than", "1d", "--json").json["retired"] == []
    assert "2 old versions removed" in tamis("gc", "--versions", 1).out
    assert [one.ref for one in store.selections.all()] == ["some@3"]
    assert [tamis("gc", "--of", "runs").code, tamis("gc", "--older-than", "soon").code] == [2, 2]
