"""Curated shards: a selection written out as WebDataset shards that stock `webdataset` reads, weights included.

What: `materialize` copies the members of every chosen sample, byte for byte, into new shards and adds one member,
`KEY.tamis.json`, with the sample's weight, number and rank; stock decoders read it as JSON. The order is a keyed
permutation of the chosen samples, so shards are not sorted by class and a small shuffle buffer is enough.
When: a program that knows nothing of tamis reads the samples, or few are chosen of many on a medium where ranges are
slow. Otherwise `tamis.training.streaming.stream` trains from the shards as they lie.
How: a set is named by the sha256 of all that decides its bytes, and the same selection gives the same bytes on every
machine with any number of workers. Shards appear when they are whole and the manifest comes last (`training.curated`):
what was killed goes on where it was, and two at once leave one set.
Safety: names that lead out of the folder they are extracted into are refused; members that stock decoders would
unpickle (`.pkl`, `.pkl.gz`, `.pyd`, ...) are left out and counted. Where a dataset's labels are not those of its shards
(`tamis.store.datasets.flipping`), its class numbers are written in place of the member that holds the old ones.
Cost: about 15 µs of CPU a sample of a few kB; memory for one shard and 32 MiB a worker.
"""

import hashlib
import io
import math
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store.datasets import Dataset, Progress
from tamis.store.keys import key_of
from tamis.store.roots.roots import Root
from tamis.store.selections import Round, Selection
from tamis.store.selections.rounds import in_force
from tamis.training.border import check_kind
from tamis.training.decoding.suffixes import is_executable
from tamis.training.errors import DecoderRefused
from tamis.training.export.layout import Layout, lay_out
from tamis.training.export.manifest import VERSION, Curated, CuratedShard, Place, shard_name
from tamis.training.export.tar import END, header, padding
from tamis.training.streaming.local import Reader
from tamis.training.streaming.readers import Media, open_reader

