"""Indexing the shards of a dataset: each is read, held against the others, and turned into rows."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tamis.store.errors import ShardChanged, ShardError
from tamis.store.shards.images import EITHER, IMAGES
from tamis.store.shards.shards import Shard, read_index
from tamis.store.shards.tars import ShardIndex, members_named
from tamis.store.tables.arrow import pc
from tamis.store.tables.specs import MEMBERS, TABLES
from tamis.store.tables.tables import rows_of

Progress = Callable[[int, int], None]

AUTO = "auto"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Found:
    """A shard, indexed."""

    shard: Shard
    index: ShardIndex
    image: str
    label: str | None


def index_all(
    uris: Sequence[str],
    image: str,
    label: str | None,
    digests: bool,
    options: dict[str, str],
    progress: Progress | None,
) -> list[Found]:
    """Index shards, several at once; all have the image of the first.

    Args:
        uris, image, label, digests, progress: as `Datasets.add` takes them.
        options: storage options.

    Raises:
        ShardError, ShardChanged: a shard cannot be indexed.
    """
    # Hashing and fetching release the interpreter and hopping over headers does not: threads overlap them.
    found = list(in_threads(lambda uri: _index_one(uri, image, label, digests, options), uris, progress))
    for one in found:
        if one.image != found[0].image:  # found by itself, and another kind than in the first shard
            index = one.index
            members_named(one.shard.uri, index.keys, index.member_start, index.member_name, found[0].image, "image")
    return found


def _index_one(uri: str, image: str, label: str | None, digests: bool, options: dict[str, str]) -> Found:
    label = "cls" if label == AUTO else label
    shard, index = read_index(uri, label, digests, options)
    names = set(index.member_name.unique().to_pylist())
    if image == AUTO:
        image = _image(index, [suffix for suffix in IMAGES if suffix in names])
        if not image:
            raise ShardError(
                f"Shard {uri} has no image member ({', '.join(IMAGES)}); its members are: {', '.join(sorted(names))}. "
                "Specify the input member (--image)."
            )
    members_named(uri, index.keys, index.member_start, index.member_name, image, "image")
    return Found(shard, index, image, label)


def _image(index: ShardIndex, suffixes: list[str]) -> str:
    """The first image of a list that every sample has; where none is, any of them ("png;jpg")."""
    every = [s for s in suffixes[:1] if pc.sum(pc.equal(index.member_name, s)).as_py() >= len(index.keys)]
    return EITHER.join(every or suffixes)


def sample_rows(
    name: str, attempt: str, before: int, shards: Sequence[Shard], indexes: Sequence[ShardIndex]
) -> pa.RecordBatchReader:
    """One batch a shard, so that memory does not grow with the dataset."""

    def batches() -> Iterator[pa.RecordBatch]:
        for number, (shard, index) in enumerate(zip(shards, indexes, strict=True), before):
            members = pa.StructArray.from_arrays(
                [index.member_name, pa.array(index.member_offset), pa.array(index.member_size)],
                fields=list(MEMBERS.value_type),
            )
            columns = {
                "dataset": name, "attempt": attempt, "shard": number, "key": index.keys,
                "sample": np.arange(shard.first_sample, shard.first_sample + shard.count), "offset": index.offset,
                "size": index.size, "label": index.label,
                "members": pa.ListArray.from_arrays(pa.array(index.member_start, pa.int32()), members).cast(MEMBERS),
            }  # fmt: skip
            yield from rows_of("samples", columns, shard.count).to_batches()

    return pa.RecordBatchReader.from_batches(TABLES["samples"].schema, batches())


def not_in(there: Sequence[Shard], found: Sequence[Found]) -> tuple[list[Found], dict[int, Shard]]:
    """What is found and not there yet; and what is there already, by its number, as it was found now.

    Raises:
        ShardChanged: a shard that is there has other content now.
    """
    places = {s.uri for s in there}
    known = {s.index_digest: number for number, s in enumerate(there)}
    fresh, again = list[Found](), dict[int, Shard]()
    for one in found:
        number = known.get(one.shard.index_digest)
        if number is not None and alike(there[number], one.shard):
            again[number] = one.shard
            continue
        if one.shard.uri in places:
            raise ShardChanged(
                f"Shard {one.shard.uri} is in the dataset already and changed since (or is in it in part). Numbers "
                "that were given stay, so it cannot be replaced: restore it, or add the new file as a dataset of "
                "another name."
            )
        fresh.append(one)
    return fresh, again


def alike(a: Shard, b: Shard) -> bool:
    """Whether two shards have the same content, as far as is known."""
    if a.is_part or b.is_part:
        return a.content == b.content
    if a.digest and b.digest:
        return a.digest == b.digest
    return a.index_digest == b.index_digest and a.bytes == b.bytes


def check_keys(everything: pa.ChunkedArray, found: Sequence[Found]) -> None:
    """Refuse keys that name two samples: the key is how people find a sample again.

    Args:
        everything: the keys of all samples, those of the shards that were found included.
        found: the shards that are to be added.
    """
    if pc.count_distinct(everything).as_py() == len(everything):
        return
    counts = pc.value_counts(everything)
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    some = ", ".join(doubled[:3].to_pylist())
    where = [one.shard.uri for one in found if pc.is_in(one.index.keys, value_set=doubled[:1]).true_count]
    raise ShardError(
        f"{len(doubled)} keys belong to more than one sample (first: {some}; in {', '.join(where[:3])}). "
        "Keys must be unique in a dataset: rename the members, or leave out one of the shards."
    )


def check_count(found: Sequence[Found], classes: Sequence[str]) -> None:
    """Refuse labels that have no name, where there are names."""
    top = max((int(one.index.label.max()) for one in found if one.index.label is not None), default=-1)
    if classes and top >= len(classes):
        raise ShardError(
            f"There are {len(classes)} class names, but a label is {top}: expected 0 to {len(classes) - 1}."
        )


def distinct(uris: list[str]) -> list[str]:
    """The same addresses, each named once."""
    if not uris:
        raise ShardError("No shards were given: a dataset needs at least one tar file.")
    if len(set(uris)) < len(uris):
        twice = next(u for u in uris if uris.count(u) > 1)
        raise ShardError(f"Shard {twice} is listed twice: a dataset contains each shard once.")
    return uris


def in_threads(work: Callable[[T], R], items: Sequence[T], progress: Progress | None) -> Iterator[R]:
    """Work done on several threads, in the order of the items."""
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        for done, answer in enumerate(pool.map(work, items), 1):
            if progress is not None:
                progress(done, len(items))
            yield answer
