"""Selections that are removed, restored and renamed: what is found, what is refused, and what the past shows."""

import shutil
from pathlib import Path

import pytest
from storekit import counts, publish, shard

from tamis.store import Store, mapped
from tamis.store.datasets import Dataset
from tamis.store.errors import InvalidName, NotFound, RestoreRefused, SelectionNotFound, StillNeeded
from tamis.store.selections import Request, RoundData
from tamis.store.upkeep.verify import verify


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Dataset:
    return store.datasets.add("base", [shard(tmp_path / "base.tar", "abcde")])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def refs(store: Store) -> list[str]:
    return [one.ref for one in store.selections.all()]


def test_removed_is_gone_now_and_there_in_the_past(store: Store, base: Dataset) -> None:
    key = publish(store, base).selection.key
    publish(store, base, seed=1)
    before, versions = counts(store), store.tables.versions()
    said = store.selections.remove("some@1")
    assert (said.removes, said.needed_by, said.files, said.undo) == (
        ("some@1",), (), 2, "tamis selection restore some@1",
    )  # fmt: skip
    assert (refs(store), store.selections.find(key)) == (["some@2"], None)
    with pytest.raises(SelectionNotFound, match=r"some@1 was removed.*restore some@1"):
        store.selections.get("some@1")
    after = counts(store)
    assert (after["selections"], after["selection_rounds"], after["selection_samples"]) == (1, 1, 3)
    shown = store.query("select name, version from selections order by version", at=versions).to_pylist()
    assert [row["version"] for row in shown] == [1, 2]
    rows = store.query("select count(*) as n from selection_samples", at={"selections": versions["selections"]})
    assert rows["n"].to_pylist() == [before["selection_samples"]]


def test_numbers_are_never_given_again_and_questions_are_computed_anew(store: Store, base: Dataset) -> None:
    publish(store, base)
    store.selections.remove("some")
    again = publish(store, base, chosen=(4, 3))
    assert (again.created, again.confirmed, again.selection.ref) == (True, None, "some@2")
    assert store.selections.get(again.selection.key).round_at(0)[0].tolist() == [4, 3]
    with pytest.raises(RestoreRefused, match="computed anew as some@2"):
        store.selections.restore("some@1")


def test_restored_is_as_it_was(store: Store, base: Dataset) -> None:
    made = publish(store, base).selection
    before = counts(store)
    store.selections.remove("some")
    assert store.selections.restore("some") == ["some@1"]
    assert (counts(store), store.selections.get(made.key).ref) == (before, "some@1")
    assert publish(store, base).confirmed
    with pytest.raises(NotFound, match=r"nothing.*removed"):
        store.selections.restore("some")


def test_a_key_stays_with_its_other_name(store: Store, base: Dataset) -> None:
    key = publish(store, base).selection.key
    publish(store, base, "other")
    assert store.selections.removal("some").files == 0
    store.selections.remove("some")
    assert store.selections.get(key).ref == "other@1"
    assert publish(store, base, "third").selection.ref == "third@1"
    assert store.selections.restore("some") == ["some@1"]
    assert refs(store) == ["other@1", "some@1", "third@1"]
    for name in ("other", "some", "third"):
        store.selections.remove(name)
    assert store.selections.find(key) is None
    assert counts(store)["selection_samples"] == 0


def test_renamed_keeps_versions_and_pinned_references(store: Store, base: Dataset) -> None:
    publish(store, base)
    publish(store, base, seed=1)
    assert store.selections.rename("some", "better") == ["better@1", "better@2"]
    assert (store.selections.get("better").ref, store.selections.get("some@1").ref) == ("better@2", "better@1")
    for refused in (lambda: store.selections.get("some"), lambda: store.selections.remove("some")):
        with pytest.raises(SelectionNotFound, match="renamed to 'better'"):
            refused()
    with pytest.raises(InvalidName, match="renamed to 'better'"):
        publish(store, base, seed=2)
    assert publish(store, base, "better", seed=2).selection.ref == "better@3"
    names = store.query("select distinct name from selections")["name"].to_pylist()
    assert names == ["better"]
    publish(store, base, "taken", seed=3)
    with pytest.raises(InvalidName, match="name of another"):
        store.selections.rename("better", "taken")
    with pytest.raises(InvalidName, match="leave out '@'"):
        store.selections.rename("better@2", "some")
    assert store.selections.rename("better", "some") == ["some@1", "some@2", "some@3"]
    assert store.selections.get("better@3").ref == "some@3"


def test_what_trains_on_it_keeps_it(store: Store, base: Dataset) -> None:
    key = publish(store, base).selection.key
    store.runs.begin(kind="train", key="run1", dataset=base.ref, selection=key)
    store.runs.finish("run1")
    said = store.selections.removal("some")
    assert said.needed_by == (f"run run1 (train, finished) trains on selection {key[:12]}",)
    with pytest.raises(StillNeeded, match=r"run1.*Nothing was removed"):
        store.selections.remove("some")
    publish(store, base, "other")  # now another name has it
    store.selections.remove("some")
    assert refs(store) == ["other@1"]
    store.runs.remove("run1")
    store.selections.remove("other")
    with pytest.raises(SelectionNotFound, match="removed meanwhile"):
        store.runs.begin(kind="train", key="run2", dataset=base.ref, selection=key)


def test_a_selection_from_removed_scores_is_refused(store: Store, base: Dataset) -> None:
    for run in ("a" * 32, "b" * 32):
        store.runs.begin(kind="score", key=run, dataset=base.ref)
        store.runs.put_scores(run, {"entropy": [1, 2, 3, 4, 5]}, range(5))
        store.runs.finish(run)
    store.runs.remove("a" * 32)

    def ask(run: str) -> str:
        request = Request(base, "uncertainty", 1, inputs=[run])
        return store.selections.publish(request, "sharp", [RoundData([1, 0])], seconds=0.0).selection.ref

    with pytest.raises(NotFound, match=r"Run a+ was removed meanwhile"):
        ask("a" * 32)
    assert ask("b" * 32) == "sharp@1"
    with pytest.raises(StillNeeded, match=r"sharp@1 was made from run b+"):
        store.runs.remove("b" * 32)
    assert (refs(store), counts(store)["selection_samples"]) == (["sharp@1"], 2)


def test_an_index_that_is_made_again_says_the_same(store: Store, base: Dataset) -> None:
    for seed in range(3):
        publish(store, base, seed=seed)
        publish(store, base, "other", seed=seed)
    store.selections.remove("some@1")
    store.selections.remove("other@1")
    publish(store, base, seed=0)
    store.selections.remove("some@2")
    store.selections.rename("other", "new")
    before = [(one.ref, one.key, store.selections.get(one.key).ref) for one in store.selections.all()]
    shutil.rmtree(store.root.path / "index" / "selections")  # pyright: ignore[reportOptionalOperand] - a folder
    fresh = Store.open(store.root.path or "")
    assert [(one.ref, one.key, fresh.selections.get(one.key).ref) for one in fresh.selections.all()] == before
    assert publish(fresh, base, seed=0).confirmed
    assert publish(fresh, base, "new", seed=5).selection.ref == "new@4"
    assert verify(fresh).problems == []


def test_copies_for_streams_are_those_of_what_is_there(store: Store, base: Dataset) -> None:
    made = publish(store, base).selection
    assert mapped.chosen(store.root, made, 0)["sample"].to_pylist() == [2, 0, 1]
    store.selections.remove("some")
    again = publish(store, base, chosen=(4, 3)).selection
    assert again.key == made.key
    assert mapped.chosen(store.root, again, 0)["sample"].to_pylist() == [4, 3]
