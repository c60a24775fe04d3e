"""A server that does not do what it should: every operation ends, in one clear error or with the right answer."""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3kit import S3Server, running
from storekit import counts, publish, shard, visible

from tamis.store import Store
from tamis.store.errors import BlobCorrupt, ShardChanged, ShardError, StoreFormatError, StoreUnreachable

RUN = "f00d" + "0" * 28
# Limits under which a test takes a moment; by default they are 15 s, 20 s, 30 s and 60 s.
HASTY = {
    "read_timeout": "300ms", "timeout": "600ms", "retry_timeout": "300ms", "max_retries": "1", "patience": "1s",
    "backoff_config.max_backoff": "50ms",
}  # fmt: skip
ALWAYS = 10**6
Operation = Callable[[Store, Path], object]


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory):
    """A server of its own, and a store on it: base@1 of 5 samples, a selection, a blob, a run."""
    with running() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        bucket = server.bucket()
        store = Store.create(f"{bucket}/store")
        tar = shard(tmp_path_factory.mktemp("shards") / "base.tar", "abcde")
        dataset = store.datasets.add("base", [server.upload(tar, f"{bucket}/base.tar")])
        publish(store, dataset, seed=99)
        store.blobs.put(b"blob")
        store.runs.begin(kind="train", key=RUN, dataset=dataset.ref)
        yield server, store


@pytest.fixture
def broken(far: tuple[S3Server, Store]):
    server, store = far
    yield server, store
    server.fault()


def add(store: Store, tmp_path: Path) -> object:
    return store.datasets.add("more", [store.root.url.replace("/store", "/base.tar")])


def losses(store: Store, tmp_path: Path) -> object:
    return store.runs.put_losses(RUN, 0, np.arange(5), np.zeros(5), 0)


READS: dict[str, Operation] = {
    "open": lambda store, _: Store.open(store.root.url, HASTY),
    "selections": lambda store, _: store.selections.all(),
    "sql": lambda store, _: store.query("select count(*) as n from samples"),
    "dataset": lambda store, _: store.datasets.get("base").ref,
    "blob": lambda store, _: store.blobs.get("fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8"),
    "list": lambda store, _: store.root.list("blobs"),
    "keys": lambda store, _: store.datasets.get("base").keys(),
}
WRITES: dict[str, Operation] = {
    "put": lambda store, _: store.blobs.put(b"new"),
    "add": add,
    "publish": lambda store, _: publish(store, store.datasets.get("base"), "never", seed=5),
    "losses": losses,
}


@pytest.mark.parametrize(
    "fault",
    [
        {"silent": True}, {"drip": 0.25}, {"reset": True}, {"status": 500}, {"cut": 0},
        *(pytest.param({"status": status}, marks=pytest.mark.nightly) for status in (400, 429, 503)),
    ],
    ids=lambda fault: "-".join(map(str, [*fault, *fault.values()])),
)  # fmt: skip
def test_a_server_in_trouble_ends_every_operation(
    broken: tuple[S3Server, Store], fault: dict[str, Any], tmp_path: Path
) -> None:
    server, store = broken
    before = visible(store)
    hasty = Store.open(store.root.url, HASTY)
    for name, work in (READS | WRITES).items():
        if name == "put" and not fault.keys() & {"silent", "reset", "status"}:
            continue  # its answers have no body
        server.fault(**fault, times=ALWAYS)
        with pytest.raises(StoreUnreachable, match=r"cannot be reached|could not be read") as caught:
            work(hasty, tmp_path)
        assert "\n" not in str(caught.value), name
    server.fault()
    assert visible(store) == before


def test_junk_is_never_an_answer(broken: tuple[S3Server, Store], tmp_path: Path) -> None:
    server, store = broken
    before = visible(store)
    hasty = Store.open(store.root.url, HASTY)
    for work in [work for name, work in (READS | WRITES).items() if name != "put"]:  # which reads nothing
        server.fault(method="GET", junk=True, times=ALWAYS)
        with pytest.raises((StoreUnreachable, StoreFormatError, BlobCorrupt, ShardChanged, ShardError)) as caught:
            work(hasty, tmp_path)
        assert "\n" not in str(caught.value)
    server.fault()
    assert visible(store) == before


@pytest.mark.parametrize(
    "fault",
    [{"reset": True}, *(pytest.param(f, marks=pytest.mark.nightly) for f in ({"status": 500}, {"silent": True}))],
    ids=lambda f: next(iter(f)),
)
def test_what_was_done_though_the_answer_got_lost_is_not_doubled(
    broken: tuple[S3Server, Store], fault: dict[str, Any], tmp_path: Path
) -> None:
    server, store = broken
    patient = Store.open(store.root.url, {"read_timeout": "1s", "timeout": "2s"})
    name, before, dataset = f"lost-{next(iter(fault))}", counts(store), patient.datasets.get("base")
    for number, path in enumerate(("", "_delta_log/", r"\.parquet")):  # the first write of all, of a commit, of data
        seed = number + sum(map(ord, name))
        for work in (partial(publish, patient, dataset, name, seed=seed), partial(losses, patient, tmp_path)):
            server.fault(**fault, applied=True, method="PUT", path=path, times=1)
            with contextlib.suppress(StoreUnreachable):  # it may be told to run the same again
                work()
            work()
    server.fault()
    after = counts(store)
    assert after["selections"] == before["selections"] + 3
    assert after["selection_samples"] == before["selection_samples"] + 9
    assert after["losses"] == 5
    assert [s.version for s in store.selections.all() if s.name == name] == [1, 2, 3]


