"""One version of a dataset, and where its samples lie."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.datasets.frames import Frames
from tamis.store.errors import DatasetNotFound
from tamis.store.shards.indexing import Progress, in_threads
from tamis.store.shards.labels import parse_label
from tamis.store.shards.shards import Shard
from tamis.store.shards.skipped import Skipped
from tamis.store.shards.tars import members_named
from tamis.store.tables.specs import TABLES
from tamis.store.tables.tables import Tables

Ints = npt.NDArray[np.int64]


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
    def label_member(self) -> str | None:
        """The member that holds the label, or the value that is the label."""
        return None if self.label is None else parse_label(self.label).member

    @property
    def relabelled(self) -> bool:
        """Whether labels are others than its shards hold (`tamis.store.datasets.flipping`)."""
        return any(shard.is_relabelled for shard in self.shards)

    @property
    def outdated(self) -> str | None:
        """The member whose content is no longer the label; None where labels are those of the shards."""
        return self.label_member if self.relabelled else None

    @property
    def given_label(self) -> str | None:
        """The member under which readers are given the label: "cls" in place of one that holds an old one inside."""
        if self.label is None or self.outdated is None or not parse_label(self.label).path:
            return self.label_member
        return "cls"

    @property
    def has_classes(self) -> bool:
        """Whether its labels are classes: not where it has none, or numbers to learn."""
        return self.label is not None and not parse_label(self.label).number

    @property
    def bytes(self) -> int:
        return sum(s.bytes for s in self.shards)

    @property
    def options(self) -> dict[str, str]:
        """The storage options with which shards on an object store are opened."""
        return self._tables.options

    def labels(self) -> Ints:
        """[N] class numbers; -1 for all where the dataset has no labels, or numbers to learn."""
        return np.asarray(self._rows(["label"])["label"].fill_null(-1), np.int64)

    def keys(self, samples: npt.ArrayLike | None = None) -> list[str]:
        """The WebDataset keys of the given samples, or of all."""
        keys = self.key_column()
        return (keys if samples is None else keys.take(pa.array(np.asarray(samples, np.int64)))).to_pylist()

    def key_column(self) -> pa.ChunkedArray:
        """As `keys` of all, as Arrow has them."""
        return self._rows(["key"])["key"]

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

    def rows(self) -> pa.Table:
        """The rows of the table `samples`, by sample."""
        return self._rows([c for c in TABLES["samples"].schema.names if c != "sample"])

    def origin(self) -> dict[str, Any] | None:
        """How it was made: the first of `origins`; None where it was made of shards that were there."""
        return next(iter(self.origins()), None)

    def origins(self) -> list[dict[str, Any]]:
        """How its versions were derived or packed, in order: kind, source, source_key, params (JSON)."""
        columns = ["kind", "source", "source_key", "params", "attempt"]
        rows = self._tables.read("dataset_origins", None, columns, dataset=self.name, attempt=self.attempts)
        found = sorted(rows.to_pylist(), key=lambda row: self.attempts.index(row["attempt"]))
        return [{name: row[name] for name in columns[:-1]} for row in found]

    def frames(self) -> Frames | None:
        """Which camera took which sample, and when; None where no sample is a frame of a video."""
        columns = ["sample", "camera", "video", "seconds"]
        rows = self._tables.read("frames", None, columns, dataset=self.name, attempt=self.attempts)
        return Frames.of(rows, self.samples) if len(rows) else None

    def verify(self, progress: Progress | None = None) -> list[str]:
        """Hash every shard again; one sentence for each that is missing or changed, none when all is well."""
        return [p for p in in_threads(Shard.problem, self.shards, progress) if p is not None]

    def _rows(self, columns: list[str]) -> pa.Table:
        rows = self._tables.read("samples", None, ["sample", *columns], dataset=self.name, attempt=self.attempts)
        order = np.asarray(rows["sample"])
        if (np.diff(order) != 1).any():
            rows = rows.take(pa.array(np.argsort(order)))
        if len(rows) < self.samples:
            raise DatasetNotFound(f"{self.ref}: {self.samples} samples were published, {len(rows)} can be read.")
        return rows


@dataclass(frozen=True)
class Added:
    """What adding shards came to."""

    dataset: Dataset
    skipped: tuple[Skipped, ...]  # what of the shards is in no sample
    moved: int  # shards that were there already, and lie elsewhere now
    renamed: bool  # whether classes that were there are called otherwise now
