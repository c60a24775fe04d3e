"""Datasets: named, versioned, immutable lists of samples that lie in WebDataset shards.

A sample is a number, dense from 0, given in the order of shards and of members in a shard. Appending shards makes the
next version; the numbers that were given stay. Shards are indexed in place and never rewritten.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.arrow import pc
from tamis.store.errors import DatasetExists, DatasetNotFound, ShardChanged, ShardError
from tamis.store.images import IMAGES
from tamis.store.keys import NAME, check_name, key_of, split_ref
from tamis.store.roots import Root
from tamis.store.shards import Shard as Shard
from tamis.store.shards import read_index, shard_uri
from tamis.store.specs import LOG, MEMBERS, TABLES
from tamis.store.tables import Tables, new_attempt, now, rows_of, until_claimed
from tamis.store.tars import ShardIndex, members_named
from tamis.store.urls import is_remote

Ints = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

AUTO = "auto"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Locations:
    """Where one member of every sample lies."""

    shard: npt.NDArray[np.int32]  # [N] index into Dataset.shards
    offset: Ints  # [N] first byte of the content
    size: Ints  # [N] bytes of the content


@dataclass(frozen=True)
class Dataset:
    """One version of a dataset. Everything here is as it was published; reading it needs no lock."""

    name: str
    version: int
    key: str
    samples: int
    shards: tuple[Shard, ...]
    image: str
    label: str | None
    classes: tuple[str, ...]
    _tables: Tables = field(repr=False, compare=False)
    attempts: tuple[str, ...] = field(repr=False, compare=False)  # whose payload it consists of

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def bytes(self) -> int:
        return sum(s.bytes for s in self.shards)

    @property
    def options(self) -> dict[str, str]:
        """The storage options with which shards on an object store are opened (`tamis.store.roots.open_objects`)."""
        return self._tables.options

    def labels(self) -> Ints:
        """[N] class numbers; -1 for all where the dataset has no labels."""
        return np.asarray(self._rows(["label"])["label"].fill_null(-1), np.int64)

    def keys(self, samples: npt.ArrayLike | None = None) -> list[str]:
        """The WebDataset keys of the given samples, or of all."""
        keys = self._rows(["key"])["key"]
        return (keys if samples is None else keys.take(pa.array(np.asarray(samples, np.int64)))).to_pylist()

    def locations(self, member: str | None = None) -> Locations:
        """Where the named member (default: the image) of every sample lies.

        Raises:
            ShardError: some samples have no such member, or more than one.
        """
        rows = self._rows(["key", "shard", "members"])
        members = rows["members"].combine_chunks()
        names, offset, size = members.flatten().flatten()
        starts = np.asarray(members.offsets, np.int64)
        at = members_named(self.ref, rows["key"].combine_chunks(), starts - starts[0], names, member or self.image)
        return Locations(
            np.asarray(rows["shard"], np.int32),
            np.asarray(offset, np.int64)[at],
            np.asarray(size, np.int64)[at],
        )

    def extents(self) -> Locations:
        """Where every whole sample lies, headers and padding included."""
        rows = self._rows(["shard", "offset", "size"])
        shard, offset, size = (np.asarray(rows[c]) for c in ("shard", "offset", "size"))
        return Locations(shard.astype(np.int32), offset.astype(np.int64), size.astype(np.int64))

    def members(self) -> pa.Table:
        """Every member of every sample: `sample`, `key`, `shard`, `members` (list of name, offset, size), by sample."""
        return self._rows(["key", "shard", "members"])

    def verify(self, progress: Progress | None = None) -> list[str]:
        """Hash every shard again; one sentence for each that is missing or changed, none when all is well."""
        return [p for p in _in_threads(Shard.problem, self.shards, progress) if p is not None]

    def _rows(self, columns: list[str]) -> pa.Table:
        rows = self._tables.read("samples", None, ["sample", *columns], dataset=self.name, attempt=self.attempts)
        order = np.asarray(rows["sample"])
        if (np.diff(order) != 1).any():
            rows = rows.take(pa.array(np.argsort(order)))
        if len(rows) < self.samples:
            raise DatasetNotFound(f"{self.ref}: {self.samples} samples were published, {len(rows)} can be read.")
        return rows


class Datasets:
    """The datasets of one store."""

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables

    def add(
        self,
        name: str,
        shards: Sequence[str | os.PathLike[str]],
        *,
        image: str = AUTO,
        label: str | None = AUTO,
        classes: Sequence[str] = (),
        digests: bool = True,
        append: bool = False,
        progress: Progress | None = None,
    ) -> Dataset:
        """Index shards in place and publish them as a dataset, or as the next version of one.

        Args:
            name: the dataset's name.
            shards: uncompressed tar files, paths or URLs of objects, in the order that numbers the samples.
            image: the member that holds the input ("png", ...); "auto" takes the first of IMAGES that is there.
            label: the member that holds the class number; None for data without labels; "auto" takes "cls".
            classes: names of the classes, by number; may be empty.
            digests: hash every shard, so that a later change of its bytes is noticed.
            append: add to the newest version of the name; shards that it has already are passed over.
            progress: called with (shards done, shards).

        Returns:
            The dataset. Adding the same shards again returns what is there.

        Raises:
            DatasetExists: the name has other content.
            ShardError, ShardChanged: a shard cannot be indexed.
        """
        check_name(name, "dataset")
        started = now()
        uris = _distinct([shard_uri(s) for s in shards])
        base = self._newest(name)
        if base is None and append:
            raise DatasetNotFound(f"No dataset {name!r} to append to; there are: {self._names()}. Add it first.")
        if base is not None:
            image, label = base.image, base.label
            classes = classes or base.classes
        found = _index_all(uris, image, label, digests, self._root.options, progress)
        image, label = found[0].image, found[0].label
        _check_classes(found, classes)

        def publish() -> Dataset | None:
            newest = base
            if self._tables.claimed("datasets", f"name/{name}") != (0 if base is None else base.version):
                newest = self._newest(name)  # others were here meanwhile
            if newest is not None and not append:
                return self._same(newest, found)
            fresh = _not_in(newest, found)
            if newest is not None and not fresh:
                return newest
            return self._publish(name, newest, fresh, image, label, tuple(classes), (now() - started).total_seconds())

        return until_claimed(publish, f"Publishing dataset {name}")

    def get(self, ref: str) -> Dataset:
        """A dataset by "name" (newest version) or "name@version".

        Raises:
            DatasetNotFound: lists what there is.
        """
        name, version = split_ref(ref)
        heads = self._heads(name)
        if not heads:
            raise DatasetNotFound(f"No dataset {name!r} in {self._root.url}; there are: {self._names()}.")
        if version is not None and version > len(heads):
            raise DatasetNotFound(f"Dataset {name!r} has versions 1 to {len(heads)}, not {version}.")
        return self._load(heads[: version or len(heads)])

    def all(self) -> list[dict[str, object]]:
        """One row a version: dataset, version, samples, shards, bytes, image, label, classes, created."""
        rows = self._tables.read("datasets").drop_columns(["attempt", LOG])
        return rows.sort_by([("dataset", "ascending"), ("version", "ascending")]).to_pylist()

    def _heads(self, name: str) -> list[dict[str, object]]:
        return self._tables.every("datasets", f"name/{name}") if NAME.fullmatch(name) else []

    def _names(self) -> str:
        return ", ".join(sorted(set(self._tables.read("datasets", None, ["dataset"])["dataset"].to_pylist()))) or "none"

    def _newest(self, name: str) -> Dataset | None:
        heads = self._heads(name)
        return self._load(heads) if heads else None

    def _load(self, heads: list[dict[str, object]]) -> Dataset:
        head = heads[-1]
        name, attempts = str(head["dataset"]), tuple(str(h["attempt"]) for h in heads)
        rows = self._tables.read("shards", dataset=name, attempt=attempts).sort_by("shard").to_pylist()
        shards = tuple(
            Shard(
                self._absolute(r["uri"]),
                r["bytes"],
                r["digest"],
                r["index_digest"],
                r["stamp"],
                r["first_sample"],
                r["count"],
                self._root.options,
            )
            for r in rows
        )
        return Dataset(
            name, int(str(head["version"])), str(head["key"]), int(str(head["samples"])), shards, str(head["image"]),
            None if head["label"] is None else str(head["label"]), tuple(head["classes"] or ()),  # type: ignore[arg-type]  # all are texts
            self._tables, attempts,
        )  # fmt: skip

    def _same(self, there: Dataset, found: "list[_Found]") -> Dataset:
        """The version that consists of exactly these shards, else DatasetExists."""
        alike = all(_alike(s, f.shard) for s, f in zip(there.shards, found, strict=False))
        for head in self._heads(there.name) if alike else ():  # each version has the shards of those before it
            if head["shards"] == len(found):
                return self.get(f"{there.name}@{head['version']}")
        raise DatasetExists(
            f"Dataset {there.name!r} is there already (version {there.version}, {there.samples} samples) and has other "
            "shards. Datasets never change: append the new shards (--append), or choose another name."
        )

    def _publish(
        self,
        name: str,
        base: Dataset | None,
        found: "list[_Found]",
        image: str,
        label: str | None,
        classes: tuple[str, ...],
        seconds: float,
    ) -> Dataset | None:
        """Payload first, the head last; None when somebody else published this version meanwhile."""
        attempt, version = new_attempt(), 1 if base is None else base.version + 1
        first = 0 if base is None else base.samples
        before = () if base is None else base.shards
        _check_keys(base, found)
        shards: list[Shard] = []
        for one in found:
            shards.append(replace(one.shard, first_sample=first))
            first += one.shard.count
        everything = (*before, *shards)
        key = key_of(
            "dataset",
            {
                "shards": [s.content for s in everything],
                "image": image,
                "label": label,
                "classes": list(classes),
            },
        )
        rows = _sample_rows(name, attempt, len(before), shards, [f.index for f in found])
        samples_at = self._tables.append("samples", rows)
        shards_at = self._tables.append("shards", self._shard_rows(name, version, attempt, len(before), shards))
        head = {
            "dataset": name, "version": version, "key": key, "samples": first, "shards": len(everything),
            "bytes": sum(s.bytes for s in everything), "image": image, "label": label, "classes": list(classes),
            "seconds": seconds, "created": now(), "attempt": attempt,
        }  # fmt: skip
        if self._tables.publish("datasets", [head], {f"name/{name}": version}):
            attempts = (*(() if base is None else base.attempts), attempt)
            return Dataset(name, version, key, first, everything, image, label, tuple(classes), self._tables, attempts)
        self._tables.drop_attempt("samples", samples_at)
        self._tables.drop_attempt("shards", shards_at)
        return None

    def _shard_rows(self, name: str, version: int, attempt: str, before: int, shards: list[Shard]) -> pa.Table:
        columns: dict[str, object] = {"dataset": name, "version": version, "attempt": attempt}
        columns["shard"] = pa.array(range(before, before + len(shards)), pa.int32())
        columns["uri"] = pa.array([self._relative(s.uri) for s in shards])
        for field_name in ("bytes", "digest", "index_digest", "stamp", "first_sample", "count"):
            kind = TABLES["shards"].schema.field(field_name).type
            columns[field_name] = pa.array([getattr(s, field_name) for s in shards], kind)
        return rows_of("shards", columns, len(shards))

    def _relative(self, uri: str) -> str:
        """Shards inside the store are kept by their place in it, so that the store may move as a whole."""
        if self._root.path is None:
            return uri.removeprefix(f"{self._root.url}/")
        if not is_remote(uri) and Path(uri).is_relative_to(self._root.path):
            return Path(uri).relative_to(self._root.path).as_posix()
        return uri

    def _absolute(self, uri: str) -> str:
        return uri if is_remote(uri) or Path(uri).is_absolute() else f"{self._root.url}/{uri}"


@dataclass(frozen=True)
class _Found:
    shard: Shard
    index: ShardIndex
    image: str
    label: str | None


def _index_all(
    uris: list[str],
    image: str,
    label: str | None,
    digests: bool,
    options: dict[str, str],
    progress: Progress | None,
) -> list[_Found]:
    # Hashing and fetching release the interpreter and hopping over headers does not: threads overlap them.
    found = list(_in_threads(lambda uri: _index_one(uri, image, label, digests, options), uris, progress))
    for one in found:
        if one.image != found[0].image:  # found by itself, and another kind than in the first shard
            index = one.index
            members_named(one.shard.uri, index.keys, index.member_start, index.member_name, found[0].image, "image")
    return found


def _index_one(uri: str, image: str, label: str | None, digests: bool, options: dict[str, str]) -> _Found:
    label = "cls" if label == AUTO else label
    shard, index = read_index(uri, label, digests, options)
    names = set(index.member_name.unique().to_pylist())
    if image == AUTO:
        image = next((suffix for suffix in IMAGES if suffix in names), "")
        if not image:
            raise ShardError(
                f"Shard {uri} has no image member ({', '.join(IMAGES)}); its members are: {', '.join(sorted(names))}. "
                "Say which member is the input (--image)."
            )
    members_named(uri, index.keys, index.member_start, index.member_name, image, "image")
    return _Found(shard, index, image, label)


def _sample_rows(
    name: str, attempt: str, before: int, shards: list[Shard], indexes: list[ShardIndex]
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


def _not_in(base: Dataset | None, found: list[_Found]) -> list[_Found]:
    """The shards that the base does not have."""
    there = {} if base is None else {s.uri: s for s in base.shards}
    known = {s.index_digest: s for s in there.values()}
    fresh: list[_Found] = []
    for one in found:
        same = known.get(one.shard.index_digest)
        if same is not None and _alike(same, one.shard):
            continue
        if one.shard.uri in there:
            raise ShardChanged(
                f"Shard {one.shard.uri} is in the dataset already and changed since. Numbers that were given stay, so "
                "it cannot be replaced: restore it, or add the new file as a dataset of another name."
            )
        fresh.append(one)
    return fresh


def _alike(a: Shard, b: Shard) -> bool:
    if a.digest and b.digest:
        return a.digest == b.digest
    return a.index_digest == b.index_digest and a.bytes == b.bytes


def _check_keys(base: Dataset | None, found: list[_Found]) -> None:
    """Refuse keys that name two samples: the key is how people find a sample again."""
    keys = [one.index.keys for one in found]
    if base is not None:
        keys.insert(0, pa.array(base.keys(), pa.string()))
    everything = pa.chunked_array(keys, pa.string())
    if pc.count_distinct(everything).as_py() == len(everything):
        return
    counts = pc.value_counts(everything)
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    some = ", ".join(doubled[:3].to_pylist())
    where = [one.shard.uri for one in found if pc.is_in(one.index.keys, value_set=doubled[:1]).true_count]
    raise ShardError(
        f"{len(doubled)} keys stand for more than one sample (first: {some}; in {', '.join(where[:3])}). "
        "Keys must be unique in a dataset: rename the members, or leave one of the shards out."
    )


def _check_classes(found: list[_Found], classes: Sequence[str]) -> None:
    top = max((int(one.index.label.max()) for one in found if one.index.label is not None), default=-1)
    if classes and top >= len(classes):
        raise ShardError(
            f"There are {len(classes)} class names and a label {top}: labels go from 0 to {len(classes) - 1}."
        )


def _distinct(uris: list[str]) -> list[str]:
    if not uris:
        raise ShardError("No shards were named: a dataset has at least one tar file.")
    if len(set(uris)) < len(uris):
        twice = next(u for u in uris if uris.count(u) > 1)
        raise ShardError(f"Shard {twice} is named twice: each shard belongs to a dataset once.")
    return uris


def _in_threads(work: Callable[[T], R], items: Sequence[T], progress: Progress | None) -> Iterator[R]:
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        for done, answer in enumerate(pool.map(work, items), 1):
            if progress is not None:
                progress(done, len(items))
            yield answer
