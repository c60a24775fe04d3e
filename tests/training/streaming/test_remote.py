"""Streaming from an object store: the same samples in the same order as from files, few bytes, and faults outlived."""

from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from numbered import Select, read_number
from s3kit import S3Server

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import ShardChanged, StoreUnreachable
from tamis.store.roots.roots import Root
from tamis.store.selections import Selection
from tamis.training.streaming.advice import Costs, choose, measure, plan
from tamis.training.streaming.stream import SelectionStream


@pytest.fixture
def far(store: Store, sixty: Dataset, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    """The shards of `sixty` on an object store, indexed from there."""
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    bucket = s3.bucket()
    names = [s3.upload(Path(s.uri), f"{bucket}/data/{Path(s.uri).name}") for s in sixty.shards]
    return store.datasets.add("far", names)


@pytest.fixture
def seven(store: Store, far: Dataset, select: Select) -> Selection:
    return select(far, (0, [3, 17, 25, 26, 40, 51, 59]))


def numbers(stream: SelectionStream, epoch: int = 0) -> list[int]:
    return [n for batch in stream.epoch(epoch) for n in read_number(batch.images)]


@pytest.mark.parametrize("reading", ["ranges", "shards", "auto"])
@pytest.mark.parametrize("check", ["stamp", "headers", "digest"])
def test_gives_what_files_give(store: Store, sixty: Dataset, far: Dataset, reading: str, check: str) -> None:
    assert far.key == sixty.key  # the same content, wherever it lies
    near = SelectionStream(store, sixty, batch_size=8, seed=2)
    there = SelectionStream(store, far, batch_size=8, seed=2, reading=reading, check=check)
    assert numbers(there, 1) == numbers(near, 1)
    assert [d["__sample__"] for d in there] == [d["__sample__"] for d in near]
    assert [d["png"] for d in there] == [d["png"] for d in near]


def test_ranges_fetch_little_more_than_what_was_chosen(
    store: Store, far: Dataset, s3: S3Server, select: Select
) -> None:
    chosen = select(far, (0, [0, 20, 40, 59]))
    stream = SelectionStream(store, chosen, reading="ranges")
    s3.counts(reset=True)
    assert sorted(numbers(stream)) == [0, 20, 40, 59]
    sizes = far.locations().size[[0, 20, 40, 59]]
    assert s3.counts()["bytes"]["GET"] == sizes.sum() == stream.bytes_read


def test_whole_shards_are_fetched_once(store: Store, seven: Selection, s3: S3Server) -> None:
    first = SelectionStream(store, seven, reading="shards")
    assert sorted(numbers(first)) == [3, 17, 25, 26, 40, 51, 59]
    s3.counts(reset=True)
    assert numbers(SelectionStream(store, seven, reading="shards"), 1)
    assert s3.counts()["requests"].get("GET", 0) == 0


def test_the_cache_keeps_to_its_limit(store: Store, far: Dataset, tmp_path: Path) -> None:
    limit = max(s.bytes for s in far.shards) * 2
    stream = SelectionStream(store, far, reading="shards", cache_limit=limit, near=5, batch_size=4)
    assert sorted(numbers(stream)) == list(range(60))
    kept = list((tmp_path / "cache" / "shards").iterdir())
    assert sum(path.stat().st_size for path in kept) <= limit


@pytest.mark.parametrize("reading", ["ranges", "shards"])
def test_errors_and_cut_connections_are_outlived(store: Store, far: Dataset, s3: S3Server, reading: str) -> None:
    whole = list(range(60))
    for fault in ({"status": 500}, {"status": 503}, {"cut": 40}):
        stream = SelectionStream(store, far, reading=reading, batch_size=16, cache_limit=1)
        s3.fault(method="GET", path="data/", times=4, **fault)
        assert sorted(numbers(stream)) == whole
        s3.fault()


def test_a_server_that_is_gone_is_named(store: Store, seven: Selection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name, value in {"max_retries": "1", "retry_timeout": "1s"}.items():
        store.root.options[name] = value
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:9|sixty-0"):
        numbers(SelectionStream(store, seven, reading="ranges"))


@pytest.mark.parametrize("reading", ["ranges", "shards"])
@pytest.mark.parametrize("fault", [{"silent": True}, {"drip": 0.2}], ids=lambda fault: next(iter(fault)))
def test_a_server_that_gives_nothing_is_named(
    store: Store, far: Dataset, s3: S3Server, reading: str, fault: dict[str, Any]
) -> None:
    """Shards are looked at as ever; what is in them does not come, or a byte at a time."""
    hasty = {"read_timeout": "500ms", "retry_timeout": "500ms", "max_retries": "1", "patience": "1s"}
    impatient = Store.open(store.root.url, hasty)
    stream = SelectionStream(impatient, impatient.datasets.get("far"), reading=reading, batch_size=4)
    s3.fault(method="GET", path="data/", times=10**6, **fault)
    with pytest.raises(StoreUnreachable, match=r"sixty-\d+\.tar (could not be read in \d tr|cannot be reached)"):
        numbers(stream)


@pytest.mark.parametrize("reading", ["ranges", "shards"])
def test_a_shard_that_is_missing_or_another_is_named(store: Store, far: Dataset, reading: str) -> None:
    stream = SelectionStream(store, far, reading=reading)
    folder, _, name = far.shards[1].uri.rpartition("/")
    sleep(1.1)  # an object store tells times to the second
    Root(folder).put(name, b"\0" * far.shards[1].bytes)
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar"):
        numbers(stream)
    gone = replace(far.shards[0], uri=far.shards[0].uri + "x")
    with pytest.raises(ShardChanged, match=r"sixty-0\.tarx"):
        gone.check()


def test_workers_read_from_an_object_store(store: Store, far: Dataset) -> None:
    """A client that has been used in this process does not survive a fork: workers come from a clean one."""
    stream = SelectionStream(store, far, reading="ranges", batch_size=8)
    alone = numbers(stream)
    assert [n for batch in stream.epoch(0, workers=2) for n in read_number(batch.images)] == alone


def test_the_plan_follows_latency_and_length(store: Store, far: Dataset, seven: Selection) -> None:
    slow, quick = Costs(0.5, 1e9, 4), Costs(1e-6, 1e4, 64)
    assert plan(store, far, costs=slow).best == "shards"
    assert plan(store, seven, costs=quick).best == "ranges"
    assert plan(store, seven, costs=quick).kept == 7 / 60
    # 7 requests of half a second in each epoch, or once all and then this machine's own disk.
    long = plan(store, seven, costs=slow, epochs=100)
    assert long.best == "shards"
    assert plan(store, seven, costs=slow, epochs=100, cache_limit=1).best != "shards"
    assert "epochs" in long.why
    assert [way.name for way in long.ways] == ["ranges", "shards", "curated"]


def test_costs_are_measured(store: Store, far: Dataset, s3: S3Server) -> None:
    s3.fault(latency=0.3)
    slow = measure(store, far)
    s3.fault()
    assert slow.latency > 0.3 > measure(store, far).latency


def test_what_is_small_is_fetched_whole_unless_there_is_no_room(store: Store, far: Dataset, s3: S3Server) -> None:
    s3.counts(reset=True)
    assert choose(store, far) == "shards"
    assert s3.counts()["requests"].get("GET", 0) == 0  # nothing was measured
    assert choose(store, far, cache_limit=1) == "ranges"
