"""How a selection is best read: its ranges, whole shards, or shards written for it.

What: `plan` compares the three by the seconds that a job of so many epochs spends waiting for the medium, and says why;
`measure` finds out what the medium costs. `tamis selection plan` shows it; a stream with `reading="auto"` follows it.
How: ranges cost one request a sample, of which `CONCURRENT` are under way at once, or the bytes chosen through the
bandwidth, whichever is longer, in every epoch. Whole shards cost all bytes of the shards that hold something chosen,
once, and this machine's disk from then on. Curated shards cost the ranges once, writing, and then the bytes chosen in
one piece an epoch. The order of samples is the same in all three but the last.
Source: the model is the usual one of latency and bandwidth; its numbers are measured, not assumed.
"""

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store import mapped as flat
from tamis.store.datasets import Dataset, Locations, Shard
from tamis.store.selections import Selection
from tamis.training.border import check_kind
from tamis.training.streaming.lookup import Index
from tamis.training.streaming.readers import CACHE_LIMIT, Media, is_remote, open_reader

WAYS = ("ranges", "shards", "curated")
SMALL = 512 << 20
LOCAL_BANDWIDTH = 1e9  # of this machine's own disk or memory, b/s, where it is not what is measured
_QUEUE = 16  # reads that a local disk works on at once
_REMOTE_QUEUE, _FETCHES = 64, 4  # as in `tamis.training.streaming.remote`, which would load an object store's client
_PROBES, _REMOTE_PROBES = 24, 3  # where each costs a round trip, many would take longer than a wrong answer
_PIECE = 4 << 20


@dataclass(frozen=True)
class Costs:
    """What a medium costs.

    Attributes:
        latency: seconds from asking for a small range to having it.
        bandwidth: bytes a second of a long read.
        concurrent: requests that are under way at once.
        measured: which of the first two were measured here and now.
    """

    latency: float
    bandwidth: float
    concurrent: int
    measured: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way:
    """One of the three ways, for one epoch's samples.

    Attributes:
        name: "ranges", "shards" or "curated".
        requests: in the first epoch.
        bytes_first, bytes_later: read from the medium in the first epoch and in each later one.
        seconds_first, seconds_later: spent on the medium in them.
        disk: bytes that it takes on this machine, or on the medium for curated shards.
    """

    name: str
    requests: int
    bytes_first: int
    bytes_later: int
    seconds_first: float
    seconds_later: float
    disk: int

    def seconds(self, epochs: int) -> float:
        """Of a whole job."""
        return self.seconds_first + (epochs - 1) * self.seconds_later


@dataclass(frozen=True)
class ReadingPlan:
    """The answer.

    Attributes:
        ways: all three.
        best: the name of the one with the fewest seconds; a way that does not fit in the cache is not taken.
        why: a sentence.
        kept: fraction of the samples that is chosen.
        epochs: of the job.
        costs: of the medium.
        remote: whether it is an object store.
    """

    ways: tuple[Way, ...]
    best: str
    why: str
    kept: float
    epochs: int
    costs: Costs
    remote: bool


def plan(
    store: Store,
    chosen: Selection | Dataset,
    *,
    epochs: int = 1,
    costs: Costs | None = None,
    cache_limit: int = CACHE_LIMIT,
) -> ReadingPlan:
    """Compare the ways to read a selection's first round (or a whole dataset).

    Args:
        store: the store.
        chosen: what is read.
        epochs: of the job.
        costs: of the medium; by default they are measured, which reads some MB.
        cache_limit: bytes that whole shards may take on this machine.

    Raises:
        ShardChanged, StoreUnreachable: while measuring.
    """
    check_kind("chosen", chosen, Selection, Dataset)
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}: expected at least 1.")
    dataset = chosen if isinstance(chosen, Dataset) else store.datasets.get(chosen.dataset)
    remote, index = is_remote(dataset.shards), Index.open(store, dataset)
    samples = _samples(store, chosen, dataset)
    costs = costs or measure(store, dataset)
    ways = _ways(index, samples, costs, remote)
    fitting = [w for w in ways if w.name != "shards" or not remote or w.disk <= cache_limit]
    best = min(fitting, key=lambda w: w.seconds(epochs))
    kept = len(samples) / max(dataset.samples, 1)
    return ReadingPlan(ways, best.name, _why(best, ways, epochs, kept, costs), kept, epochs, costs, remote)


def choose(store: Store, chosen: Selection | Dataset, *, cache_limit: int = CACHE_LIMIT) -> str:
    """What a stream does without being told: "ranges" or "shards".

    Shards of `SMALL` bytes together are fetched whole without measuring anything: that takes seconds on any medium, and
    is done once, while ranges are paid for in each epoch. Otherwise it is the quicker of the two for a single epoch.
    """
    dataset = chosen if isinstance(chosen, Dataset) else store.datasets.get(chosen.dataset)
    touched = sum(s.bytes for s in Index.open(store, dataset).shards(_samples(store, chosen, dataset)))
    if touched <= min(SMALL, cache_limit):
        return "shards"
    found = plan(store, chosen, cache_limit=cache_limit)
    ways = {way.name: way.seconds(1) for way in found.ways if way.name != "curated"}
    return "ranges" if touched > cache_limit or ways["ranges"] <= ways["shards"] else "shards"


