"""Other labels for a dataset: what is derived, from files and by SQL, and what is refused."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from storekit import samples, write_tar

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetExists, ImportRefused, QueryRefused, ShardError
from tamis.store.relabelling import relabel

ODD = "select sample, label % 2 = 1 as label from samples where dataset = 'digits'"


def table(file: Path, head: str, *rows: object) -> Path:
    """A CSV file."""
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([head.split(","), *rows])
    return file


@pytest.fixture
def bare(store: Store, tmp_path: Path) -> Dataset:
    """Five samples in two shards, without labels: a-c, d-e."""
    shards = [
        write_tar(tmp_path / f"{i}.tar", [m for m in samples(keys) if m[0].endswith("png")])
        for i, keys in enumerate(("abc", "de"))
    ]
    return store.datasets.add("bare", shards, label=None)


def test_sql_tells_labels(store: Store, dataset: Dataset) -> None:
    made = relabel(store, "digits", sql=ODD, classes=["even", "odd"])
    assert (made.ref, made.classes, made.label, made.relabelled) == (
        "digits-relabelled@1",
        ("even", "odd"),
        "cls",
        True,
    )
    assert made.labels().tolist() == (dataset.labels() % 2).tolist()
    assert [shard.uri for shard in made.shards] == [shard.uri for shard in dataset.shards]
    assert (made.key != dataset.key, made.verify(), dataset.labels().max()) == (True, [], 9)
    origin = store.query("select kind, source, source_key, params from dataset_origins").to_pylist()
    assert [(o["kind"], o["source"], o["source_key"]) for o in origin] == [("relabel", "digits@1", dataset.key)]
    assert json.loads(origin[0]["params"]) == {
        "sql": ODD, "dropped": 0, "classes": ["even", "odd"],
        "changed": int((dataset.labels() % 2 != dataset.labels()).sum()),
    }  # fmt: skip
    shown = store.query(
        "select label, count(*) as n from samples where dataset = 'digits-relabelled' group by all order by 1"
    )
    assert shown["n"].to_pylist() == np.bincount(dataset.labels() % 2).tolist()


def test_the_same_labels_find_the_dataset_again(store: Store, dataset: Dataset) -> None:
    made = relabel(store, "digits", sql=ODD, classes=["even", "odd"])
    again = relabel(store, "digits@1", sql=f"{ODD} order by sample desc", classes=["even", "odd"])
    assert again == made
    with pytest.raises(DatasetExists, match="already exists with the classes even, odd"):
        relabel(store, "digits", sql=ODD, classes=["gerade", "ungerade"])
    with pytest.raises(DatasetExists, match="has other samples or labels"):
        relabel(store, "digits", sql=ODD.replace("= 1", "= 0"), classes=["even", "odd"])


def test_boxes_become_labels(store: Store, bare: Dataset) -> None:
    run = "f00d" + "0" * 28
    store.runs.begin(kind="detect", key=run, dataset=bare.ref, config={"classes": ["person"]})
    rows = {
        "label": [0, 0, 0],
        "score": [0.9, 0.9, 0.8],
        "x1": [0, 0, 0],
        "y1": [0, 0, 0],
        "x2": [9, 9, 9],
        "y2": [420, 90, 401],
    }
    boxes = pa.table({"run": [run] * 3, "sample": [1, 2, 3], **rows, "attempt": ["a" * 32] * 3}).cast(
        store.tables.state("boxes").layout.schema
    )
    store.tables.append("boxes", boxes)
    store.tables.publish("runs", [], {f"boxes/{run}": 1}, {"attempt": "a" * 32})
    store.runs.finish(run)
    zone = f"""select sample, exists (select 1 from boxes b where b.run = '{run}' and b.sample = s.sample and y2 > 400)
               as label from samples s where dataset = 'bare'"""
    made = relabel(store, "bare", sql=zone, name="zone", classes=["no", "yes"])
    assert (made.ref, made.label, made.labels().tolist()) == ("zone@1", "cls", [0, 1, 0, 1, 0])


def test_samples_without_a_label_are_dropped_only_where_that_is_said(
    store: Store, bare: Dataset, tmp_path: Path
) -> None:
    file = table(tmp_path / "labels.csv", "key,label", ("e", "cat"), ("b", "dog"), ("a", ""), ("c", "cat"))
    some = table(tmp_path / "some.csv", "key,label", ("e", 1), ("b", 0), ("c", 1))
    with pytest.raises(ShardError, match=r"2 of the 5 samples of bare@1 have no label \(first: 0\): .*--drop-missing"):
        relabel(store, "bare", file=some)
    made = relabel(store, "bare", file=some, drop_missing=True)
    assert (made.keys(), made.labels().tolist(), made.classes) == (["b", "c", "e"], [0, 1, 1], ())
    assert [(s.first_sample, s.count) for s in made.shards] == [(0, 2), (2, 1)]
    place = made.locations()
    assert [Path(made.shards[s].uri).read_bytes()[a : a + n] for s, a, n in zip(*(x.tolist() for x in (
        place.shard, place.offset, place.size)), strict=True)] == [b"image b", b"image c", b"image e"]  # fmt: skip
    assert json.loads((made.origin() or {})["params"]) == {
        "file": "some.csv", "sha256": hashlib.sha256(some.read_bytes()).hexdigest(), "dropped": 2, "changed": 3,
        "classes": [],
    }  # fmt: skip
    with pytest.raises(ShardError, match="give some a label"):
        relabel(store, "bare", sql="select sample, null::integer as label from samples where dataset = 'bare'",
                drop_missing=True)  # fmt: skip
    named = relabel(store, "bare", file=file, drop_missing=True, name="pets", classes=["dog", "cat", "mouse"])
    assert named.classes == ("dog", "cat", "mouse")


def test_names_are_numbered_as_given_or_in_alphabetical_order(store: Store, bare: Dataset, tmp_path: Path) -> None:
    pets = pa.table({"sample": [4, 3, 2, 1, 0], "label": ["dog", "cat", "cat", "ant", "dog"]})
    pq.write_table(pets, tmp_path / "pets.parquet")
    made = relabel(store, "bare", file=tmp_path / "pets.parquet")
    assert (made.classes, made.labels().tolist()) == (("ant", "cat", "dog"), [2, 0, 1, 1, 2])
    given = relabel(store, "bare", file=tmp_path / "pets.parquet", name="given", classes=["dog", "bee", "cat", "ant"])
    assert given.labels().tolist() == [0, 3, 2, 2, 0]
    with pytest.raises(ImportRefused, match=r"1 labels are not among the 2 classes .*\(first: 'ant'\)"):
        relabel(store, "bare", file=tmp_path / "pets.parquet", name="no", classes=["dog", "cat"])


def test_one_may_be_derived_of_another(store: Store, bare: Dataset) -> None:
    asked = "select sample, {} as label from samples where dataset = 'bare'"
    first = relabel(store, "bare", sql=asked.format("sample % 2"), name="first")
    second = relabel(store, "first", sql=asked.format("case when sample < 3 then sample % 2 else 2 end"), name="second")
    assert second.labels().tolist() == [0, 1, 0, 2, 2]
    assert second.shards[0].content == first.shards[0].content
    assert second.shards[1].content != first.shards[1].content
    parts = store.datasets.split("second", {"a": 0.6, "b": 0.4}, seed=1)
    assert sorted(np.concatenate([part.labels() for part in parts]).tolist()) == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select sample, 1.5 as label from samples", r"a label is 1\.5: expected class numbers"),
        ("select sample, 'nan'::double as label from samples", "a label is nan"),
        ("select sample, -1 as label from samples", "5 labels are no class .first: -1 of sample 0"),
        ("select sample, 10000000 as label from samples", "5 labels are no class"),
        ("select sample, [1] as label from samples", "`label` holds list"),
        ("select sample from samples", "The query has no column `label`; there are: sample"),
        ("select label from samples", "Expected a column `key` or `sample`"),
        ("select 99 as sample, 1 as label", "Sample 99 is not in bare@1"),
        ("select 'zz' as key, 1 as label", "1 of 1 keys are not in bare@1"),
        ("select 1 as sample, unnest([0, 1]) as label", "gave 2 rows, some of one sample"),
    ],
)
def test_labels_that_are_none_are_refused(store: Store, bare: Dataset, query: str, said: str) -> None:
    with pytest.raises((ImportRefused, ShardError), match=said):
        relabel(store, "bare", sql=query)
    assert [row["dataset"] for row in store.datasets.all()] == ["bare"]


def test_numbers_beyond_the_names_are_refused(store: Store, bare: Dataset) -> None:
    with pytest.raises(ShardError, match="expected class numbers 0 to 1 of the 2 classes no, yes"):
        relabel(store, "bare", sql="select sample, sample as label from samples", classes=["no", "yes"])


def test_one_source_of_labels(store: Store, bare: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="give one of the two"):
        relabel(store, "bare")
    with pytest.raises(QueryRefused):
        relabel(store, "bare", sql=f"select 0 as sample, content as label from read_text('{tmp_path}/0.tar')")
    with pytest.raises(ImportRefused, match="cannot be read"):
        relabel(store, "bare", file=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select sample, 0 as label from samples where dataset = 'digits@1'", "no rows; .*where dataset = 'digits'"),
        ("select sample, 0 as label from samples, range(2)", "some of one sample; .*a row for each sample"),
    ],
)
def test_a_query_about_no_dataset_or_several_is_told_so(store: Store, dataset: Dataset, query: str, said: str) -> None:
    with pytest.raises(ImportRefused, match=said):
        relabel(store, dataset.ref, sql=query)