SHARD_SIZE = 64 << 20
LARGEST = 4 << 30  # an object store takes 5 GiB in one request, and only one request can be put-if-absent

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def materialize(
    store: Store,
    selection: Selection,
    destination: str | None = None,
    *,
    epoch: int | None = None,
    shard_size: int = SHARD_SIZE,
    workers: int = 2,
    check: Literal["stamp", "headers", "digest"] = "stamp",
    options: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Curated:
    """Write a selection as shards, or find them written.

    Args:
        store: the store that knows the selection.
        selection: what to write.
        destination: a folder, or a URL that `tamis.store.roots.roots` knows; by default `curated/<key>` in the store.
        epoch: of a selection with several rounds, the one in force in this epoch; by default the first round.
        shard_size: about how many bytes a shard has, at most 4 GiB; a larger sample is a shard of its own.
        workers: threads, each with a shard in memory.
        check: how far source shards are trusted, see `tamis.training.streaming.readers.Media`.
        options: storage options of the destination; by default the store's.
        progress: called with (samples done, samples), from one thread at a time.

    Returns:
        The finished set.

    Raises:
        SelectionError: no round is in force so early.
        ShardChanged: a source shard is missing or no longer the one that was indexed.
        ShardError: a sample has two members of one name, or a name with ".." or a leading "/".
        DecoderRefused: the dataset's image or label is a pickle.
        DestinationTaken: other things lie at the destination under the names of the shards or of the manifest.
        StoreFull: no space is left. What was finished is kept, and the same call goes on from there.
    """
    if not 1 <= shard_size <= LARGEST or workers < 1:
        raise ValueError(
            f"shard_size is {shard_size}, workers {workers}: expected 1 to {LARGEST} bytes, and 1 or more threads."
        )
    check_kind("selection", selection, Selection)
    dataset, chosen = store.datasets.get(selection.dataset), _round(selection, epoch)
    _refuse_executable(dataset)
    samples, weights = selection.read_round(chosen.round)
    content = _content(dataset, samples, weights)
    key = key_of("curated", {"version": VERSION, "content": content, "shard_size": shard_size})
    where = f"{store.root.url}/curated/{key}" if destination is None else destination
    place = Place(Root(where, store.root.options if options is None else options), key)
    there = place.manifest()
    if there is not None and place.is_whole(there):
        return replace(there, **_asked(selection, chosen, dataset), cached=True, kept=len(there.shards))
    place.root.prepare()
    layout = lay_out(dataset, samples, weights, content, shard_size)
    media = Media(check=check, sparse=2 * len(samples) < dataset.samples, options=dataset.options)
    job = _Job(place, dataset, layout, media, place.finished(there), _Count(len(samples), progress))
    shards = job.run(workers)
    curated = Curated(
        key=key, url=place.root.url, **_asked(selection, chosen, dataset), dataset_key=dataset.key,
        dataset_bytes=dataset.bytes, samples=len(samples), bytes=sum(s.bytes for s in shards), weights=_facts(weights),
        left_out=layout.left_out, shards=shards, kept=len(job.known),
    )  # fmt: skip
    place.publish(curated)
    return curated


def _round(selection: Selection, epoch: int | None) -> Round:
    return selection.rounds[0] if epoch is None else in_force(selection.rounds, epoch, selection.ref)


def _refuse_executable(dataset: Dataset) -> None:
    for suffix in (dataset.image, dataset.label_member or ""):
        if is_executable(suffix):
            raise DecoderRefused(
                f"Member .{suffix} of {dataset.ref} is not copied: stock decoders would unpickle it, and pickles run "
                "code. Pack the dataset with images and class numbers as plain files."
            )


def _content(dataset: Dataset, samples: Ints, weights: Floats) -> str:
    """What was chosen, not how: under one selection key another machine's scores may have chosen something else."""
    chosen = hashlib.sha256(samples.astype("<i8").tobytes() + weights.astype("<f4").tobytes())
    return key_of("chosen", {"dataset": dataset.key, "samples_and_weights": chosen.hexdigest()})


def _asked(selection: Selection, chosen: Round, dataset: Dataset) -> dict[str, Any]:
    """What the set is called. Two selections that chose the same have one set."""
    return {
        "selection": selection.ref,
        "selection_key": selection.key,
        "round": chosen.round,
        "first_epoch": chosen.first_epoch,
        "dataset": dataset.ref,
    }


def _facts(weights: Floats) -> dict[str, float]:
    # fsum is exact, so the manifest does not depend on how a machine adds.
    mean = math.fsum(weights.tolist()) / len(weights)
    return {"min": float(weights.min()), "max": float(weights.max()), "mean": mean}


class _Count:
    """Samples done, reported one call at a time."""

    def __init__(self, total: int, report: Progress | None) -> None:
        self._total, self._report, self._done, self._lock = total, report, 0, threading.Lock()

    def add(self, samples: int) -> None:
        with self._lock:
            self._done += samples
            if self._report is not None:
                self._report(self._done, self._total)


@dataclass(frozen=True)
class _Job:
    """Writing one set."""

    place: Place
    dataset: Dataset
    layout: Layout
    media: Media
    known: dict[str, CuratedShard]  # finished before, by name
    count: _Count = field(repr=False)

    def run(self, workers: int) -> tuple[CuratedShard, ...]:
        """Every shard, found or made. The first error, or Ctrl-C, ends it after the shards that are being made."""
        readers = SimpleQueue[Reader]()
        with ExitStack() as stack:
            for _ in range(workers):  # a reader serves one thread at a time
                readers.put(stack.enter_context(closing(open_reader(self.dataset.shards, self._called, self.media))))
            pool = stack.enter_context(ThreadPoolExecutor(workers, "curate"))
            futures = [pool.submit(self._one, number, readers) for number in range(len(self.layout.cuts) - 1)]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
            return tuple(future.result() for future in futures)

    def _called(self, sample: int) -> str:
        return str(self.layout.keys[self._places[sample]])

    @cached_property
    def _places(self) -> dict[int, int]:
        return {sample: place for place, sample in enumerate(self.layout.samples.tolist())}

    def _one(self, number: int, readers: "SimpleQueue[Reader]") -> CuratedShard:
        known = self.known.get(shard_name(number))
        if known is not None:
            self.place.check(known)
            self.count.add(known.samples)
            return known
        reader = readers.get()
        try:
            data = self._tar(number, reader)
        finally:
            readers.put(reader)
        return self.place.put(number, data, self.layout.cuts[number + 1] - self.layout.cuts[number])

    def _tar(self, number: int, reader: Reader) -> bytes:
        file = io.BytesIO()  # its getvalue() hands out what was written without a copy
        for a, b in self.layout.pieces(number):
            contents = iter(reader.read(*self.layout.members(a, b)).views())
            for key, suffixes, added in self.layout.names(a, b):
                for suffix in suffixes:
                    _add(file, f"{key}.{suffix}", next(contents))
                for suffix, content in added.items():
                    _add(file, f"{key}.{suffix}", content)
            self.count.add(b - a)
        file.write(END)
        return file.getvalue()


def _add(file: io.BytesIO, name: str, content: bytes | memoryview) -> None:
    size = len(content)
    file.write(header(name.encode(), size))
    file.write(content)
    file.write(padding(size))