def test_a_server_that_goes_in_the_middle_of_a_commit(broken: tuple[S3Server, Store], tmp_path: Path) -> None:
    server, store = broken
    before = visible(store)
    hasty = Store.open(store.root.url, HASTY)
    dataset = hasty.datasets.get("base")
    goes: list[tuple[str, dict[str, Any]]] = [
        (r"/tables/selection_samples/.*json", {"silent": True}),
        (r"/tables/selections/.*json", {"reset": True}),
        (r"/tables/selections/.*json", {"status": 503}),
    ]
    for seed, (path, fault) in enumerate(goes):
        server.fault(**fault, method="PUT", path=path, times=ALWAYS)
        with pytest.raises(StoreUnreachable):
            publish(hasty, dataset, "halves", seed=500 + seed)
        server.fault()
        assert visible(store) == before
    assert publish(hasty, dataset, "halves", seed=500).selection.ref == "halves@1"


def test_a_file_that_the_log_names_is_not_taken_for_an_empty_one(broken: tuple[S3Server, Store]) -> None:
    server, store = broken
    server.fault(method="GET", path=r"/tables/samples/.*\.parquet$", status=404, times=ALWAYS)
    with pytest.raises(StoreFormatError, match=r"\.parquet is damaged: the table's log names it, and it is missing"):
        store.query("from samples")
    with pytest.raises((StoreFormatError, StoreUnreachable), match=r"samples"):
        store.datasets.get("base").keys()
    server.fault(method="GET", path=r"/tables/samples/.*\.parquet$", junk=True, times=ALWAYS)
    with pytest.raises(StoreFormatError, match=r"\.parquet is damaged: its bytes do not have the digest in its name"):
        store.query("from samples")
    server.fault(method="GET", path=r"/tables/samples/.*\.parquet$", drip=0.05, times=ALWAYS)
    with pytest.raises(StoreUnreachable, match="did not complete them within 1 s"):
        Store.open(store.root.url, {"patience": "1s"}).query("from samples")


@pytest.mark.parametrize("few", [1 << 20, 0], ids=["small", "large"])
def test_a_server_that_goes_in_the_middle_of_a_query(
    broken: tuple[S3Server, Store], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files that are fetched whole, and of those that Arrow's own client reads."""
    monkeypatch.setattr("tamis.store.tables.parquet._FEW", few)
    server, store = broken
    hasty = Store.open(store.root.url, HASTY)
    for fault, said in ({"status": 500}, r"5\d\d"), ({"silent": True}, r"sending request|Timeout was reached"):
        server.fault(**fault, times=ALWAYS, path=r"tables/.*\.parquet$")
        with pytest.raises(StoreUnreachable, match=said):
            hasty.query("from samples")


def test_a_listing_that_is_not_there_is_not_an_empty_one(broken: tuple[S3Server, Store]) -> None:
    server, store = broken
    assert store.root.list("nothing/below") == []
    server.fault(method="GET", path=r"^/[^/]+/?$", status=404, times=ALWAYS)
    with pytest.raises(StoreUnreachable, match=r"cannot be reached: .*404"):
        Store(store.root).root.list("blobs")


# Large files


def test_slow_is_not_silent(broken: tuple[S3Server, Store], tmp_path: Path) -> None:
    """4 MB in 3 s come in, though an operation may wait for 1.5 s and a connection be silent for .5 s."""
    server, store = broken
    data = os.urandom(4 << 20)
    name = store.blobs.put(data)
    slow = Store.open(store.root.url, {"patience": "1500ms", "read_timeout": "500ms"})
    server.fault(method="GET", path="/blobs/", drip=0.05, piece=64 << 10, times=1)
    assert slow.blobs.get(name) == data
    server.fault(method="GET", path="/blobs/", drip=0.05, piece=10, times=1)
    with pytest.raises(StoreUnreachable, match=r"did not complete them within 1.5 s.*TAMIS_PATIENCE"):
        slow.blobs.get(name)


def test_a_connection_that_breaks_again_and_again_is_taken_up_where_it_broke(broken: tuple[S3Server, Store]) -> None:
    server, store = broken
    data = os.urandom(5 << 20)
    name = store.blobs.put(data)
    server.fault(method="GET", path="/blobs/", cut=(1 << 20) + 77, times=ALWAYS)
    assert Store.open(store.root.url, {"max_retries": "0"}).blobs.get(name) == data


def test_an_upload_in_parts_whose_last_answer_gets_lost(broken: tuple[S3Server, Store]) -> None:
    server, store = broken
    data = os.urandom(11 << 20)
    server.fault(method="POST", path="big", status=500, applied=True, times=2)
    store.root.put("big", data)
    server.fault()
    assert store.root.get("big") == data


def test_a_server_that_goes_while_much_is_sent(broken: tuple[S3Server, Store]) -> None:
    """8 MB may take half a minute by the slowest line; that nothing is heard any more is seen before."""
    server, store = broken
    server.fault(method="PUT|HEAD", silent=True, times=ALWAYS)
    with pytest.raises(StoreUnreachable, match=r"answers nothing any more while 8388608 bytes are sent to it"):
        Store.open(store.root.url, HASTY | {"timeout": "60s"}).root.put_new("much", bytes(8 << 20))
