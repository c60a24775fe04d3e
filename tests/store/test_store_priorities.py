"""Functions that are kept by name: versions, lineage, what a name that is none is told, and older stores."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tamis.store import Store
from tamis.store.errors import InvalidName, PriorityNotFound
from tamis.store.priorities import StoredPriority


def lines(*values: float) -> dict[str, Any]:
    return {"version": 1, "kind": "linear", "values": list(values), "points": [0, 0.5, 0.8, 1]}


def test_versions_never_change_and_the_same_function_is_the_same_version(store: Store) -> None:
    first = store.priorities.publish("mine", lines(0, 0.5, 0.5, 1))
    second = store.priorities.publish("mine", lines(1, 1, 1, 1), search="abcd", trial=3, stats={"value": 0.5})
    assert [first.ref, second.ref] == ["mine@1", "mine@2"]
    assert store.priorities.publish("mine", lines(0, 0.5, 0.5, 1)) == first
    assert store.priorities.get("mine") == second
    assert store.priorities.get("mine@1") == first
    assert store.priorities.all() == [first, second]
    other = store.priorities.publish("yours", lines(1, 1, 1, 1))
    assert other.key == second.key
    shown = store.query("select name, version, function->>'kind' as kind, search, trial from priorities order by all")
    assert shown.to_pylist() == [
        {"name": "mine", "version": 1, "kind": "linear", "search": None, "trial": None},
        {"name": "mine", "version": 2, "kind": "linear", "search": "abcd", "trial": 3},
        {"name": "yours", "version": 1, "kind": "linear", "search": None, "trial": None},
    ]


def test_what_is_not_there_is_told_with_what_is(store: Store) -> None:
    store.priorities.publish("flat", lines(1, 1, 1, 1))
    with pytest.raises(PriorityNotFound, match=r"there are: flat\. Did you mean 'flat'\?"):
        store.priorities.get("falt")
    with pytest.raises(PriorityNotFound, match="has versions 1 to 1, not 2"):
        store.priorities.get("flat@2")
    with pytest.raises(InvalidName, match="a priority"):
        store.priorities.publish("No Name", lines(1, 1, 1, 1))


def test_publishers_of_one_name_at_once_all_get_versions_of_their_own(store: Store) -> None:
    def publish(number: int) -> StoredPriority:
        return Store.open(store.root.url).priorities.publish("mine", lines(1, 1, 1, number / 8))

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(publish, range(8)))
    assert sorted(one.version for one in made) == list(range(1, 9))
    assert all(store.priorities.get(one.ref).function == one.function for one in made)


def test_a_store_from_before_has_none_and_takes_some(store: Store) -> None:
    folder = Path(store.root.url)
    for part in ("tables", "index"):
        shutil.rmtree(folder / part / "priorities", ignore_errors=True)
    opened = Store.open(folder)
    assert opened.priorities.all() == []
    with pytest.raises(PriorityNotFound, match="there are: none"):
        opened.priorities.get("mine")
    assert opened.query("select count(*) as n from priorities")["n"][0].as_py() == 0
    assert opened.priorities.publish("mine", lines(1, 1, 1, 1)).version == 1
    assert Store.open(folder).priorities.get("mine").version == 1
