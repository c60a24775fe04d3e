"""A damaged file is named, and never read as something else; `verify` finds it, and `gc` removes none that counts."""

import datetime as dt
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from storekit import publish, shard, visible

from tamis.store import Store
from tamis.store.errors import TamisError
from tamis.store.selections import RoundData
from tamis.store.upkeep.collect import collect
from tamis.store.upkeep.verify import verify

ARTEFACT = Path(__file__).parents[2] / "formats" / "store-format-1.zip"
RUN = "f00d" + "0" * 28


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with something of everything, merged once: 36 selections, losses of two epochs, scores, a blob."""
    folder = tmp_path_factory.mktemp("good")
    store = Store.create(folder / "store")
    dataset = store.datasets.add("d", [shard(folder / "store" / "d.tar", "abcdefghij")])
    rng = np.random.default_rng(0)
    for seed in range(36):
        chosen = RoundData(rng.permutation(10)[:6], rng.random(6).astype(np.float32))
        publish(store, dataset, f"n{seed % 4}", seed=seed, rounds=[chosen, RoundData([seed % 10], first_epoch=3)])
    store.runs.begin(kind="score", key=RUN, dataset=dataset.ref)
    store.runs.put_scores(RUN, {"entropy": rng.random(10)}, np.arange(10))
    store.runs.finish(RUN, model=store.blobs.put(b"weights" * 100))
    for epoch in range(2):
        store.runs.put_losses(RUN, epoch, np.arange(10), rng.random(10), epoch)
    return folder / "store"


def everything(store: Store) -> list[object]:
    """All that Python reads of a store."""
    selections = [
        (s.ref, s.key, s.params, s.rounds, [(a.tolist(), w.tolist()) for a, w in s.read_rounds()])
        for s in (store.selections.get("n0@1"), store.selections.get("n1"), *store.selections.all())
    ]
    dataset = store.datasets.get("d")
    blob = store.runs.get(RUN).blob
    assert blob is not None
    scores = store.runs.scores(RUN, "entropy", 10).tolist()
    return [selections, dataset, dataset.keys(), dataset.labels().tolist(), scores, store.blobs.get(blob)]


def damaged(good: Path, work: Path, file: Path, change: Callable[[bytes], bytes]) -> None:
    """Put a changed file in place of a good one."""
    target = work / file.relative_to(good)
    target.unlink()
    target.write_bytes(change(file.read_bytes()))


FLIPPED = ("tables/selections/*.parquet", "tables/selection_samples/*/*.parquet", "tables/selections/_delta_log/*.json",
           "tables/selections/_delta_log/*.parquet", "index/selections/*/*/*/*.json", "index/selections/mark.json",
           "tables/samples/*/*.parquet", "tables/scores/*/*.parquet", "tables/runs/*.parquet", "blobs/*/*",
           "tables/runs/_delta_log/*.json", "tables/datasets/_delta_log/*.json", "tamis.json")  # fmt: skip


@pytest.mark.parametrize("pattern", FLIPPED)
def test_a_flipped_bit_is_refused_or_changes_nothing(good: Path, tmp_path: Path, pattern: str) -> None:
    """Never another answer: an error of our own, in one line, or what was there before."""
    rng = random.Random(pattern)
    work = shutil.copytree(good, tmp_path / "work")
    right = everything(Store.open(work))
    files = sorted(good.glob(pattern))
    assert files
    seen: Counter[str] = Counter()
    for _ in range(12):
        file = rng.choice(files)

        def flip(data: bytes) -> bytes:
            changed = bytearray(data)
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(changed)

        damaged(good, work, file, flip)
        try:
            seen["right" if everything(Store.open(work)) == right else "WRONG"] += 1
        except TamisError as error:
            seen["refused" if "\n" not in str(error) else "WRONG"] += 1
        shutil.copyfile(file, work / file.relative_to(good))
    assert not seen["WRONG"], seen


# A checkpoint only repeats the log: where it cannot be read the log may serve, so there is nothing that must be named.
NAMED = [p for p in FLIPPED if not p.endswith("_delta_log/*.parquet") and p != "tamis.json"]


@pytest.mark.parametrize("pattern", NAMED)
@pytest.mark.parametrize("change", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: bytes(len(b))])
def test_verify_names_what_is_damaged(
    good: Path, tmp_path: Path, pattern: str, change: Callable[[bytes], bytes]
) -> None:
    work = shutil.copytree(good, tmp_path / "work")
    state = Store.open(good)
    live = {p for name in state.tables.versions() for p in state.tables.state(name).files["path"].to_pylist()}
    files = [f for f in good.glob(pattern) if f.suffix != ".parquet" or any(str(f).endswith(p) for p in live)]
    file = sorted(files)[-1]
    damaged(good, work, file, change)
    problems = verify(Store.open(work)).problems
    table = file.relative_to(good).parts[1]
    assert problems
    assert any(file.name in p or f"Table {table}" in p or f"index/{table}" in p for p in problems), problems


def test_a_good_store_is_whole(good: Path) -> None:
    report = verify(Store.open(good))
    assert report.problems == []
    assert report.checked["selections"] == 36
    assert report.checked["blobs"] == report.checked["shards"] == 1
    assert "data files" not in report.unverifiable


def test_what_an_earlier_version_wrote_is_unverifiable_not_damaged(tmp_path: Path) -> None:
    shutil.unpack_archive(ARTEFACT, tmp_path / "store")
    report = verify(Store.open(tmp_path / "store"))
    assert report.problems == []
    assert report.unverifiable["selections"] == report.checked["selections"] == 3
    assert report.unverifiable["data files"] == report.checked["data files"] > 5


def test_an_older_store_opens_without_a_write(tmp_path: Path) -> None:
    shutil.unpack_archive(ARTEFACT, tmp_path / "store")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*")}
    store = Store.open(tmp_path / "store")
    assert [s.ref for s in store.selections.all()] == ["best@1", "pick@1", "pick@2"]
    assert store.selections.get("pick@1").round_at(3)[0].tolist() == [1]
    assert store.query("select count(*) as n, count(log_version) as m from runs").to_pylist() == [{"n": 3, "m": 0}]
    assert len(visible(store)) > 20
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*")} == before


def test_an_older_store_is_added_to(tmp_path: Path) -> None:
    """Its tables get the columns they lack; old rows read as they did, new ones beside them."""
    shutil.unpack_archive(ARTEFACT, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    before = len(visible(store))
    three = store.datasets.get("three")
    made = publish(store, three, "pick", seed=7)
    assert made.selection.ref == "pick@3"
    store.runs.begin(kind="score", key=RUN, dataset=three.ref)
    store.runs.put_scores(RUN, {"entropy": np.arange(5.0)}, np.arange(5))
    store.runs.finish(RUN)
    assert store.runs.scores(RUN, "entropy", 5).tolist() == [0, 1, 2, 3, 4]
    assert len(visible(store)) == before + 1 + 1 + 3 + 1 + 5
    more = shard(tmp_path / "more.tar", "xyz")
    with pytest.raises(TamisError):
        store.datasets.add("three", [more], append=True)  # its images are .ppm: refused as ever
    assert [s.ref for s in store.selections.all()] == ["best@1", "pick@1", "pick@2", "pick@3"]
    assert verify(store).problems == []


# Collecting


def aged(store: Store, days: float = 2) -> None:
    """Make every file of a store look old, as time does."""
    then = time.time() - days * 86_400
    for path in Path(store.root.url).rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def littered(good: Path, tmp_path: Path) -> Store:
    """A store with what killed and beaten writers leave behind."""
    store = Store.open(shutil.copytree(good, tmp_path / "store"))
    lost = store.tables.read("selection_samples").slice(0, 1)
    at = lost.column_names.index("attempt")
    store.tables.append("selection_samples", lost.set_column(at, "attempt", [["killed" + "0" * 26]]))
    folder = Path(store.root.url)
    (folder / "tables" / "selections" / ".half.tmp").write_bytes(b"half")
    (folder / "tables" / "selections" / ("9" * 20 + "-" + "a" * 32 + ".parquet")).write_bytes(b"never committed")
    return store


def test_a_dry_run_removes_nothing_and_says_what_a_run_removes(good: Path, tmp_path: Path) -> None:
    store = littered(good, tmp_path)
    aged(store)
    before = sorted(Path(store.root.url).rglob("*"))
    said = {one.name for one in collect(store, keep=dt.timedelta(0), dry_run=True)}
    assert sorted(Path(store.root.url).rglob("*")) == before
    assert said == {one.name for one in collect(store, keep=dt.timedelta(0))}
    assert not any((Path(store.root.url) / name).exists() for name in said)


def test_collecting_takes_what_nobody_can_ask_for(good: Path, tmp_path: Path) -> None:
    store = littered(good, tmp_path)
    right, seen = everything(store), visible(store)
    assert collect(store, keep=dt.timedelta(0)) == []  # all of it is young
    aged(store)
    why = Counter(one.why for one in collect(store, keep=dt.timedelta(0)))
    assert set(why) == {"unfinished", "never published", "merged or replaced", "old log"}
    assert (everything(store), visible(store)) == (right, seen)
    assert verify(store).problems == []
    aged(store)
    assert {one.why for one in collect(store, keep=dt.timedelta(0))} <= {"merged or replaced", "old log"}
    assert publish(store, store.datasets.get("d"), "n0", seed=99).selection.ref == "n0@10"
    assert (everything(store)[1:], verify(store).problems) == (right[1:], [])


def test_history_that_is_kept_can_be_looked_at(good: Path, tmp_path: Path) -> None:
    store = littered(good, tmp_path)
    aged(store)
    assert {one.why for one in collect(store)} <= {"unfinished", "never published", "merged or replaced"}
    asked = "select count(*) as n, count(distinct selection) as s from selection_samples"
    assert store.query(asked, at={"selections": 10}).to_pylist() == [{"n": 70, "s": 10}]


def test_a_collector_that_is_killed_or_meets_another_does_no_harm(good: Path, tmp_path: Path) -> None:
    store = littered(good, tmp_path)
    right, seen = everything(store), visible(store)
    aged(store)
    program = (
        "import sys, datetime as dt\nfrom tamis.store import Store\nfrom tamis.store.upkeep.collect import collect\n"
        "store = Store.open(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        "collect(store, keep=dt.timedelta(0))"
    )
    command = [sys.executable, "-c", program, store.root.url]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for one in both:
        assert one.stdout is not None
        one.stdout.readline()
    for one in both:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    time.sleep(0.05)
    both[0].send_signal(signal.SIGKILL)
    errors = [one.communicate(timeout=60)[1] for one in both]
    assert both[1].returncode == 0, errors
    assert (everything(store), visible(store), verify(store).problems) == (right, seen, [])
