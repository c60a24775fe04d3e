"""Names, versions, folders, formats and numbers that a store cannot take: the class, the culprit, the remedy."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from storekit import counts, publish, shard

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_samples
from tamis.store.errors import (
    BlobNotFound,
    DatasetNotFound,
    InvalidName,
    NotFound,
    NotJSON,
    QueryError,
    RunNotFound,
    SelectionError,
    SelectionNotFound,
    StoreExists,
    StoreFormatError,
    StoreNotFound,
    TamisError,
)
from tamis.store.keys import canonical, key_of
from tamis.store.selections import RoundData
from tamis.store.sql.query import parse_at

NAMES = ["", "Capital", "with space", "-dash", ".dot", "a/b", "../up", "ünï", "a" * 101, "a@1", "a'b", "a\n"]


@pytest.fixture
def small(store: Store, tmp_path: Path) -> Dataset:
    """small@1: ten samples."""
    return store.datasets.add("small", [shard(tmp_path / "small.tar", "abcdefghij")])


@pytest.mark.parametrize("name", NAMES)
def test_invalid_names_are_refused_before_anything_is_written(store: Store, small: Dataset, name: str) -> None:
    before = counts(store)
    for work in (
        lambda: store.datasets.add(name, ["x.tar"]),
        lambda: publish(store, small, name),
        lambda: store.runs.begin(kind="train", key=name, dataset=small.ref),
        lambda: store.runs.put_losses(name, 0, [0], [0.0], 0),
        lambda: store.runs.put_scores(name, {"entropy": [0.0]}, [0]),
    ):
        with pytest.raises(InvalidName, match=r"is an invalid name for a .*: use 1 to 100 of a-z, 0-9"):
            work()
    assert counts(store) == before


@pytest.mark.parametrize("ref", ["small@", "small@0", "small@-1", "small@x", "small@1.0", "small@²", "small@1@2"])
def test_invalid_refs(store: Store, small: Dataset, ref: str) -> None:
    for get in (store.datasets.get, store.selections.get):
        with pytest.raises(InvalidName, match=r"after '@' comes a version, 1 or more, as in small@2"):
            get(ref)


def test_unknown_dataset_lists_what_there_is(store: Store, small: Dataset, tmp_path: Path) -> None:
    store.datasets.add("other", [shard(tmp_path / "other.tar", "xyz")])
    with pytest.raises(DatasetNotFound, match=r"No dataset 'smal' in .*; there are: other, small\.") as caught:
        store.datasets.get("smal")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, NotFound)


def test_unknown_dataset_version_lists_the_versions(store: Store, small: Dataset) -> None:
    with pytest.raises(DatasetNotFound, match="'small' has versions 1 to 1, not 7"):
        store.datasets.get("small@7")


def test_unknown_selection_lists_what_there_is(store: Store, small: Dataset) -> None:
    with pytest.raises(SelectionNotFound, match=r"No selection 'some' in .*; there are: none\."):
        store.selections.get("some")
    publish(store, small, "best")
    publish(store, small, "best", seed=1)
    with pytest.raises(SelectionNotFound, match=r"No selection 'some' in .*; there are: best\."):
        store.selections.get("some")
    with pytest.raises(SelectionNotFound, match="'best' has versions 1 to 2, not 3"):
        store.selections.get("best@3")


def test_unknown_run(store: Store, small: Dataset) -> None:
    store.runs.begin(kind="train", key="aaaa1", dataset=small.ref)
    store.runs.begin(kind="train", key="aaaa2", dataset=small.ref)
    for key, message in (
        ("bbbb", r"names 0 runs \(none\)"),
        ("aaaa", r"names 2 runs \(aaaa1, aaaa2\)"),
        ("aaa", "0 runs"),
    ):
        with pytest.raises(RunNotFound, match=rf"'{key}' {message if key != 'aaa' else 'names 0 runs'}.*4 or more"):
            store.runs.get(key)
    assert store.runs.find("aaaa1") is None


def test_scores_of_an_unfinished_run_or_an_unknown_metric(store: Store, small: Dataset) -> None:
    store.runs.begin(kind="score", key="aaaa1", dataset=small.ref)
    store.runs.put_scores("aaaa1", {"entropy": np.arange(10.0)}, np.arange(10))
    with pytest.raises(RunNotFound, match=r"aaaa1 is not finished.*Run the scoring again"):
        store.runs.scores("aaaa1", "entropy", 10)
    store.runs.finish("aaaa1")
    with pytest.raises(RunNotFound, match="no metric 'margin'; it has: entropy"):
        store.runs.scores("aaaa1", "margin", 10)
    with pytest.raises(
        SelectionError, match=r"10 scores of 'entropy' where the dataset has 11 samples.*Score this version"
    ):
        store.runs.scores("aaaa1", "entropy", 11)


def test_scores_that_are_not_finite_are_kept_apart(store: Store, small: Dataset) -> None:
    store.runs.begin(kind="score", key="aaaa1", dataset=small.ref)
    values = np.array([0.5, np.nan, np.inf, -np.inf, 1e-300, -0.0, 1e300, 0.1, 0.2, 0.3])
    store.runs.put_scores("aaaa1", {"entropy": values}, np.arange(10))
    store.runs.finish("aaaa1")
    found = store.runs.scores("aaaa1", "entropy", 10)
    finite = np.isfinite(values)
    assert np.array_equal(np.isfinite(found), finite)
    assert np.array_equal(found[finite], values[finite])
    ranked = store.query("select sample from scores where value is not null order by value desc limit 2")
    assert ranked["sample"].to_pylist() == [6, 0]


ROUNDS: dict[str, tuple[list[RoundData], str]] = {
    "no rounds": ([], "at least one round"),
    "no samples": ([RoundData([])], r"Round 0 must list sample numbers \(integers, at least one\)"),
    "samples that are no integers": ([RoundData([0.5, 1.0])], r"integers, at least one\), not float64 \(2,\)"),
    "samples in a square": ([RoundData(np.zeros((2, 2), int))], r"not int64 \(2, 2\)"),
    "a sample twice": ([RoundData([1, 2, 1])], "Round 0 names 1 samples twice"),
    "a sample too high": ([RoundData([1, 10])], "names sample 10: the dataset has samples 0 to 9"),
    "a sample below 0": ([RoundData([1, -1])], "names sample -1: the dataset has samples 0 to 9"),
    "a bad second round": ([RoundData([1]), RoundData([11], first_epoch=3)], "Round 1 names sample 11"),
    "too few weights": ([RoundData([1, 2], [1.0])], r"one finite weight a sample, not \(1,\)"),
    "a NaN weight": ([RoundData([1, 2], [1.0, np.nan])], "one finite weight a sample"),
    "an infinite weight": ([RoundData([1, 2], [1.0, np.inf])], "one finite weight a sample"),
    "rounds out of order": (
        [RoundData([1], first_epoch=5), RoundData([1], first_epoch=2)],
        r"\[5, 2\]: they must rise",
    ),
    "two rounds at once": ([RoundData([1]), RoundData([2])], r"\[0, 0\]: they must rise"),
    "a round before the first epoch": ([RoundData([1], first_epoch=-1)], r"\[-1\]: they must rise, from 0"),
}


@pytest.mark.parametrize("case", ROUNDS)
def test_selection_that_breaks_the_format(store: Store, small: Dataset, case: str) -> None:
    rounds, message = ROUNDS[case]
    with pytest.raises(SelectionError, match=message) as caught:
        publish(store, small, rounds=rounds)
    assert isinstance(caught.value, ValueError)
    assert counts(store)["selections"] == 0
    assert store.tables.open("selection_samples").to_pyarrow_dataset().count_rows() == 0


def test_epoch_before_the_first_round(store: Store, small: Dataset) -> None:
    selection = publish(store, small, rounds=[RoundData([1], first_epoch=4)]).selection
    with pytest.raises(SelectionError, match="some@1 begins at epoch 4 and has no round at epoch 3"):
        selection.round_at(3)


def test_difference_of_selections_from_different_datasets(store: Store, small: Dataset, tmp_path: Path) -> None:
    other = store.datasets.add("other", [shard(tmp_path / "other.tar", "xyz")])
    one, two = publish(store, small, "one").selection, publish(store, other, "two").selection
    with pytest.raises(SelectionError, match=r"one@1 chooses from small@1, two@1 from other@1.*of one dataset"):
        store.selections.diff(one, two)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"b": float("nan")}]}, r"\$\.a\[1\]\.b is nan"),
        ({"a": float("inf")}, r"\$\.a is inf"),
        ({1: "a"}, r"\$ has the key 1"),
        ({"a": np.int64(1)}, r"\$\.a is a int64"),
        ({"a": Path("x")}, r"\$\.a is a PosixPath"),
        ({"a": {1, 2}}, r"\$\.a is a set"),
        (b"x", r"\$ is a bytes"),
    ],
)
def test_keys_take_plain_json_only(value: object, where: str) -> None:
    with pytest.raises(NotJSON, match=where) as caught:
        canonical(value)
    assert isinstance(caught.value, TypeError)


def test_keys_depend_on_content_and_kind_alone() -> None:
    assert key_of("a", {"x": 1, "y": [1, 2]}) == key_of("a", {"y": (1, 2), "x": 1})
    different = [key_of("a", {"x": 1}), key_of("b", {"x": 1}), key_of("a", {"x": 1.0}), key_of("a", {"x": True})]
    assert len({*different, key_of("a", {"x": "1"}), key_of("a", {"x": None}), key_of("a", {})}) == 7


def test_blob_that_is_not_there(store: Store) -> None:
    with pytest.raises(BlobNotFound, match=r"No blob 0{64} in .*another store"):
        store.blobs.get("0" * 64)
    for digest in ("", "xyz", "../../etc/passwd", "A" * 64):
        with pytest.raises(BlobNotFound, match="is not a digest: expected 64 hex characters"):
            store.blobs.get(digest)


def test_store_at_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    refused: list[tuple[Callable[[], object], type[TamisError], str]] = [
        (lambda: Store.open(path), StoreNotFound, "is a file: a store is a folder"),
        (lambda: Store.create(path), StoreExists, "is a file: .*Choose another location"),
        (lambda: Store.open_or_create(path), StoreNotFound, "is a file: a store is a folder"),
        (lambda: Store.create(path / "below"), StoreExists, "a file or inside one. Choose another location"),
    ]
    for work, kind, message in refused:
        with pytest.raises(kind, match=message):
            work()
    assert path.read_text() == "x"


def test_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match=r"No store at .*Create one with: `tamis --store .*nowhere init`") as caught:
        Store.open(tmp_path / "nowhere")
    assert isinstance(caught.value, FileNotFoundError)
    assert not (tmp_path / "nowhere").exists()


def test_store_that_is_there_already(store: Store) -> None:
    with pytest.raises(StoreExists, match="is already a store: open it"):
        Store.create(store.root.url)


def test_store_at_an_unknown_scheme() -> None:
    with pytest.raises(TamisError, match=r"'ftp://x/y': a store is a folder or a URL with s3://, gs://, az://"):
        Store.open("ftp://x/y")


@pytest.mark.parametrize("name", ["100%25", "what?", "st*r", "[a]", "a\\b", "run=5", "dataset=x"])
def test_store_in_a_folder_that_table_readers_take_for_a_pattern(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidName, match=r"cannot hold a store.*Choose or make a folder without it"):
        Store.create(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["with space", "ünïcode", "it's", 'say "x"', "a#b", "a&b=c;d", "{a,b}", "~x", "lr=0.1"]
)
def test_store_in_a_folder_with_an_odd_name(tmp_path: Path, name: str) -> None:
    store = Store.create(tmp_path / name / "store")
    dataset = store.datasets.add("d", [shard(tmp_path / name / "a.tar", "abc")])
    publish(store, dataset)
    store.blobs.put(b"blob")
    again = Store.open(tmp_path / name / "store")
    assert again.selections.get("some").round_at(0)[0].tolist() == [2, 0, 1]
    assert again.query("select key from samples join selection_samples using (sample) order by rank").to_pylist() == [
        {"key": "c"}, {"key": "a"}, {"key": "b"},
    ]  # fmt: skip
    assert len(again.root.list("blobs")) == 1


@pytest.mark.parametrize(("version", "remedy"), [(0, "Open it with the tamis that wrote it"), (3, "Upgrade tamis")])
def test_store_of_another_format(store: Store, version: int, remedy: str) -> None:
    store.root.put("tamis.json", json.dumps({"format": version}).encode())
    for work in (Store.open, Store.open_or_create):
        with pytest.raises(
            StoreFormatError, match=rf"is a store of format {version}; .* reads formats 1 to 2\. {remedy}"
        ):
            work(store.root.url)


@pytest.mark.parametrize("mark", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b'{"version": 1}'])
def test_damaged_mark(store: Store, mark: bytes) -> None:
    store.root.put("tamis.json", mark)
    with pytest.raises(StoreFormatError, match=r'tamis\.json is damaged: .*It should read \{"format": 2\}'):
        Store.open(store.root.url)


def test_table_that_is_gone(store: Store, small: Dataset) -> None:
    folder = Path(store.root.table_uri("selections"))
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(StoreFormatError, match=r"Table selections of .* is damaged: its log is missing"):
        store.selections.all()
    assert store.datasets.get("small").samples == 10


def test_states_that_never_were(store: Store, small: Dataset) -> None:
    for at, message in (
        ({"datasets": 99}, "Table datasets has no state at version 99: it has 0 to 1"),
        ({"nope": 1}, "No table 'nope'; there are: datasets, shards"),
        ({"datasets": -1}, "Table datasets has no state at version -1"),
    ):
        with pytest.raises(QueryError, match=message):
            store.query("select * from datasets", at=at)


@pytest.mark.parametrize("text", ["yesterday", "scores", "scores=x", "nope=1", "scores=1,,runs=2", ""])
def test_at_that_cannot_be_read(text: str) -> None:
    with pytest.raises(QueryError, match=r"is not a state of the store: expected a time .* or table versions"):
        parse_at(text)


def test_at_that_can_be_read() -> None:
    assert parse_at("scores=3, runs=7") == {"scores": 3, "runs": 7}
    assert parse_at("2026-11-20T10:00") == dt.datetime(2026, 11, 20, 10)


def test_packing_nothing(tmp_path: Path) -> None:
    with pytest.raises(TamisError, match=r"Nothing to pack into .*: there are no samples"):
        pack_samples([], tmp_path / "out")
    with pytest.raises(TamisError, match="0 samples per shard: expected at least 1"):
        pack_samples([("a", {"png": b""})], tmp_path / "out", per_shard=0)
    assert list(tmp_path.iterdir()) == []
