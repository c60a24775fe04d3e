"""What is published never changes, is found by its key, and can be said twice: datasets, selections, runs, blobs."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from storekit import counts, publish, shard, visible, write_tar

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import BlobCorrupt
from tamis.store.selections import Request, RoundData


def test_publishing_twice_answers_with_what_is_there(store: Store, dataset: Dataset) -> None:
    first = publish(store, dataset)
    before = visible(store)
    second = publish(store, dataset)
    assert (first.created, first.confirmed) == (True, None)
    assert (second.created, second.confirmed) == (False, True)
    assert second.selection == first.selection
    assert visible(store) == before


def test_another_answer_to_the_same_question_is_told_and_not_kept(store: Store, dataset: Dataset) -> None:
    first = publish(store, dataset, chosen=[1, 2, 3])
    others = [[1, 2, 4], [3, 2, 1], [1, 2], [1, 2, 3, 4]]
    for chosen in others:
        again = publish(store, dataset, chosen=chosen)
        assert (again.created, again.confirmed) == (False, False), chosen
    heavier = publish(store, dataset, rounds=[RoundData([1, 2, 3], [1.0, 2.0, 1.0])])
    later = publish(store, dataset, rounds=[RoundData([1, 2, 3], first_epoch=1)])
    longer = publish(store, dataset, rounds=[RoundData([1, 2, 3]), RoundData([4], first_epoch=1)])
    assert [p.confirmed for p in (heavier, later, longer)] == [False, False, False]
    assert store.selections.get("some").round_at(0)[0].tolist() == [1, 2, 3]
    assert counts(store)["selections"] == 1
    assert first.selection == store.selections.get("some@1")


def test_a_second_name_shares_the_samples(store: Store, dataset: Dataset) -> None:
    first = publish(store, dataset, "one")
    second = publish(store, dataset, "two")
    assert (second.created, second.confirmed) == (True, True)
    assert (second.selection.ref, second.selection.key) == ("two@1", first.selection.key)
    assert store.selections.get("two").round_at(0)[0].tolist() == [2, 0, 1]
    assert (counts(store)["selections"], counts(store)["selection_samples"]) == (2, 3)
    assert publish(store, dataset, "two").selection == second.selection
    assert store.selections.get(first.selection.key).ref == "one@1"


def test_other_content_under_a_name_makes_the_next_version(store: Store, dataset: Dataset) -> None:
    refs = [publish(store, dataset, seed=seed, chosen=[seed]).selection.ref for seed in range(4)]
    assert refs == ["some@1", "some@2", "some@3", "some@4"]
    assert publish(store, dataset, seed=1).selection.ref == "some@2"
    assert [store.selections.get(ref).round_at(0)[0].tolist() for ref in refs] == [[0], [1], [2], [3]]
    assert store.selections.get("some").ref == "some@4"
    assert [s.ref for s in store.selections.all()] == refs


def test_a_key_is_what_was_asked(store: Store, dataset: Dataset) -> None:
    asked = Request(dataset, "m", 1, {"a": 1, "b": 0.5}, ["x"])
    assert asked.key == replace(asked, params={"b": 0.5, "a": 1}).key
    others: list[dict[str, Any]] = [
        {"method": "n"}, {"version": 2}, {"params": {"a": 2, "b": 0.5}}, {"inputs": ["y"]}, {"inputs": []}, {"seed": 1},
    ]  # fmt: skip
    assert len({asked.key, *(replace(asked, **other).key for other in others)}) == 7


def test_weights_ranks_and_rounds_come_back_as_they_were(store: Store, dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    rounds = [
        RoundData(
            rng.permutation(1498)[: 100 + i], rng.random(100 + i).astype(np.float32), first_epoch=7 * i, objective=i
        )
        for i in range(3)
    ]
    publish(store, dataset, rounds=rounds)
    selection = store.selections.get("some")
    for epoch, expected in ((0, 0), (6, 0), (7, 1), (13, 1), (14, 2), (999, 2)):
        samples, weights = selection.round_at(epoch)
        assert np.array_equal(samples, np.asarray(rounds[expected].samples))
        assert np.array_equal(weights, np.asarray(rounds[expected].weights))
    assert [(r.first_epoch, r.size, r.objective) for r in selection.rounds] == [(0, 100, 0), (7, 101, 1), (14, 102, 2)]
    for each, (samples, weights) in zip(rounds, selection.read_rounds(), strict=True):
        assert np.array_equal(samples, np.asarray(each.samples))
        assert np.array_equal(weights, np.asarray(each.weights))


def test_difference(store: Store, dataset: Dataset) -> None:
    one = publish(store, dataset, "one", rounds=[RoundData([5, 1, 2], [1, 2, 3])]).selection
    two = publish(store, dataset, "two", seed=1, rounds=[RoundData([2, 7, 5, 9], [3, 0, 1, 0])]).selection
    found = store.selections.diff(one, two)
    assert (found.both.tolist(), found.only_first.tolist(), found.only_second.tolist()) == ([2, 5], [1], [7, 9])
    assert found.jaccard == pytest.approx(2 / 5)
    assert found.weight_correlation == pytest.approx(1)
    even = publish(store, dataset, "even", seed=2, rounds=[RoundData([1, 2, 5], [0.1] * 3)]).selection
    assert store.selections.diff(one, even).weight_correlation is None  # equal weights correlate with nothing


def test_adding_the_same_shards_again(store: Store, dataset: Dataset, digits: dict[str, list[Path]]) -> None:
    before = visible(store)
    assert store.datasets.add("digits", digits["train"]) == dataset
    assert store.datasets.add("digits", digits["train"], append=True) == dataset
    assert store.datasets.add("digits", digits["train"][:2], append=True) == dataset
    assert store.datasets.add("digits", digits["train"], digests=False) == dataset
    assert visible(store) == before


def test_appending_keeps_numbers_and_leaves_the_old_version_alone(
    store: Store, dataset: Dataset, digits: dict[str, list[Path]]
) -> None:
    labels, keys, places = dataset.labels(), dataset.keys(), dataset.locations()
    longer = store.datasets.add("digits", [*digits["train"], *digits["test"]], append=True)
    assert (longer.ref, longer.samples, dataset.samples) == ("digits@2", 1797, 1498)
    assert longer.key != dataset.key
    assert longer.shards[:5] == dataset.shards
    assert np.array_equal(longer.labels()[:1498], labels)
    assert longer.keys()[:1498] == keys
    assert np.array_equal(longer.locations().offset[:1498], places.offset)
    old = store.datasets.get("digits@1")
    assert (old, old.keys(), old.labels().tolist()) == (dataset, keys, labels.tolist())
    assert store.datasets.get("digits") == longer
    assert store.datasets.add("digits", digits["train"]) == dataset
    assert store.datasets.add("digits", [*digits["train"], *digits["test"]]) == longer


def test_same_content_has_the_same_key_wherever_it_lies(
    tmp_path: Path, store: Store, dataset: Dataset, digits: dict[str, list[Path]]
) -> None:
    copies = [Path(shutil.copy(path, tmp_path / path.name)) for path in digits["train"]]
    assert store.datasets.add("copy", copies).key == dataset.key
    assert store.datasets.add("part", copies[:2]).key != dataset.key
    assert store.datasets.add("unlabelled", copies, label=None).key != dataset.key


def test_dataset_comes_back_as_it_was_added(dataset: Dataset, store: Store) -> None:
    again = Store.open(store.root.url).datasets.get("digits@1")
    assert again == dataset
    assert again.keys([1497, 0]) == [dataset.keys()[1497], dataset.keys()[0]]
    assert pickle.loads(pickle.dumps(again)).labels().tolist() == dataset.labels().tolist()  # noqa: S301  # our own
    row = store.datasets.all()[0]
    assert (row["dataset"], row["version"], row["samples"], row["shards"]) == ("digits", 1, 1498, 5)
    assert "attempt" not in row


def test_store_moves_as_a_whole_with_the_shards_inside_it(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "here")
    path = shard(tmp_path / "here" / "a.tar", "abc")
    outside = shard(tmp_path / "b.tar", "xyz")
    store.datasets.add("d", [path, outside])
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = Store.open(tmp_path / "there").datasets.get("d")
    assert [s.uri for s in moved.shards] == [str(tmp_path / "there" / "a.tar"), str(outside)]
    assert moved.verify() == []
    assert Store.open(tmp_path / "there").query("select count(*) as n from samples")["n"][0].as_py() == 6


def test_run_is_final_with_its_first_end(store: Store, dataset: Dataset) -> None:
    blob = store.blobs.put(b"weights")
    key = "c0ffee" + "0" * 26
    store.runs.begin(kind="train", key=key, dataset=dataset.ref, model="resnet20", config={"epochs": 2})
    store.runs.fail(key, "no luck")
    assert store.runs.find(key) is None
    assert store.runs.get(key).error == "no luck"
    store.runs.begin(kind="train", key=key, dataset=dataset.ref, model="resnet20", config={"epochs": 2})
    first = store.runs.finish(key, metrics={"accuracy": 0.5}, seconds={"train": 1.0}, model=blob)
    second = store.runs.finish(key, metrics={"accuracy": 0.9})
    store.runs.fail(key, "too late")
    assert first == second == store.runs.find(key) == store.runs.get("c0ffee")
    assert (first.metrics, first.blob, first.error) == ({"accuracy": 0.5}, blob, None)


def test_run_named_by_its_first_characters_is_that_run(store: Store, dataset: Dataset) -> None:
    key = "c0ffee" + "0" * 26
    store.runs.begin(kind="train", key=key, dataset=dataset.ref)
    store.runs.fail("c0ff", "no luck")
    store.runs.finish("c0ff", metrics={"accuracy": 0.5})
    assert [(r.key, r.status) for r in store.runs.all()] == [(key, "finished")]


def test_scores_are_those_of_the_first_whole_pass(store: Store, dataset: Dataset) -> None:
    store.runs.begin(kind="score", key="aaaa1", dataset=dataset.ref)
    store.runs.put_scores("aaaa1", {"entropy": [0.1, 0.2], "margin": [1.0, 2.0]}, [1, 0])
    store.runs.put_scores("aaaa1", {"entropy": [9.0, 9.0]}, [0, 1])
    store.runs.finish("aaaa1")
    assert store.runs.scores("aaaa1", "entropy", 2).tolist() == [0.2, 0.1]
    assert store.runs.scores("aaaa1", "margin", 2).tolist() == [2.0, 1.0]


def test_score_batches_and_what_goes_wrong_in_them(store: Store, dataset: Dataset) -> None:
    class Unlucky(Exception):
        pass

    def batches(whole: bool):
        for first in range(0, 30, 10):
            yield {"entropy": np.arange(first, first + 10) / 2}, np.arange(first, first + 10)
        if not whole:
            raise Unlucky("sample 30 cannot be decoded")

    store.runs.begin(kind="score", key="aaaa1", dataset=dataset.ref)
    with pytest.raises(Unlucky, match="sample 30"):
        store.runs.put_score_batches("aaaa1", batches(whole=False))
    store.runs.put_score_batches("aaaa1", batches(whole=True))
    store.runs.finish("aaaa1")
    assert store.runs.scores("aaaa1", "entropy", 30).tolist() == (np.arange(30) / 2).tolist()


def test_losses_of_an_epoch_replace_what_was_there(store: Store, dataset: Dataset) -> None:
    store.runs.begin(kind="train", key="aaaa1", dataset=dataset.ref)
    store.runs.begin(kind="train", key="bbbb1", dataset=dataset.ref)
    for run in ("aaaa1", "bbbb1"):
        for epoch in range(3):
            store.runs.put_losses(run, epoch, np.arange(5), np.full(5, epoch), loss_epoch=max(0, epoch - 1))
    store.runs.put_losses("aaaa1", 1, [4, 2], [7.0, 8.0], [1, 0], [0.5, 0.25], [True, False])
    rows = store.query("select * from losses where run = 'aaaa1' and epoch = 1 order by sample").to_pylist()
    common = {"run": "aaaa1", "epoch": 1, "correct": None}
    assert rows == [
        {**common, "sample": 2, "loss": 8.0, "loss_epoch": 0, "staleness": 1, "probability": 0.25, "selected": False},
        {**common, "sample": 4, "loss": 7.0, "loss_epoch": 1, "staleness": 0, "probability": 0.5, "selected": True},
    ]
    assert counts(store)["losses"] == 5 + 2 + 5 + 15


def test_blobs_are_kept_once_and_verified(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    digests = {store.blobs.put(b"weights"), store.blobs.put(tmp_path / "file"), store.blobs.put(b"weights")}
    assert len(digests) == 1
    digest = digests.pop()
    assert store.blobs.get(digest) == b"weights"
    assert store.blobs.exists(digest)
    assert not store.blobs.exists("0" * 64)
    assert [size for _, size in store.root.list("blobs")] == [7]
    assert store.blobs.get(store.blobs.put(b"")) == b""


@pytest.mark.parametrize("data", [b"weightz", b"weight", b"", b"weights and more"])
def test_damaged_blob_is_refused(store: Store, data: bytes) -> None:
    digest = store.blobs.put(b"weights")
    (Path(store.root.url) / "blobs" / digest[:2] / digest).write_bytes(data)
    with pytest.raises(
        BlobCorrupt, match=rf"{digest}.*does not match its digest.*\({len(data)} bytes\).*Restore the file"
    ):
        store.blobs.get(digest)


def test_named_files(store: Store) -> None:
    root = store.root
    assert root.get("parts/a") is None
    assert root.put_new("parts/a", b"1")
    assert not root.put_new("parts/a", b"2")
    assert root.get("parts/a") == b"1"
    root.put("parts/a", b"33")
    root.put("parts/b/c", b"")
    assert root.list("parts") == [("parts/a", 2), ("parts/b/c", 0)]
    root.delete("parts/a")
    root.delete("parts/a")
    assert (root.exists("parts/a"), root.exists("parts/b/c"), root.list("nothing")) == (False, True, [])


def test_heads_stay_few_files_and_keep_their_history(store: Store, tmp_path: Path) -> None:
    dataset = store.datasets.add("d", [write_tar(tmp_path / "a.tar", [("a.png", b""), ("a.cls", b"1")])])
    for number in range(70):
        store.runs.begin(kind="train", key=f"run{number}", dataset=dataset.ref)
    assert len(store.tables.open("runs").file_uris()) < 20
    assert len(store.runs.all()) == 70
    assert store.query("select count(*) as n from runs", at={"runs": 30})["n"][0].as_py() == 30
