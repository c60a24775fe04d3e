"""Reading shards that lie on an object store: ranges, many at once, or whole shards kept on this machine.

What: `RemoteReader` fetches the ranges of a batch concurrently, near ones as one request; `ShardCache` fetches a shard
once and keeps it as a file, for `LocalReader`.
When: which of the two a job uses is decided by `tamis.training.streaming.advice` or by the user.
How: obstore does the requests, with its own retries and back-off for connections, timeouts and 5xx answers; what still
fails, such as a body that ends too early, is asked for again here, `TRIES` times in all, and then named. All of it
together has one patience (`tamis.store.roots.waiting`), and what the slowest connection takes for the bytes of a batch.
Cost: a request costs the medium's latency, `CONCURRENT` of them are under way at once. A request takes in gaps of up to
`GAP` bytes, which is what a round trip's share of the bandwidth would carry.
"""

import asyncio
import hashlib
import os
import random
import threading
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any, TypeVar

import numpy as np
import obstore
from obstore.exceptions import BaseError

from tamis.store.datasets import Locations, Shard
from tamis.store.errors import ShardChanged, StoreDenied, StoreNotFound, StoreUnreachable, TamisError
from tamis.store.roots import requests
from tamis.store.roots.objects import explained, reason
from tamis.store.roots.options import SLOWEST
from tamis.store.roots.roots import open_objects, reporting_full
from tamis.store.roots.urls import split_url
from tamis.store.roots.waiting import Patience, operation, patience_left, patiently
from tamis.store.shards.shards import look
from tamis.training.streaming.local import GAP as SIDE_BY_SIDE
from tamis.training.streaming.local import Bytes, Ints, Key, Plan, Ranges, cut_short, merge

CONCURRENT = 64
GAP = 8 << 10
TRIES = 4
FETCHES = 4  # whole shards at a time
_CHECKS = 16  # shards that are looked at at a time, before anything is read from them
_WAIT = 0.2  # seconds before the second try, doubled for each further one

Options = Mapping[str, str]
T = TypeVar("T")


