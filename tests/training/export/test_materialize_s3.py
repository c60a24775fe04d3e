"""Curated shards on an object store: the same bytes as in a folder, resumed, and one set from two writers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from curating_child import SIZE
from s3kit import S3Server

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.roots.roots import Root
from tamis.store.selections import Request, RoundData, Selection
from tamis.training.errors import DestinationTaken
from tamis.training.export.materialize import materialize

CHILD = Path(__file__).with_name("curating_child.py")


@pytest.fixture
def some(store: Store, dataset: Dataset) -> Selection:
    samples = np.random.default_rng(5).permutation(dataset.samples)[:600]
    request = Request(dataset, "by-hand", 1)
    return store.selections.publish(request, "some", [RoundData(samples)], seconds=0.0).selection


def content(url: str) -> dict[str, bytes | None]:
    root = Root(url)
    return {name: root.get(name) for name, _ in root.list("")}


def test_the_same_set_as_in_a_folder(store: Store, some: Selection, s3: S3Server, tmp_path: Path) -> None:
    local = materialize(store, some, str(tmp_path / "local"), shard_size=SIZE)
    url = f"{s3.bucket()}/curated/some"
    remote = materialize(store, some, url, shard_size=SIZE, workers=3)
    assert (remote.key, remote.shards, remote.pattern) == (
        local.key,
        local.shards,
        f"{url}/curated-{{000000..000006}}.tar",
    )
    assert content(url) == {path.name: path.read_bytes() for path in Path(local.url).iterdir()}
    s3.counts(reset=True)
    again = materialize(store, some, url, shard_size=SIZE)
    assert again.cached
    answered = s3.counts()
    assert set(answered["requests"]) <= {"GET", "HEAD"}
    assert sum(answered["bytes"].values()) < 20_000  # the manifest and a listing


def test_sources_on_an_object_store(
    store: Store, some: Selection, s3: S3Server, digits: dict[str, list[Path]], tmp_path: Path
) -> None:
    """The same content lies elsewhere: the same set."""
    bucket = s3.bucket()
    remote = Store.create(f"{bucket}/store")
    dataset = remote.datasets.add("digits", [s3.upload(path, f"{bucket}/{path.name}") for path in digits["train"]])
    samples, weights = some.round_at(0)
    request, rounds = Request(dataset, "by-hand", 1), [RoundData(samples, weights)]
    there = remote.selections.publish(request, "there", rounds, seconds=0.0).selection
    made = materialize(remote, there, shard_size=SIZE)
    assert made.url == f"{bucket}/store/curated/{made.key}"
    assert made.shards == materialize(store, some, str(tmp_path / "local"), shard_size=SIZE).shards


@pytest.mark.parametrize("calls", [1, 6, 14, 15])
def test_killed_and_asked_again(store: Store, some: Selection, s3: S3Server, calls: int) -> None:
    whole, url = f"{s3.bucket()}/whole", f"{s3.bucket()}/killed"
    materialize(store, some, whole, shard_size=SIZE)
    command = [sys.executable, str(CHILD), store.root.url, "some", url, "1", str(calls)]
    assert subprocess.run(command, check=False).returncode == -9
    left = content(url)
    assert all(content(whole)[name] == data for name, data in left.items() if name.endswith(".tar"))
    s3.counts(reset=True)
    again = materialize(store, some, url, shard_size=SIZE)
    sent = s3.counts()["requests"].get("PUT", 0)
    assert again.kept == min(7, calls // 2)
    assert sent == (0 if again.cached else 2 * (7 - again.kept) + 1)  # shards, records and the manifest
    assert content(url) == content(whole)


def test_two_processes_at_once(store: Store, some: Selection, s3: S3Server) -> None:
    whole, url = f"{s3.bucket()}/whole", f"{s3.bucket()}/both"
    materialize(store, some, whole, shard_size=SIZE)
    command = [sys.executable, str(CHILD), store.root.url, "some", url, "2"]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert content(url) == content(whole)


def test_an_answer_that_was_lost(store: Store, some: Selection, s3: S3Server) -> None:
    """The server keeps a shard and says 500: the repeated request finds the name taken, by the same bytes."""
    whole, url = f"{s3.bucket()}/whole", f"{s3.bucket()}/lost"
    materialize(store, some, whole, shard_size=SIZE)
    s3.fault(method="PUT", path=r"curated-00000[03]\.tar", status=500, applied=True, times=2)
    materialize(store, some, url, shard_size=SIZE)
    assert content(url) == content(whole)


def test_other_content_is_refused(store: Store, some: Selection, s3: S3Server) -> None:
    url = f"{s3.bucket()}/taken"
    Root(url).put("curated-000002.tar", b"somebody's")
    with pytest.raises(DestinationTaken, match=r"curated-000002\.tar"):
        materialize(store, some, url, shard_size=SIZE)
    assert Root(url).get("curated-000002.tar") == b"somebody's"
    assert Root(url).get("curated.json") is None
    other = f"{s3.bucket()}/manifest"
    Root(other).put("curated.json", json.dumps({"format": 1, "key": "x", "selection": "them@1"}).encode())
    with pytest.raises(DestinationTaken, match="them@1"):
        materialize(store, some, other, shard_size=SIZE)
