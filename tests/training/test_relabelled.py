"""A dataset with flipped labels: whoever reads it gets the flipped ones, or is refused; never those in the shards."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from numbered import Select, Write, numbered

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.config import TrainConfig
from tamis.training.errors import LabelError
from tamis.training.export.materialize import materialize
from tamis.training.job import train
from tamis.training.signals.scoring import finish_scores, score_parts
from tamis.training.streaming.lookup import Index
from tamis.training.streaming.stream import SelectionStream

# Stock webdataset leaves the files that it has read to the collector.
STOCK = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
NAMES = ("ant", "bee", "cow")


@pytest.fixture
def noisy(store: Store, sixty: Dataset) -> Dataset:
    """`sixty` with 30 of its labels flipped."""
    return store.datasets.flip("sixty", 0.5, seed=1)


@pytest.fixture
def inside(store: Store, tmp_path: Path, write: Write) -> Dataset:
    """40 numbered samples whose labels are names inside of JSON, beside a member `cls` of another kind; flipped."""
    samples = [
        (f"s{i:03d}", {"png": numbered(i), "json": json.dumps({"is": NAMES[i % 3]}).encode(), "cls": b"9"})
        for i in range(40)
    ]
    store.datasets.add("inside", [write(tmp_path / "inside.tar", samples)], label="json:is")
    return store.datasets.flip("inside", 0.5, seed=1)


def test_batches_and_dicts_hold_flipped_labels(store: Store, noisy: Dataset) -> None:
    labels = noisy.labels()
    stream = SelectionStream(store, noisy, batch_size=7, seed=0)
    for batch in stream.epoch(0):
        assert batch.labels.tolist() == labels[batch.samples.numpy()].tolist()
    dicts = SelectionStream(store, noisy, batch_size=7, seed=0, yields="samples")
    seen = {one["__sample__"]: int(one["cls"]) for one in dicts}
    assert [seen[i] for i in range(60)] == labels.tolist()
    assert sum(seen[i] != i % 3 for i in range(60)) == 30


def test_labels_inside_of_a_member_are_given_as_cls_and_the_member_is_refused(store: Store, inside: Dataset) -> None:
    labels = inside.labels()
    for members in (None, ("png", "cls")):
        dicts = SelectionStream(store, inside, batch_size=7, seed=0, yields="samples", members=members)
        seen = {one["__sample__"]: (set(one) & {"json", "cls"}, int(one["cls"])) for one in dicts}
        assert [seen[i] for i in range(40)] == [({"cls"}, label) for label in labels.tolist()]
    with pytest.raises(LabelError, match=r"Member \.json of inside-flipped@1 holds the labels from before"):
        SelectionStream(store, inside, batch_size=7, seed=0, members=("png", "json"))
    with pytest.raises(LabelError, match="leave it out"):
        Index.open(store, inside, ["png", "json"])


def test_training_and_scores_go_by_the_flipped_labels(store: Store, sixty: Dataset, noisy: Dataset) -> None:
    """The same model has another loss, and another judgement of right and wrong, just where labels were flipped."""
    run = train(
        store, TrainConfig(dataset="sixty-flipped", model="preact8", epochs=1, batch_size=60, augment="none")
    ).run
    assert run.dataset == "sixty-flipped@1"
    assert run.blob is not None
    losses: list[np.ndarray] = []
    for each in (sixty, noisy):
        score_parts(store, each, range(3), run.blob)
        losses.append(store.runs.scores(finish_scores(store, each, run.blob, name=None).key, "loss", 60))
    assert np.array_equal(losses[0] != losses[1], noisy.labels() != sixty.labels())


def written(paths: list[str]) -> dict[str, dict[str, bytes]]:
    """Members by key, of all shards."""
    found: dict[str, dict[str, bytes]] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                assert suffix not in found.setdefault(key, {})
                found[key][suffix] = file.read()
    return found


@STOCK
def test_materialized_shards_hold_flipped_labels(store: Store, noisy: Dataset, select: Select, tmp_path: Path) -> None:
    samples = [3, 50, 7, 21, 0, 59]
    made = materialize(store, select(noisy, (0, samples)), str(tmp_path / "out"))
    found, labels, keys = written(made.paths()), noisy.labels(), noisy.keys()
    assert {key: int(members["cls"]) for key, members in found.items()} == {keys[i]: labels[i] for i in samples}
    assert all(set(members) == {"png", "cls", "tamis.json"} for members in found.values())
    assert found["s050"]["png"] == numbered(50)
    assert made.left_out == {}
    stock = wds.WebDataset(made.paths(), shardshuffle=False).decode("torchrgb8").to_tuple("cls", "tamis.json")
    assert {chosen["sample"]: label for label, chosen in stock} == {i: labels[i] for i in samples}
    again = store.datasets.add("again", made.paths())
    assert sorted(again.labels().tolist()) == sorted(labels[samples].tolist())


def test_materialized_shards_leave_out_the_member_with_old_labels(
    store: Store, inside: Dataset, select: Select, tmp_path: Path
) -> None:
    made = materialize(store, select(inside, (0, list(range(40)))), str(tmp_path / "out"), shard_size=20_000)
    found, labels, keys = written(made.paths()), inside.labels(), inside.keys()
    assert len(made.shards) > 1
    assert {key: int(members["cls"]) for key, members in found.items()} == dict(zip(keys, labels.tolist(), strict=True))
    assert all(set(members) == {"png", "cls", "tamis.json"} for members in found.values())
    assert made.left_out == {"json": 40}
    assert np.array_equal(np.bincount(labels), np.bincount([int(m["cls"]) for m in found.values()]))
