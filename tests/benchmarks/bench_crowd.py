"""A crowd at one store: publishers and readers in processes of their own, for minutes. What is lost, doubled, grows?

Publishers publish selections under eight names, with keys of their own and with keys that others publish too; they
score runs, and remove selections that they published. Readers list, find by name and by key, read samples, ask SQL, and
hold what they see against what must be. At the end the store is held against what the publishers were told.

    python tests/benchmarks/bench_crowd.py --seconds 300 --publishers 32 --readers 8
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from benchlib import Result, folder, table

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_digits
from tamis.store.errors import SelectionNotFound
from tamis.store.keys import key_of
from tamis.store.selections import Request, RoundData
from tamis.store.upkeep.verify import verify

NAMES = 8
_SHARED = 1 << 40  # seeds from here on are those that many publish
_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 2.0  # s between two looks at the memory
_ASKED = """select (select coalesce(sum(size), 0) from selections) as size,
                   (select count(*) from selection_samples) as samples, (select count(*) from scores) as scores"""


@dataclass
class Told:
    """What one process did, and saw go wrong."""

    made: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # key, ref
    removed: list[str] = field(default_factory=list[str])
    scored: list[str] = field(default_factory=list[str])
    turns: int = 0
    errors: list[str] = field(default_factory=list[str])
    memory: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])  # s, bytes


def run(quick: bool, data: Path | None) -> list[Result]:
    return crowd(2.0, 2, 1) if quick else crowd(60.0, 32, 8)


def crowd(seconds: float, publishers: int, readers: int) -> list[Result]:
    """Let a crowd at a fresh store, and hold that against what they were told."""
    with folder() as path:
        Store.create(path / "store").datasets.add("digits", pack_digits(path / "digits"))
        told = _together(path, seconds, publishers, readers)
        return _results(Store.open(path / "store"), told[:publishers], told[publishers:], seconds)


def _together(path: Path, seconds: float, publishers: int, readers: int) -> list[Told]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(publishers + readers)
    works = [publish] * publishers + [read] * readers
    processes = [
        context.Process(target=child, args=(work, path, number, seconds, barrier)) for number, work in enumerate(works)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    files = [path / f"{number}.json" for number in range(len(works))]
    return [Told(**json.loads(f.read_text())) if f.exists() else Told(errors=["died"]) for f in files]


def child(work: Callable[[Store, int, Told], None], path: Path, number: int, seconds: float, barrier: Barrier) -> None:
    """One process: turn after turn until the time is over, every error kept."""
    store, told = Store.open(path / "store"), Told()
    barrier.wait()
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        try:
            work(store, number, told)
        except Exception as error:  # noqa: BLE001 - none is expected, and each is counted
            told.errors.append(f"{type(error).__name__}: {error}")
        told.turns += 1
        if not told.memory or at - told.memory[-1][0] > _EVERY:
            told.memory.append((at, int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE))
    (path / f"{number}.json").write_text(json.dumps(vars(told)))


def publish(store: Store, number: int, told: Told) -> None:
    """One turn of a publisher."""
    draw = random.Random(number * 1_000_003 + told.turns)
    dataset = store.datasets.get("digits")
    seed = number * 1_000_000 + told.turns if draw.random() < 0.8 else _SHARED + told.turns
    made = store.selections.publish(request(dataset, seed), f"name{seed % NAMES}", [chosen(dataset, seed)], seconds=0.0)
    if seed < _SHARED:
        told.made.append((made.selection.key, made.selection.ref))
    if told.turns % 10 == 9:
        ref = told.made[draw.randrange(len(told.made))][1]
        if ref not in told.removed:
            store.selections.remove(ref)
            told.removed.append(ref)
    if told.turns % 10 == 4:
        run = key_of("score", {"publisher": number, "turn": told.turns})
        store.runs.begin(kind="score", key=run, dataset=dataset.ref)
        store.runs.put_scores(run, {"entropy": np.full(dataset.samples, number)}, np.arange(dataset.samples))
        store.runs.finish(run)
        told.scored.append(run)


def read(store: Store, number: int, told: Told) -> None:
    """One turn of a reader."""
    draw = random.Random(number * 1_000_003 + told.turns)
    there = store.selections.all()
    refs = [one.ref for one in there]
    assert len(set(refs)) == len(refs), "a version was listed twice"
    assert len({one.key for one in there}) == len(there), "a key was published twice"
    if not there:
        return
    one = draw.choice(there)
    try:  # it may have been removed since it was listed
        found = store.selections.get(draw.choice((one.ref, one.key)))
        assert (found.ref, found.size) == (one.ref, one.size), "something else was found"
        dataset = store.datasets.get(one.dataset)
        assert found.round_at(0)[0].tolist() == chosen(dataset, one.seed).samples.tolist(), "other samples"  # pyright: ignore[reportAttributeAccessIssue] - an array
    except SelectionNotFound as gone:
        if "removed" not in str(gone):
            raise
    if told.turns % 4 == 0:
        row = store.query(_ASKED).to_pylist()[0]
        assert row["size"] == row["samples"], f"heads say {row['size']} samples, there are {row['samples']}"
        assert row["scores"] % store.datasets.get("digits").samples == 0, "a part of a pass was seen"


def request(dataset: Dataset, seed: int) -> Request:
    return Request(dataset, "random", 1, seed=seed)


def chosen(dataset: Dataset, seed: int) -> RoundData:
    return RoundData(np.random.default_rng(seed).permutation(dataset.samples)[: 20 + seed % 50])


def _results(store: Store, publishers: list[Told], readers: list[Told], seconds: float) -> list[Result]:
    note = f"{len(publishers)} publishers, {len(readers)} readers, {seconds:.0f} s"
    errors = [error for told in (*publishers, *readers) for error in told.errors]
    for error, times in Counter(error[:300] for error in errors).most_common(10):
        print(f"  {times} x {error}")
    made = {key: ref for told in publishers for key, ref in told.made}
    removed = {ref for told in publishers for ref in told.removed}
    there = store.selections.all()
    mine = {one.key: one.ref for one in there if one.seed < _SHARED}
    expected = {key: ref for key, ref in made.items() if ref not in removed}
    scored = sorted(run for told in publishers for run in told.scored)
    dataset = store.datasets.get("digits")
    rows = store.query("select run, count(*) as n, count(distinct sample) as d from scores group by run order by run")
    whole = [(run, dataset.samples, dataset.samples) for run in scored]
    found = [(row["run"], row["n"], row["d"]) for row in rows.to_pylist()]
    samples = store.query("select count(*) as n from selection_samples")["n"][0].as_py()
    published, turns = len(made) + len(scored), sum(told.turns for told in readers)
    return [
        Result("errors shown to a user", len(errors), "", target=0, note=note),
        Result("selections lost or doubled", len(mine.items() ^ expected.items()), "", target=0, note=f"{len(mine):,}"),
        Result("versions listed twice", len(there) - len({one.ref for one in there}), "", target=0),
        Result("keys published twice", len(there) - len({one.key for one in there}), "", target=0),
        Result("samples lost or doubled", abs(samples - sum(one.size for one in there)), "", target=0),
        Result("passes lost or doubled", len(set(whole) ^ set(found)), "", target=0, note=f"{len(scored):,}"),
        Result("problems found by verify", len(verify(store, shards=False).problems), "", target=0),
        Result("publications", round(published / seconds, 1), "/s", note=f"{len(removed):,} removals beside them"),
        Result("reader turns", round(turns / seconds, 1), "/s", note="a listing, a lookup, samples; SQL every 4th"),
        *(_memory(word, those) for word, those in (("publisher", publishers), ("reader", readers))),
    ]


def _memory(word: str, those: list[Told]) -> Result:
    """Memory at the end against that of the second fifth, when everything is loaded: medians over processes."""

    def between(low: float, high: float) -> float:
        found = [b for t in those for at, b in t.memory if low <= at / max(t.memory[-1][0], 1e-9) <= high]
        return statistics.median(found or [0]) / 1e6

    early, late = between(0.2, 0.4), between(0.8, 1.0)
    return Result(f"memory of a {word}, last fifth", round(late), "MB", "second fifth", round(early) or None, 1.1)


def main() -> None:
    """From the command line, with any number of processes and seconds."""
    parser = argparse.ArgumentParser(description="A crowd of publishers and readers at one store.")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--publishers", type=int, default=32)
    parser.add_argument("--readers", type=int, default=8)
    given = parser.parse_args()
    print(table(crowd(given.seconds, given.publishers, given.readers)))


if __name__ == "__main__":
    main()