def measure(store: Store, dataset: Dataset, *, latency: float | None = None, bandwidth: float | None = None) -> Costs:
    """What the medium costs here and now: reads of 512 bytes (24, from an object store 3) and one of 4 MiB.

    Args:
        store: the store.
        dataset: whose shards.
        latency, bandwidth: what is known already is not measured; seconds and bytes a second.
    """
    shard = max(dataset.shards, key=lambda one: one.bytes)
    remote, small = is_remote(dataset.shards), min(512, shard.bytes)
    unknown = tuple(name for name, value in {"latency": latency, "bandwidth": bandwidth}.items() if value is None)
    places = np.random.default_rng(0).integers(0, shard.bytes - small + 1, _REMOTE_PROBES if remote else _PROBES)
    pieces = [(int(place), small) for place in places]
    pieces.append((max(0, shard.bytes - _PIECE), min(_PIECE, shard.bytes)))
    if unknown:
        *short, long = _remote(store, shard, pieces) if remote else _local(dataset.shards.index(shard), dataset, pieces)
        latency = median(short) if latency is None else latency
        bandwidth = pieces[-1][1] / max(long - latency, 1e-6) if bandwidth is None else bandwidth
    assert latency is not None
    assert bandwidth is not None
    return Costs(latency, bandwidth, _REMOTE_QUEUE if remote else _QUEUE, unknown)


def _remote(store: Store, shard: Shard, pieces: list[tuple[int, int]]) -> list[float]:
    """Seconds a piece, all asked for at once: one after the other they would take longer than a wrong choice."""
    from tamis.training.streaming.remote import probe  # an object store's client is loaded only where there is one

    return probe(shard, dict(store.root.options), pieces)


def _local(shard: int, dataset: Dataset, pieces: list[tuple[int, int]]) -> list[float]:
    """Seconds a piece, one after the other."""

    def timed(offset: int, size: int) -> float:
        where = Locations(np.array([shard], np.int32), np.array([offset]), np.array([size]))
        started = perf_counter()
        reader.each(np.zeros(1, np.int64), where)
        return perf_counter() - started

    reader = open_reader(dataset.shards, str, Media())
    try:
        timed(0, 1)  # opens and checks the shard
        return [timed(*piece) for piece in pieces]
    finally:
        reader.close()


def _samples(store: Store, chosen: Selection | Dataset, dataset: Dataset) -> NDArray[np.int64]:
    if isinstance(chosen, Dataset):
        return np.arange(dataset.samples)
    return flat.column(flat.chosen(store.root, chosen, chosen.rounds[0].round), "sample")


def _ways(index: Index, samples: NDArray[np.int64], costs: Costs, remote: bool) -> tuple[Way, ...]:
    wanted = index.bytes_of(samples)
    shards = index.shards(samples)
    whole, count = sum(s.bytes for s in shards), len(samples)
    by_range = max(count * costs.latency / costs.concurrent, wanted / costs.bandwidth)
    at_once = len(shards) * costs.latency / _FETCHES + whole / costs.bandwidth
    here = wanted / LOCAL_BANDWIDTH if remote else at_once
    extents = index.dataset.extents().size[samples].sum()  # with headers and labels: what curated shards hold
    in_a_piece = int(extents) / costs.bandwidth
    return (
        Way("ranges", count, wanted, wanted, by_range, by_range, 0),
        Way("shards", len(shards), whole, 0 if remote else whole, at_once, here, whole if remote else 0),
        Way("curated", count, wanted, int(extents), by_range + 2 * in_a_piece, in_a_piece, int(extents)),
    )


def _why(best: Way, ways: tuple[Way, ...], epochs: int, kept: float, costs: Costs) -> str:
    second = min((w for w in ways if w is not best), key=lambda w: w.seconds(epochs))
    reasons = {
        "ranges": f"only the {kept:.0%} chosen are read, and {costs.concurrent} requests of "
        f"{costs.latency * 1e3:.3g} ms at a time are quick enough",
        "shards": f"{ways[0].requests:,} requests of {costs.latency * 1e3:.3g} ms, {costs.concurrent} at a time, take "
        "longer than reading everything once",
        "curated": "the job is long enough to pay for writing the chosen samples out once",
    }
    total = "epoch" if epochs == 1 else f"{epochs} epochs"
    return (
        f"{best.name}: {reasons[best.name]} ({best.seconds(epochs):.3g} s for {total} against "
        f"{second.seconds(epochs):.3g} s with {second.name})."
    )
