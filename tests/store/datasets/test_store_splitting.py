"""Splitting: parts are exact, disjoint, stratified where asked, datasets of their own, and copy nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.splitting import deal
from tamis.store.errors import DatasetExists, ShardChanged, ShardError


@given(st.lists(st.integers(-1, 4), min_size=40, max_size=200), st.integers(1, 19), st.integers(0, 9))
def test_every_class_has_its_share_to_within_a_sample(labels: list[int], twentieths: int, seed: int) -> None:
    share = twentieths / 20
    assume(min(share, 1 - share) * len(labels) >= 6)  # no part is empty, though six classes each round down
    dealt = deal(len(labels), {"a": share, "b": 1 - share}, seed=seed, labels=labels)
    assert sorted([*dealt["a"], *dealt["b"]]) == list(range(len(labels))), "each sample is in one part"
    for name, wanted in (("a", share), ("b", 1 - share)):
        for each in set(labels):
            there, mine = labels.count(each), np.asarray(labels)[dealt[name]].tolist().count(each)
            assert abs(mine - wanted * there) < 1
    again = deal(len(labels), {"a": share, "b": 1 - share}, seed=seed, labels=labels)
    assert np.array_equal(again["a"], dealt["a"])


def test_shares_are_exact_and_what_is_left_is_in_no_part() -> None:
    dealt = deal(1000, {"train": 0.7, "validation": 0.2}, seed=3)
    assert [len(samples) for samples in dealt.values()] == [700, 200]
    assert not set(dealt["train"]) & set(dealt["validation"])
    assert set(dealt["train"]) != set(deal(1000, {"train": 0.7}, seed=4)["train"])


@pytest.mark.parametrize(
    ("into", "said"),
    [({"a": 0.7, "b": 0.4}, "add up to 1.1"), ({"a": 0}, "share of 'a' is 0"), ({"a": float("nan")}, "nan"), ({}, "0")],
)
def test_shares_that_are_none_are_refused(into: dict[str, float], said: str) -> None:
    with pytest.raises(ShardError, match=said):
        deal(10, into, seed=0)


def test_a_part_too_small_to_have_a_sample_is_refused() -> None:
    with pytest.raises(ShardError, match="would have none of the 10 samples"):
        deal(10, {"a": 0.9, "b": 0.001}, seed=0)


def test_parts_are_datasets_whose_samples_lie_where_they_lay(store: Store, dataset: Dataset) -> None:
    before = {p: p.stat().st_mtime_ns for p in (Path(shard.uri) for shard in dataset.shards)}
    train, validation = store.datasets.split("digits", {"train": 0.8, "validation": 0.2}, seed=1, stratify=True)
    assert (train.ref, validation.ref) == ("digits-train@1", "digits-validation@1")
    assert train.samples + validation.samples == dataset.samples
    assert sorted([*train.keys(), *validation.keys()]) == sorted(dataset.keys())
    whole = dict(zip(dataset.keys(), zip(*_places(dataset), strict=True), strict=True))
    for part in (train, validation):
        keys = part.keys()
        assert dict(zip(keys, zip(*_places(part), strict=True), strict=True)) == {key: whole[key] for key in keys}
        assert [s.first_sample for s in part.shards] == np.cumsum([0, *(s.count for s in part.shards)]).tolist()[:-1]
        assert part.verify() == []
    assert {p: p.stat().st_mtime_ns for p in before} == before
    counts = np.bincount(dataset.labels(), minlength=10)
    assert (abs(np.bincount(train.labels(), minlength=10) - 0.8 * counts) < 1).all()


def _places(dataset: Dataset) -> tuple[list[str], list[int], list[int], list[int]]:
    where = dataset.locations()
    uris = [dataset.shards[i].uri for i in where.shard.tolist()]
    return uris, where.offset.tolist(), where.size.tolist(), dataset.labels().tolist()


def test_keys_tell_parts_apart_and_the_same_question_finds_them(store: Store, dataset: Dataset) -> None:
    first = store.datasets.split("digits", {"a": 0.5, "b": 0.5}, seed=1)
    assert len({one.key for one in (*first, dataset)}) == 3
    contents = [shard.content for one in (*first, dataset) for shard in one.shards]
    assert len(set(contents)) == len(contents), "scores of a part's shard are not those of the shard"
    again = store.datasets.split("digits", {"a": 0.5, "b": 0.5}, seed=1)
    assert [one.key for one in again] == [one.key for one in first]
    with pytest.raises(DatasetExists, match="Nothing was written"):
        store.datasets.split("digits", {"c": 0.5, "b": 0.5}, seed=2)
    assert {row["dataset"] for row in store.datasets.all()} == {"digits", "digits-a", "digits-b"}


def test_whole_shards_are_no_answer_for_a_part(store: Store, dataset: Dataset) -> None:
    store.datasets.split("digits", {"half": 0.5}, seed=1)
    shards = [shard.uri for shard in dataset.shards]
    with pytest.raises(DatasetExists):
        store.datasets.add("digits-half", shards)
    with pytest.raises(ShardChanged, match="in part"):
        store.datasets.add("digits-half", shards, append=True)


def test_a_part_moves_with_its_shards(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    (half,) = store.datasets.split("digits", {"half": 0.5}, seed=1)
    copies = [tmp_path / Path(shard.uri).name for shard in dataset.shards]
    for copy, shard in zip(copies, dataset.shards, strict=True):
        copy.write_bytes(Path(shard.uri).read_bytes())
    moved, count = store.datasets.relocate("digits-half", copies)
    assert (count, moved.key) == (5, half.key)
    assert [shard.uri for shard in moved.shards] == [str(copy) for copy in copies]
