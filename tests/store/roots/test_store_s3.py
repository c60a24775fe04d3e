"""A store on S3 does what a store in a folder does: against a real S3 protocol server on loopback."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import obstore
import pytest
from s3kit import S3Server, running
from storekit import counts, publish, samples, shard, together, visible, write_tar

from tamis.store import Store
from tamis.store.errors import (
    BlobNotFound,
    DatasetExists,
    QueryError,
    QueryRefused,
    SelectionNotFound,
    ShardChanged,
    ShardError,
    StoreDenied,
    StoreExists,
    StoreNotFound,
    StoreUnreachable,
    TamisError,
)
from tamis.store.roots.roots import Root, open_objects
from tamis.store.shards.shards import matching
from tamis.store.sql.views import DERIVED

RUN = "f00d" + "0" * 28
CHILD = Path(__file__).parents[1] / "store_child.py"
Put = Callable[[Path, str], str]
# What a client is told so that a test of a server that is gone takes a moment, not some seconds.
HASTY = {"max_retries": "2", "backoff_config.max_backoff": "100ms"}


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a store: a folder, or a prefix of a bucket."""
    if request.param == "folder":
        return str(tmp_path / "place" / "store")
    return f"{request.getfixturevalue('s3').bucket()}/some/store"


@pytest.fixture
def put(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> Put:
    """Puts a local file beside the store, or inside it, and says where it is then."""

    def upload(source: Path, name: str) -> str:
        return request.getfixturevalue("s3").upload(source, f"{where}/{name}")

    def move(source: Path, name: str) -> str:
        target = Path(where, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        return str(source.replace(target))

    return upload if where.startswith("s3://") else move


def tar(folder: Path, name: str, keys: str) -> Path:
    return shard(folder / name, keys)


# Both kinds of root


def test_a_whole_life(where: str, put: Put, tmp_path: Path) -> None:
    store = Store.create(where)
    first = str(tar(tmp_path, "a.tar", "abcde"))  # a store anywhere may hold shards in a folder
    inside = put(tar(tmp_path, "b.tar", "fgh"), "shards/d/b.tar")
    base = store.datasets.add("d", [first, inside])
    more = store.datasets.add("d", [put(tar(tmp_path, "c.tar", "ij"), "shards/d/c.tar")], append=True)
    assert (base.ref, base.samples, more.ref, more.samples) == ("d@1", 8, "d@2", 10)
    assert [more.keys(), more.keys([9, 0])] == [list("abcdefghij"), ["j", "a"]]
    assert more.labels().tolist() == [1] * 10
    assert more.locations("cls").shard.tolist() == [0] * 5 + [1] * 3 + [2] * 2
    assert store.tables.read("shards").sort_by("shard")["uri"].to_pylist()[1:] == ["shards/d/b.tar", "shards/d/c.tar"]
    assert [more.verify(), [s.check() for s in more.shards]] == [[], [None] * 3]
    with pytest.raises(DatasetExists, match="has other shards"):
        store.datasets.add("d", [inside])

    store.runs.begin(kind="score", key=RUN, dataset=more.ref)
    store.runs.put_scores(RUN, {"entropy": np.arange(10) / 10}, np.arange(10))
    assert counts(store)["scores"] == 0
    store.runs.finish(RUN, metrics={"n": 10})
    assert store.runs.scores(RUN, "entropy", 10).tolist() == (np.arange(10) / 10).tolist()
    for loss in (1.0, 2.0):
        store.runs.put_losses(RUN, 0, np.arange(10), np.full(10, loss), 0)
    assert store.query("select distinct loss from losses")["loss"].to_pylist() == [2.0]

    made = publish(store, more, "pick")
    again, second = publish(store, more, "pick"), publish(store, more, "other")
    assert [p.created for p in (made, again, second)] == [True, False, True]
    assert [again.confirmed, second.selection.key] == [True, made.selection.key]
    assert store.selections.get("pick@1").round_at(0)[0].tolist() == [2, 0, 1]
    with pytest.raises(SelectionNotFound, match="there are: other, pick"):
        store.selections.get("nothing")

    opened = Store.open(where)
    assert opened.datasets.get("d") == more
    assert counts(opened) == {
        "datasets": 2, "shards": 3, "samples": 10, "runs": 1, "scores": 10, "features": 0, "losses": 10,
        "boxes": 0, "detections": 0, "selections": 2, "selection_rounds": 1, "selection_samples": 3,
        "dataset_changes": 0, "dataset_origins": 0, "priorities": 0, "frames": 0,
        "bases": 0, "packages": 0, "candidates": 0, "profiles": 0, "looks": 0, "events": 0,
    }  # fmt: skip
    with pytest.raises(StoreExists, match="is already a store"):
        Store.create(where)


def test_blobs_and_files(where: str, tmp_path: Path) -> None:
    store = Store.open_or_create(where)
    big = os.urandom(12 << 20)  # more than one part of an upload would hold
    (tmp_path / "model").write_bytes(big)
    digest = store.blobs.put(tmp_path / "model")
    assert store.blobs.put(big) == digest
    assert store.blobs.get(digest) == big
    assert [store.blobs.exists(digest), store.blobs.exists("0" * 64)] == [True, False]
    with pytest.raises(BlobNotFound, match="No blob 000"):
        store.blobs.get("0" * 64)
    root = store.root
    assert [root.put_new("parts/x", b"1"), root.put_new("parts/x", b"2"), root.get("parts/x")] == [True, False, b"1"]
    root.put("parts/x", b"3")
    assert [root.get("parts/x"), root.list("parts"), root.exists("parts/x")] == [b"3", [("parts/x", 1)], True]
    for _ in range(2):
        root.delete("parts/x")
    assert [root.get("parts/x"), root.list("parts"), root.exists("parts/x")] == [None, [], False]


def test_sql_of_the_past(where: str, put: Put, tmp_path: Path) -> None:
    store = Store.create(where)
    base = store.datasets.add("d", [put(tar(tmp_path, "a.tar", "abcde"), "a.tar")])
    publish(store, base, "pick")
    version, moment = store.tables.versions()["selections"], dt.datetime.now(dt.UTC)
    time.sleep(1.1 if where.startswith("s3://") else 0.05)  # the log's times are those of its files
    publish(store, base, "pick", seed=1)
    for at, seen in (({"selections": version}, 1), (moment, 1), (None, 2)):
        assert store.query("select count(*) as n from selections", at=at)["n"].to_pylist() == [seen]
        assert store.query("select count(*) as n from selection_samples", at=at)["n"].to_pylist() == [3 * seen]
    with pytest.raises(QueryError, match="Table selections has no state at version 99"):
        store.query("from selections", at={"selections": 99})


def test_sql_reads_the_store_alone(where: str, put: Put, tmp_path: Path) -> None:
    store = Store.create(where)
    publish(store, store.datasets.add("d", [put(tar(tmp_path, "a.tar", "abcde"), "a.tar")]))
    shown = store.query("show tables")["name"].to_pylist()
    assert [name for name in shown if not name.startswith("files_")] == sorted(
        [*counts(store), *DERIVED]
    )  # as DuckDB 1 shows more
    assert "attempt" not in store.query("from samples").column_names
    members = store.query("select members from samples where key = ?", ["b"])["members"].to_pylist()
    assert [m["name"] for m in members[0]] == ["png", "cls"]
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b")
    tables = f"{where}/tables"
    for query in (
        f"from read_csv('{secret}')",
        f"copy selections to '{tables}/x.parquet'",
        f"with x as (copy (select 1) to '{tables}/x.csv') from x",  # which DuckDB 1 cannot read
        "delete from selections",
    ):
        with pytest.raises((QueryRefused, QueryError)):
            store.query(query)
    before = visible(store)
    assert [row for row in visible(Store.open(where)) if row not in before] == []


# S3 alone


def test_only_what_is_asked_for_is_fetched(s3: S3Server) -> None:
    store = Store.create(f"{s3.bucket()}/store")
    runs = [f"{i:x}" * 32 for i in range(4)]
    rng = np.random.default_rng(0)
    for run in runs:
        store.runs.begin(kind="score", key=run, dataset="d@1")
        store.runs.put_scores(run, {"entropy": rng.random(40_000)}, np.arange(40_000))
        store.runs.finish(run)

    def fetched(query: str) -> int:
        s3.counts(reset=True)
        store.query(query)
        return s3.counts()["bytes"]["GET"]

    everything = fetched("select sum(value) as s from scores")
    log = fetched("select count(*) as n from scores where run = 'none'")
    assert everything - log > 4 * 200_000
    assert fetched(f"select sum(value) as s from scores where run = '{runs[3]}'") - log < (everything - log) / 3
    assert fetched("select distinct metric from scores") - log < (everything - log) / 3


def test_two_stores_in_one_bucket_and_shards_elsewhere(s3: S3Server, tmp_path: Path) -> None:
    """Shards keep their URL, also in a store in a folder, whose tables are elsewhere."""
    bucket, other = s3.bucket(), s3.bucket()
    url = s3.upload(tar(tmp_path, "a.tar", "abc"), f"{other}/data/train-0.tar")
    s3.upload(tar(tmp_path, "b.tar", "def"), f"{other}/data/train-1.tar")
    s3.upload(tar(tmp_path, "b.tar", "ghi"), f"{other}/data/more/train-2.tar")
    found = matching(f"{other}/data/train-*.tar")
    assert found == [url, f"{other}/data/train-1.tar"]
    for where in (f"{bucket}/one", f"{bucket}/two", str(tmp_path / "folder")):
        dataset = Store.create(where).datasets.add("d", found)
        assert [s.uri for s in Store.open(where).datasets.get("d").shards] == found
        assert dataset.keys() == list("abcdef")
        assert dataset.verify() == []
        objects, path = open_objects(dataset.shards[1].uri, dataset.options)
        at = dataset.locations()
        ranges = obstore.get_ranges(objects, path, starts=at.offset[3:].tolist(), lengths=at.size[3:].tolist())
        assert [bytes(r) for r in ranges] == [b"image d", b"image e", b"image f"]


def test_options_say_what_the_environment_does_not(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, options = s3.bucket(), s3.environment
    url = s3.upload(tar(tmp_path, "a.tar", "abcd"), f"{bucket}/a.tar")
    for name in options:
        monkeypatch.delenv(name)
    store = Store.create(f"{bucket}/store", options)
    dataset = store.datasets.add("d", [url])
    assert dataset.options == options
    assert "test" not in repr(dataset.shards[0])
    assert dataset.verify() == []
    publish(store, dataset)
    assert counts(store)["selection_samples"] == 3
    Root(f"{bucket}/store", {k.lower(): v for k, v in options.items()}).list("tables")
    with pytest.raises(TamisError, match="a duration such as"):
        Store.open(f"{bucket}/store", {"retry_timeout": "soon"})
    with pytest.raises(TamisError, match=r"cannot be opened with these options \(colour\)"):
        Store.open(f"{bucket}/store", {"colour": "red"})


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("s3://", "does not name a bucket"),
        ("s3:///x", "does not name a bucket"),
        ("http://host/x", "http:// is not one of them"),
    ],
)
def test_urls_that_are_no_store(where: str, why: str) -> None:
    with pytest.raises(TamisError, match=why):
        Store.open(where)


def test_urls_that_are_no_shard(s3: S3Server, tmp_path: Path) -> None:
    store, bucket = Store.create(tmp_path / "store"), s3.bucket()
    with pytest.raises(ShardError, match="ftp:// is not one of them"):
        store.datasets.add("d", ["ftp://host/a.tar"])
    with pytest.raises(ShardChanged, match=r"a\.tar cannot be read: there is no such object"):
        store.datasets.add("d", [f"{bucket}/a.tar"])
    cut = s3.upload(tar(tmp_path, "a.tar", "abc"), f"{bucket}/a.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1500])
    with pytest.raises(ShardError, match=rf"Shard {cut} is truncated"):
        store.datasets.add("d", [s3.upload(tmp_path / "cut.tar", cut)])
    long = write_tar(tmp_path / "long.tar", samples([f"{'x' * 120}{i}" for i in range(3)]), kind=1)
    assert store.datasets.add("d", [s3.upload(long, f"{bucket}/long.tar")]).samples == 3


# Many writers


def publish_five(path: str, number: int) -> None:
    store = Store.open(path)
    dataset = store.datasets.get("base")
    for seed in range(5 * number, 5 * number + 5):
        publish(store, dataset, "race", seed=seed, chosen=[seed % 5, (seed + 1) % 5])


def publish_one(path: str, number: int) -> None:
    store = Store.open(path)
    publish(store, store.datasets.get("base"), "race", chosen=[4, 2])


def make_and_put(path: str, number: int) -> None:
    store = Store.open_or_create(path)
    for i in range(10):
        store.blobs.put(b"%d" % i * 1000)
        store.root.put_new(f"parts/{i}", b"%d" % number)


@pytest.fixture
def base(s3: S3Server, tmp_path: Path) -> Store:
    """A store on S3 with base@1 (5 samples), a selection and a run under way."""
    bucket = s3.bucket()
    store = Store.create(f"{bucket}/store")
    dataset = store.datasets.add("base", [s3.upload(tar(tmp_path, "base.tar", "abcde"), f"{bucket}/base.tar")])
    publish(store, dataset, seed=99)
    store.runs.begin(kind="train", key=RUN, dataset=dataset.ref)
    return store


@pytest.mark.slow
def test_four_processes_publish_five_each_under_one_name(base: Store) -> None:
    together(publish_five, base.root.url, 4)
    there = [s for s in base.selections.all() if s.name == "race"]
    assert [s.version for s in there] == list(range(1, 21))
    assert sorted(s.seed for s in there) == list(range(20))
    found = counts(base)
    assert (found["selections"], found["selection_rounds"], found["selection_samples"]) == (21, 21, 43)
    assert all(s.round_at(0)[0].tolist() == [s.seed % 5, (s.seed + 1) % 5] for s in there[::7])


def test_three_processes_publish_the_same(base: Store) -> None:
    together(publish_one, base.root.url, 3)
    assert [s.ref for s in base.selections.all()] == ["race@1", "some@1"]
    found = counts(base)
    assert (found["selections"], found["selection_rounds"], found["selection_samples"]) == (2, 2, 5)
    heads = set(base.tables.read("selections", None, ["attempt"])["attempt"].to_pylist())
    assert set(base.tables.read("selection_samples", None, ["attempt"])["attempt"].to_pylist()) == heads


def test_three_processes_make_one_store_and_put_the_same_files(s3: S3Server) -> None:
    where = f"{s3.bucket()}/new"
    together(make_and_put, where, 3)
    store = Store.open(where)
    assert [len(store.root.list("blobs")), len(store.root.list("parts"))] == [10, 10]
    assert all(store.blobs.get(name.rpartition("/")[2]) for name, _ in store.root.list("blobs"))


def test_killed_after_so_many_writes(base: Store, tmp_path: Path) -> None:
    """One process after another takes up the same work and dies one write later than the one before."""
    full, before = visible(base), counts(base)
    after = before | {name: before[name] + n for name, n in SELECTED.items()}
    for calls in range(0, 20, 3):
        command = [sys.executable, str(CHILD), "select", "-", *["-"] * calls, base.root.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = counts(base)
        assert found in (before, after)
        if found == before:
            assert int(done.stdout.split()[-1]) == -signal.SIGKILL, done.stderr
            assert visible(base) == full
    assert counts(base) == after
    assert publish(base, base.datasets.get("base@1"), "new", seed=7).created is False


SELECTED = {"selections": 1, "selection_rounds": 1, "selection_samples": 3}


def test_a_commit_whose_answer_got_lost_is_not_doubled(base: Store, s3: S3Server) -> None:
    """The server does what it is told and then answers 500: the client says it again and meets itself."""
    dataset, before = base.datasets.get("base"), counts(base)
    s3.fault(method="PUT", path="/tables/selections/_delta_log/", status=500, applied=True, times=1)
    made = publish(base, dataset, "once", seed=3)
    assert (made.created, made.selection.ref) == (True, "once@1")
    s3.fault(method="PUT", path="/tables/selection_samples/_delta_log/", status=500, applied=True, times=1)
    publish(base, dataset, "once", seed=4)
    assert counts(base) == before | {name: before[name] + 2 * n for name, n in SELECTED.items()}
    assert base.selections.get("once@2").round_at(0)[0].tolist() == [2, 0, 1]
    assert base.selections.get("once@1").round_at(0)[0].tolist() == [2, 0, 1]


# Faults


def test_a_bad_moment_of_the_server_is_sat_out(base: Store, s3: S3Server, tmp_path: Path) -> None:
    full = visible(base)
    s3.fault(status=503, times=3)
    assert visible(base) == full
    s3.fault(method="GET", path=r"\.tar$", cut=3000, times=1)
    assert base.datasets.get("base").verify() == []
    url = s3.upload(tar(tmp_path, "more.tar", "xyz"), f"{base.root.url}/more.tar")
    s3.fault(method="GET", path=r"\.tar$", cut=700, times=2)
    assert base.datasets.add("more", [url]).samples == 3
    assert base.datasets.get("more").verify() == []


def test_no_server() -> None:
    with running() as server:
        options = server.environment | HASTY
        here = Store.create(f"{server.bucket()}/store", options)
    for work in (
        lambda: Store.open(here.root.url, options),
        lambda: Store.create(here.root.url, options),
        lambda: here.query("from runs"),
        lambda: here.blobs.put(b"x"),
        lambda: here.runs.begin(kind="train", key=RUN, dataset="d@1"),
        lambda: here.root.list("blobs"),
        lambda: here.datasets.add("d", [f"{here.root.url}/a.tar"]),
    ):
        with pytest.raises(StoreUnreachable, match=r"cannot be reached: .*Connection refused.*Check that the server"):
            work()


def test_answers_that_are_errors_in_the_middle_of_a_query(base: Store, s3: S3Server) -> None:
    hasty = Store.open(base.root.url, HASTY)
    s3.fault(status=500, times=99, path=r"tables/.*\.parquet$")
    with pytest.raises(StoreUnreachable, match="500"):
        hasty.query("from samples")
    with pytest.raises(StoreUnreachable, match="500"):
        hasty.datasets.get("base")


def test_no_bucket(s3: S3Server) -> None:
    for work in (Store.open, Store.create, Store.open_or_create):
        with pytest.raises(StoreNotFound, match=r"There is no bucket s3://not-there on the server"):
            work("s3://not-there/store")
    with pytest.raises(StoreNotFound, match=r"Create one with: `?tamis --store s3://.*/nothing init"):
        Store.open(f"{s3.bucket()}/nothing")


def test_not_let_in(base: Store, s3: S3Server) -> None:
    """moto checks no keys by itself: the server is told to answer as S3 does to wrong ones."""
    s3.fault(status=403, times=99)
    for work in (
        lambda: Store.open(base.root.url),
        lambda: base.query("from runs"),
        lambda: base.blobs.put(b"x"),
        lambda: base.datasets.add("d", [f"{base.root.url}/a.tar"]),
    ):
        with pytest.raises(StoreDenied, match=r"does not let us in .*403 Forbidden.* Check the credentials"):
            work()


def test_shards_that_changed_or_went(base: Store, s3: S3Server, tmp_path: Path) -> None:
    dataset = base.datasets.get("base")
    (one,) = dataset.shards
    content = (tmp_path / "base.tar").read_bytes()
    other = tmp_path / "other.tar"
    time.sleep(1.1)  # objects' times have whole seconds

    s3.upload(tmp_path / "base.tar", one.uri)  # the same bytes, put again: the digest tells
    one.check()
    assert dataset.verify() == []

    other.write_bytes(content.replace(b"image c", b"image X"))
    s3.upload(other, one.uri)
    with pytest.raises(ShardChanged, match=rf"Shard {one.uri} changed after it was indexed: expected sha256"):
        one.check()
    (problem,) = dataset.verify()
    assert "sha256" in problem

    other.write_bytes(content + bytes(512))
    s3.upload(other, one.uri)
    with pytest.raises(ShardChanged, match=f"it had {len(content)} bytes and has {len(content) + 512}"):
        one.check()

    objects, path = open_objects(one.uri)
    obstore.delete(objects, path)
    assert not one.is_there()
    with pytest.raises(ShardChanged, match=rf"Shard {one.uri} is missing"):
        one.check()
    (problem,) = dataset.verify()
    assert "is missing" in problem


FORKING = """
import os, sys
from tamis.store import Store
from tamis.store.errors import TamisError
from tamis.store.roots.roots import open_objects

store = Store.open(sys.argv[1])
assert store.datasets.all()
child = os.fork()
if child == 0:
    try:
        open_objects(store.root.url)
    except TamisError as error:
        os._exit(7 if "forkserver" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), store.runs.get(sys.argv[2]).status)
"""


def test_a_forked_process_is_refused_not_stuck(base: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, base.root.url, RUN], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["7", "running"]


# The command line


def tamis(*words: str, fails: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tamis.flows.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == fails, done.stderr
    return done.stderr if fails else done.stdout


def test_command_line(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    where = ("--store", f"{bucket}/work")
    url = s3.upload(tar(tmp_path, "a.tar", "abc"), f"{bucket}/data/a.tar")
    assert f"Created an empty store at {bucket}/work" in tamis(*where, "init")
    shown = json.loads(tamis(*where, "--json", "dataset", "add", "d", f"{bucket}/data/*.tar"))
    assert (shown["dataset"], shown["samples"], shown["first_shard"]) == ("d@1", 3, url)
    publish(Store.open(where[1]), Store.open(where[1]).datasets.get("d"))
    rows = json.loads(tamis(*where, "--json", "sql", "select key from samples order by key"))
    assert rows == [{"key": "a"}, {"key": "b"}, {"key": "c"}]
    assert json.loads(tamis(*where, "--json", "sql", "from selections", "--at", "selections=0")) == []
    assert "1 shards are as indexed" in tamis(*where, "dataset", "verify", "d")
    assert json.loads(tamis(*where, "--json", "doctor"))["problems"] == []
    assert "Error: There is no bucket" in tamis("--store", "s3://not-there/x", "dataset", "ls", fails=1)


def test_command_line_without_a_server(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as gone:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gone.endpoint)
    said = tamis("--store", "s3://bucket/work", "dataset", "ls", fails=1)
    assert "Error: s3://bucket/work cannot be reached" in said
    assert f"Check that the server {gone.endpoint.removeprefix('http://')} runs" in said
    assert "Traceback" not in said