class RemoteReader:
    """Reads shards by ranged requests.

    Args:
        shards: of the dataset, in its order.
        key: what a sample is called, for error messages.
        options: storage options, as the store was opened with.
        digests: hash a shard before it is first read, instead of trusting its size and time.

    All methods raise ShardChanged where a shard is missing, was replaced, or ends before a member does, and
    StoreUnreachable where the object store does not answer.
    """

    def __init__(self, shards: Sequence[Shard], key: Key, options: Options, *, digests: bool = False) -> None:
        self._shards, self._key, self._options, self._digests = shards, key, options, digests
        self._checked: set[int] = set()
        self.bytes_read = self.requests = 0

    def each(self, samples_N: Ints, where: Locations) -> list[bytes]:
        """The bytes of one member of each sample."""
        return [bytes(view) for view in self._fetch(samples_N, where, GAP).views()]

    def views(self, samples_N: Ints, where: Locations) -> Sequence[bytes | memoryview]:
        """The same, without a copy."""
        return self._fetch(samples_N, where, GAP).views()

    def into(self, samples_N: Ints, where: Locations, out: Bytes) -> None:
        """The same, end to end in `out`."""
        found = self._fetch(samples_N, where, GAP)
        np.concatenate(found.views(), out=out)

    def read(self, samples_N: Ints, where: Locations) -> Ranges:
        """The same, for samples that lie side by side."""
        return self._fetch(samples_N, where, max(GAP, SIDE_BY_SIDE))

    def expect(self, where: Callable[[], Locations]) -> None:
        """Nothing: batches to come are fetched by further threads."""

    def close(self) -> None:
        """Nothing: connections belong to the process."""

    def _fetch(self, samples_N: Ints, where: Locations, gap: int) -> Ranges:
        self._check(where)
        plan = merge(where, gap)
        uri, allowed = self._shards[int(plan.shards[0])].uri, int(plan.lengths.sum()) / SLOWEST
        with operation(self._options):
            patience = patience_left(self._options)
            try:
                parts = persistently(
                    lambda: _LOOP.run(self._get_all(plan), patience.left + allowed), uri, patience, allowed
                )
            except StoreUnreachable:
                self._diagnose(samples_N, where)
                raise
        if any(len(part) != length for part, length in zip(parts, plan.lengths.tolist(), strict=True)):
            self._diagnose(samples_N, where)
        data = np.frombuffer(b"".join(parts), np.uint8)
        self.bytes_read += len(data)
        self.requests += len(parts)
        return Ranges(data, plan.starts, np.asarray(where.size, np.int64))

    async def _get_all(self, plan: Plan) -> list[Any]:
        limit = _LOOP.limit
        stores = {s: open_objects(self._shards[s].uri, self._options) for s in set(plan.shards.tolist())}

        async def get(shard: int, offset: int, length: int) -> Any:
            store, path = stores[shard]
            async with limit:
                return await obstore.get_range_async(store, path, start=offset, length=length)

        places = zip(plan.shards.tolist(), plan.offsets.tolist(), plan.lengths.tolist(), strict=True)
        return await asyncio.gather(*[get(*place) for place in places])

    def _check(self, where: Locations) -> None:
        fresh = set(where.shard.tolist()) - self._checked
        if not fresh:
            return
        # A round trip each: one after the other they would hold up the first batch for as long as many batches take.
        named = [self._shards[shard] for shard in sorted(fresh)]
        _each(named, Shard.check_bytes if self._digests else Shard.check, _CHECKS, "tamis-checks")
        self._checked |= fresh

    def _diagnose(self, samples_N: Ints, where: Locations) -> None:
        """Whether reading failed because a shard is shorter than it was: the object store's own words do not say."""
        ends = np.zeros(len(self._shards), np.int64)
        for shard in set(where.shard.tolist()):
            uri = self._shards[shard].uri
            try:
                ends[shard] = look(uri, self._options).bytes
            except StoreNotFound:
                return
            except FileNotFoundError as error:
                raise ShardChanged(f"Shard {uri} is missing. Restore it.") from error
            except (BaseError, OSError):
                return
        got = np.clip(ends[where.shard] - where.offset, 0, where.size)
        if (got < where.size).any():
            raise cut_short(self._shards, self._key, samples_N, where, got)


def probe(shard: Shard, options: Options, pieces: Sequence[tuple[int, int]]) -> list[float]:
    """Seconds that some ranges (offset, size) of a shard take, all asked for at once."""
    store, path = open_objects(shard.uri, options)

    def timed(piece: tuple[int, int]) -> float:
        started = perf_counter()
        patience = patience_left(options)
        persistently(
            lambda: patiently(
                shard.uri,
                options,
                lambda: obstore.get_range(store, path, start=piece[0], length=piece[1]),
                size=piece[1],
                patience=Patience(patience.left),
            ),
            shard.uri,
            patience,
            piece[1] / SLOWEST,
        )
        return perf_counter() - started

    with ThreadPoolExecutor(len(pieces), thread_name_prefix="tamis-probes") as pool:
        return list(pool.map(timed, pieces))


class _Loop:
    """One event loop a process, in a thread of its own, for all readers."""

    def __init__(self) -> None:
        self._lock, self._loop, self._process = threading.Lock(), None, 0
        self.limit = asyncio.Semaphore(CONCURRENT)

    def run(self, work: Coroutine[Any, Any, list[Any]], limit: float) -> list[Any]:
        """What the work answers; a TimeoutError where that takes longer than `limit`, in s."""
        with self._lock:
            if self._loop is None or self._process != os.getpid():
                self._loop, self._process = asyncio.new_event_loop(), os.getpid()
                self.limit = asyncio.Semaphore(CONCURRENT)
                threading.Thread(target=self._loop.run_forever, name="object-store-requests", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit), self._loop).result()


_LOOP = _Loop()


