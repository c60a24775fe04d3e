"""A tenth of a dataset that lies on an object store, 20 ms away: by range, by whole shards, as the planner chooses.

The server is moto's, on loopback, which waits 20 ms before each answer and counts what it answers. It is a program in
Python that needs 2 to 4 ms of its own for every request and serves one at a time, so the seconds of thousands of ranges
are its own; their bytes are not. WebDataset reads through `pipe:curl`, which is what it offers for such addresses.
Seconds are wall time from opening a stream to its last sample; shards that an earlier pass kept are removed before.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchlib import Result, folder
from streampeers import count, shuffled
from streamsets import Data, published, small

from tamis.store import mapped as flat

sys.path.insert(0, str(Path(__file__).parents[1]))
from s3kit import S3Server, running

LATENCY = 0.020
WHOLE, PLANNED, RANGES, CURL = "whole shards", "as planned", "ranges", "webdataset, pipe:curl"


def run(quick: bool, data: Path | None) -> list[Result]:
    with folder() as path, running() as server, _environment(server.environment):
        there = _uploaded(path, small(path, data, quick), server)
        _tenth(there, "shards")  # loads what is loaded once, and makes the flat copies
        server.fault(latency=LATENCY)
        ways = {
            WHOLE: lambda: _tenth(there, "shards"),
            PLANNED: lambda: _tenth(there, "auto"),
            CURL: lambda: _webdataset(there, server),
        }
        if shutil.which("curl") is None:
            del ways[CURL]
        turns = [{name: _measure(server, way) for name, way in ways.items()} for _ in range(1 if quick else 5)]
        seconds = {name: median(turn[name][0] for turn in turns) for name in ways}
        answered = {name: turns[-1][name][1:] for name in ways}
        seconds[RANGES], *answered[RANGES] = _measure(server, lambda: _tenth(there, "ranges"))
        return _lines(there, seconds, answered)


def _lines(data: Data, seconds: dict[str, float], answered: dict[str, tuple[int, int]]) -> list[Result]:
    title, wanted = f"10 % of {data.name}, 20 ms away", data.bytes_chosen()
    over = {name: round(size / wanted, 2) for name, (_, size) in answered.items()}
    notes = {name: f"{number:,} GETs, {over[name]:g} x the bytes" for name, (number, _) in answered.items()}
    notes[RANGES] += "; the seconds are moto's"
    lines = [
        Result(f"{title}: {PLANNED}", seconds[PLANNED], "s", WHOLE, seconds[WHOLE], 1, notes[PLANNED]),
        Result(f"{title}: {RANGES}", seconds[RANGES], "s", WHOLE, seconds[WHOLE], note=notes[RANGES]),
        Result(f"{title}: {RANGES}, bytes answered over bytes chosen", over[RANGES], "x", target=2.2),
        Result(f"{title}: {WHOLE}, bytes answered over bytes chosen", over[WHOLE], "x"),
    ]
    if CURL not in seconds:
        return [*lines, Result(f"{title}: {PLANNED}", seconds[PLANNED], "s", CURL, note="curl is not installed")]
    return [*lines, Result(f"{title}: {PLANNED}", seconds[PLANNED], "s", CURL, seconds[CURL], note=notes[CURL])]


def _measure(server: S3Server, way: Callable[[], object]) -> tuple[float, int, int]:
    """Seconds, GETs, and bytes that were answered to them."""
    server.counts(reset=True)
    started = time.perf_counter()
    way()
    seconds = time.perf_counter() - started
    counts = server.counts()
    return seconds, counts["requests"].get("GET", 0), counts["bytes"].get("GET", 0)


def _tenth(data: Data, reading: str) -> int:
    shutil.rmtree(flat.cache_folder(data.store.root) / "shards", ignore_errors=True)
    return sum(len(batch.samples) for batch in data.stream(True, reading=reading).raw(0))


def _webdataset(data: Data, server: S3Server) -> int:
    keys = frozenset(data.dataset.keys(data.chosen()))
    fetch = "pipe:curl -s -f --aws-sigv4 aws:amz:us-east-1:s3 --user test:test"
    urls = [f"{fetch} {server.endpoint}/{uri.removeprefix('s3://')}" for uri in data.shards]
    return count(shuffled(urls).select(lambda sample: sample["__key__"] in keys))


def _uploaded(path: Path, data: Data, server: S3Server) -> Data:
    """The same dataset, with its shards on the server; the store itself stays here."""
    bucket = server.bucket()
    urls = [server.upload(Path(uri), f"{bucket}/{Path(uri).name}") for uri in data.shards]
    return published(path / "remote", urls)


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
