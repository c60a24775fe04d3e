"""Flipping labels: exact in number, never the own class, uniform, recorded, and nothing copied."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.flipping import flip
from tamis.store.datasets.packing import pack_samples
from tamis.store.errors import DatasetExists, DatasetNotFound, InvalidName, ShardError
from tamis.store.tables.preparing import layout_name
from tamis.store.upkeep.verify import verify


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([0, 1, 4, 7]), min_size=20, max_size=200).filter(lambda a: len(set(a)) > 1),
    st.integers(1, 19),
    st.integers(0, 99),
)
def test_flips_are_exact_and_never_to_the_own_class(labels: list[int], twentieths: int, seed: int) -> None:
    made = flip(labels, twentieths / 20, seed=seed)
    assert (made != labels).sum() == (twentieths * len(labels) + 10) // 20, "half a sample is rounded up"
    assert set(made.tolist()) <= set(labels), "a label is a class that there is"
    assert np.array_equal(made, flip(labels, twentieths / 20, seed=seed))


def test_the_thesis_counts() -> None:
    """Section 3.6.4: of CIFAR-10's 50,000, "1% (500 examples), 10% (5000 examples) and 20% (10000 examples)"."""
    labels = np.arange(50_000) % 10
    for share, count in ((0.01, 500), (0.1, 5_000), (0.2, 10_000)):
        made = flip(labels, share, seed=3)
        assert (made != labels).sum() == count
        turned = np.bincount((made - labels)[made != labels] % 10, minlength=10)
        spread = (turned[1:] - count / 9) / np.sqrt(count * (1 / 9) * (8 / 9))  # of a binomial, in its deviations
        assert turned[0] == 0
        assert abs(spread).max() < 4, "each of the other classes is as likely"
    assert (flip(labels, 0.1, seed=3) != flip(labels, 0.1, seed=4)).any()


@pytest.mark.parametrize(
    ("labels", "share", "seed", "said"),
    [
        ([0, 1], 0, 0, "Share 0"),
        ([0, 1], 1, 0, "Share 1"),
        ([0, 1], float("nan"), 0, "Share nan"),
        ([0, 1], 0.5, -1, "seed -1"),
        ([2, 2, 2], 0.5, 0, "1 class .first: .2.. among 3 labels"),
        ([-1, -1, 0], 0.5, 0, "expected class numbers from 0"),
        ([], 0.5, 0, "0 classes"),
        ([0, 1, 0], 0.1, 0, "is none of them"),
    ],
)
def test_what_cannot_be_flipped_is_refused(labels: list[int], share: float, seed: int, said: str) -> None:
    with pytest.raises(ShardError, match=said):
        flip(labels, share, seed=seed)


def test_the_derived_dataset_has_other_labels_and_the_same_bytes(store: Store, dataset: Dataset) -> None:
    before = {p: p.stat().st_mtime_ns for p in (Path(shard.uri) for shard in dataset.shards)}
    made = store.datasets.flip("digits", 0.1, seed=1)
    assert (made.ref, made.samples, made.classes, made.label) == ("digits-flipped@1", 1498, dataset.classes, "cls")
    assert made.keys() == dataset.keys()
    assert np.array_equal(made.locations().offset, dataset.locations().offset)
    flips = store.datasets.flipped("digits-flipped")
    wrong = np.flatnonzero(made.labels() != dataset.labels())
    assert len(wrong) == 150
    assert np.array_equal(flips.samples, wrong)
    assert np.array_equal(flips.before, dataset.labels()[wrong])
    assert (flips.source, flips.share, flips.seed) == ("digits@1", 0.1, 1)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert made.verify() == []
    assert verify(store).problems == []
    assert store.datasets.get("digits").key == dataset.key


def test_sql_sees_the_flips_and_where_they_came_from(store: Store, dataset: Dataset) -> None:
    store.datasets.flip("digits@1", 0.2, seed=1, name="noisy")
    found = store.query(
        """select f.sample, o.label as before, f.label from samples f join dataset_origins g using (dataset)
           join samples o on o.sample = f.sample and o.dataset = split_part(g.source, '@', 1)
           where f.dataset = 'noisy' and f.label <> o.label order by f.sample"""
    )
    flips, noisy = store.datasets.flipped("noisy"), store.datasets.get("noisy").labels()
    assert found["sample"].to_pylist() == flips.samples.tolist()
    assert found["before"].to_pylist() == flips.before.tolist()
    assert found["label"].to_pylist() == noisy[flips.samples].tolist()
    origin = store.query("select kind, source, source_key, params from dataset_origins").to_pylist()
    said = '{"flipped":300,"seed":1,"share":0.2}'
    assert origin == [{"kind": "flip", "source": "digits@1", "source_key": dataset.key, "params": said}]