class ShardCache:
    """Whole shards of an object store, kept as files of this machine and shared by its processes.

    Args:
        folder: where they are kept, by content.
        options: storage options, as the store was opened with.
        limit: bytes after which the shards that were used longest ago are removed, before another is fetched.

    A file appears under its name when it is whole. Its digest is compared where the index has one.
    """

    def __init__(self, folder: Path, options: Options, *, limit: int) -> None:
        self._folder, self._options, self._limit = folder, options, limit

    def fetch(self, shards: Sequence[Shard]) -> None:
        """Have some shards here, several fetched at a time."""
        _each(shards, self.path, FETCHES, "tamis-shards")

    def path(self, shard: Shard) -> str:
        """The file of a shard, fetched if it is not there yet.

        Raises:
            ShardChanged: it is missing, or has other bytes than when it was indexed.
            StoreUnreachable, StoreFull: in the words of the medium.
        """
        name = hashlib.sha256(f"{shard.file} {shard.uri}".encode()).hexdigest()[:32]
        path = self._folder / f"{name}.tar"
        if not path.exists() or path.stat().st_size != shard.bytes:
            self._make_room(shard.bytes)
            self._fetch(shard, path)
        os.utime(path)
        return str(path)

    def _fetch(self, shard: Shard, path: Path) -> None:
        if shard.digest is None:  # else its bytes are compared: a look at it before would cost a round trip
            shard.check()
        self._folder.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            digest = _download(shard.uri, self._options, made)
            if made.stat().st_size != shard.bytes or (shard.digest or digest) != digest:
                raise ShardChanged(
                    f"Shard {shard.uri} changed after it was indexed: other bytes arrived than were hashed then. "
                    "Restore it, or add the new file under another dataset name."
                )
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        there: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*.tar"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            there.append((stat.st_mtime, stat.st_size, path))
        used = sum(bytes_ for _, bytes_, _ in there) + size
        for _, bytes_, path in sorted(there):
            if used <= self._limit:
                return
            path.unlink(missing_ok=True)  # who has it open goes on reading it
            used -= bytes_


def persistently(work: Callable[[], T], uri: str, patience: Patience, allowed: float = 0.0) -> T:
    """Do something that may fail on the way, up to `TRIES` times, with pauses that grow, as long as patience lasts.

    Args:
        work: asks the object store.
        uri: the shard, for messages.
        patience: what the tries may take together.
        allowed: seconds that all of them may take on top, for what they move.

    Raises:
        ShardChanged: there is no such object.
        StoreUnreachable: it failed every time, or took too long.
    """
    started, whole = monotonic(), patience.left
    for number in range(TRIES):
        try:
            return work()
        except FileNotFoundError as error:
            raise ShardChanged(f"Shard {uri} is missing on the object store. Restore it.") from error
        except (BaseError, OSError) as error:
            if isinstance(error, TamisError):
                raise
            pause = _WAIT * 2**number * (0.5 + random.random())
            patience.left = min(whole, whole + allowed - (monotonic() - started) - pause)
            if number + 1 == TRIES or patience.left <= 0:
                raise _unreadable(uri, number + 1, error) from error
            sleep(pause)
    raise AssertionError("unreachable: the last try answers or raises")


def _unreadable(uri: str, tries: int, error: BaseException) -> TamisError:
    known = explained(uri, error)
    if isinstance(known, StoreDenied | StoreNotFound):
        return known
    why = "no complete answer in time" if isinstance(error, TimeoutError) else _brief(error)
    return StoreUnreachable(
        f"Shard {uri} could not be read in {tries} {'try' if tries == 1 else 'tries'}: {why}. Check the object store "
        "and the network, and run the same again."
    )


def _each(items: Sequence[T], work: Callable[[T], object], threads: int, name: str) -> None:
    """Do something with every item, some at a time; after the first error no further ones are begun."""
    pool = ThreadPoolExecutor(min(len(items), threads) or 1, thread_name_prefix=name)
    try:
        for each in [pool.submit(work, item) for item in items]:
            each.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _download(uri: str, options: Options, path: Path) -> str:
    found, (bucket, name) = hashlib.sha256(), split_url(uri)
    try:
        _, pieces = requests.pieces(bucket, name, options, named=uri)
    except StoreNotFound:
        raise
    except FileNotFoundError as error:
        raise ShardChanged(f"Shard {uri} is missing on the object store. Restore it.") from error
    with reporting_full(str(path.parent)), path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            found.update(piece)
    return found.hexdigest()


def _brief(error: BaseException) -> str:
    return (reason(error).strip() or type(error).__name__)[:200]