def test_keys_cover_what_was_flipped_and_the_same_question_finds_it(store: Store, dataset: Dataset) -> None:
    made = store.datasets.flip("digits", 0.1, seed=1)
    assert store.datasets.flip("digits", 0.1, seed=1) == made
    others = [store.datasets.flip("digits", s, seed=n, name=f"n{n}") for s, n in ((0.1, 2), (0.2, 3))]
    assert len({one.key for one in (dataset, made, *others)}) == 4
    contents = [shard.content for one in (dataset, made, *others) for shard in one.shards]
    assert len(set(contents)) == len(contents), "scores of a relabelled shard are not those of the shard"
    with pytest.raises(DatasetExists, match=r"other samples or labels\. Nothing was written"):
        store.datasets.flip("digits", 0.1, seed=2)
    with pytest.raises(DatasetExists):
        store.datasets.add("digits-flipped", [shard.uri for shard in dataset.shards])
    assert Store.open(store.root.url).datasets.get("digits-flipped") == made


def test_a_shard_without_a_flip_stays_what_it_was(store: Store, dataset: Dataset) -> None:
    made = store.datasets.flip("digits", 0.001, seed=0)  # one sample
    same = [a.content == b.content for a, b in zip(made.shards, dataset.shards, strict=True)]
    assert sorted(same) == [False, *[True] * 4]
    assert [shard.is_relabelled for shard in made.shards] == [not one for one in same]


def test_parts_of_it_and_flips_of_parts(store: Store, dataset: Dataset) -> None:
    made = store.datasets.flip("digits", 0.5, seed=1)
    (half,) = store.datasets.split("digits-flipped", {"half": 0.5}, seed=1)
    assert half.relabelled, "its shards hold the old labels too"
    assert set(zip(half.keys(), half.labels().tolist(), strict=True)) < set(
        zip(made.keys(), made.labels().tolist(), strict=True)
    )
    store.datasets.split("digits", {"half": 0.5}, seed=1)
    again = store.datasets.flip("digits-half", 0.1)
    assert len(store.datasets.flipped(again.ref).samples) == round(0.1 * again.samples)
    assert store.datasets.flipped("digits-half-flipped").source == "digits-half@1"


def test_appended_samples_are_not_counted_as_flips(
    store: Store, dataset: Dataset, digits: dict[str, list[Path]]
) -> None:
    store.datasets.flip("digits", 0.1, seed=1)
    longer = store.datasets.add("digits-flipped", digits["test"], append=True)
    assert longer.samples == 1797
    assert len(store.datasets.flipped("digits-flipped@2").samples) == 150
    assert longer.relabelled


def test_datasets_that_have_no_flips_or_cannot_have(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="digits@1 was not made by flipping"):
        store.datasets.flipped("digits")
    with pytest.raises(DatasetNotFound, match="No dataset 'digit'"):
        store.datasets.flip("digit", 0.1)
    with pytest.raises(InvalidName):
        store.datasets.flip("digits", 0.1, name="no/name")
    numbers = [(f"k{i}", {"png": b"x", "txt": b"%d.5" % i}) for i in range(4)]
    shards = pack_samples(numbers, tmp_path / "numbers")
    for name, label in (("plain", None), ("learnt", "number:txt")):
        store.datasets.add(name, shards, label=label, image="png")
        with pytest.raises(ShardError, match=f"{name}@1 has no classes to flip"):
            store.datasets.flip(name, 0.5)


def test_a_store_without_the_table_has_no_origins(store: Store, dataset: Dataset) -> None:
    shutil.rmtree(Path(store.root.url) / "tables" / "dataset_origins")
    store.root.delete(layout_name("dataset_origins"))
    opened = Store.open(store.root.url)
    assert opened.datasets.get("digits").origin() is None
    assert opened.query("select count(*) as n from dataset_origins")["n"].to_pylist() == [0]
    assert len(opened.datasets.flipped(opened.datasets.flip("digits", 0.1).ref).samples) == 150
