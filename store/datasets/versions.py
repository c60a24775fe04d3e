"""The versions of datasets as they are kept: their heads, their shards, and what an append needs of those before it.

What: `Versions.load` and `heads` read; `Versions.newest` is the version that an append goes behind.
How: a version never changes, so that the one added last by this process is remembered, with its shards and the keys of
its samples, all checked when they were read or written. It is the newest for as long as its head is that of the same
attempt, the next version is not there, and no change of the dataset came since: three small files are asked for that,
however many versions there are. Otherwise everything is read again.
Cost: reading takes three states of tables and their files; what is remembered takes memory for the shards and up to
64 MiB of keys, of one dataset.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tamis.store.datasets.changes import Changes, holding
from tamis.store.datasets.dataset import Dataset
from tamis.store.errors import DatasetNotFound
from tamis.store.keys import NAME
from tamis.store.roots.roots import Root
from tamis.store.roots.urls import is_remote
from tamis.store.shards.shards import Shard
from tamis.store.tables.lives import Life
from tamis.store.tables.tables import Tables

_MANY = 24  # versions of a name from which on the table is read, not an entry of its index for each
_KEYS = 64 << 20  # bytes of keys that are remembered
_CHUNKS = 64


@dataclass(frozen=True)
class _Seen:
    """A version, the changes of its dataset by then, and the keys of its samples, where they were asked for."""

    dataset: Dataset
    changes: list[dict[str, Any]]
    keys: pa.ChunkedArray | None = None


class Versions:
    """The versions of the datasets of one store."""

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables
        self._seen: _Seen | None = None

    def heads(self, name: str) -> list[dict[str, Any]]:
        """The heads of all versions of a name that are there, in order."""
        if not NAME.fullmatch(name):
            return []
        newest, life = self._tables.last_of("datasets", name)
        if newest > _MANY:
            rows = self._tables.read("datasets", None, None, dataset=name).sort_by("version").to_pylist()
        else:
            rows = self._tables.every("datasets", f"name/{name}")
        return [row for row in rows if life.alive(row["version"])]

    def head(self, name: str, version: int) -> Mapping[str, Any]:
        """The head of one version.

        Raises:
            DatasetNotFound: there is no such version.
        """
        said = self._tables.found("datasets", f"name/{name}", version) if NAME.fullmatch(name) else None
        if said is None:
            raise DatasetNotFound(f"No dataset {name[:100]}@{version} in {self._root.url}.")
        return said.rows[0]

    def changes(self, name: str) -> list[dict[str, Any]]:
        """What was put right since, in order; of removed versions too."""
        return self._tables.every("dataset_changes", f"name/{name}") if NAME.fullmatch(name) else []

    def load(self, heads: Sequence[Mapping[str, Any]], version: int | None = None) -> Dataset:
        """A version of a name, by the heads of all that are there; None for the last.

        Raises:
            DatasetNotFound: it is not among them.
        """
        upto = [head for head in heads if version is None or head["version"] <= version]
        if version is not None and (not upto or upto[-1]["version"] != version):
            name, newest = heads[-1]["dataset"], heads[-1]["version"]
            self.check_there(name, version)
            raise DatasetNotFound(f"Dataset {name!r} has versions 1 to {newest}, not {version}.")
        return self._load(upto).dataset

    def newest(self, name: str) -> Dataset | None:
        """The newest version of a name, to add to; None where there is none."""
        seen = self._seen
        if seen is not None and seen.dataset.name == name and self._holds(seen):
            return seen.dataset
        heads = self.heads(name)
        self._seen = self._load(heads) if heads else None
        return None if self._seen is None else self._seen.dataset

    def is_newest(self, name: str, version: int) -> bool:
        """Whether a version is the last that is there; of 0, whether none is."""
        return self.following(name, version) is not None

    def following(self, name: str, version: int) -> tuple[int, int] | None:
        """What the next version is called, and how many rows say what became of the name; None where others are there
        behind this version."""
        newest, life = self._tables.last_of("datasets", name)
        last = next((v for v in range(newest, 0, -1) if life.alive(v)), 0)
        return (newest + 1, life.moves) if last == version else None

    def check_there(self, name: str, version: int | None) -> None:
        """Say of what was removed that it was.

        Raises:
            DatasetNotFound: it was.
        """
        newest, life = self._tables.last_of("datasets", name) if NAME.fullmatch(name) else (0, Life())
        if newest and not life.alive(version or newest) and (version or 0) <= newest:
            what = name if version is None else f"{name}@{version}"
            raise DatasetNotFound(
                f"Dataset {what} was removed. `tamis dataset restore {what}` undoes that until its files are freed "
                "(tamis gc)."
            )

    def published_classes(self, dataset: Dataset) -> tuple[str, ...]:
        """What the classes of a version were called when it was published."""
        said = self._tables.found("datasets", f"name/{dataset.name}", dataset.version) if dataset.classes else None
        return () if said is None else tuple(said.rows[0]["classes"] or ())

    def keys(self, dataset: Dataset) -> pa.ChunkedArray:
        """The keys of a version's samples."""
        seen = self._seen
        known = seen.keys if seen is not None and seen.dataset is dataset else None
        return dataset.key_column() if known is None else known

    def follow(self, base: Dataset | None, made: Dataset, keys: pa.ChunkedArray) -> None:
        """Remember a version that was published just now.

        Args:
            base: the version before it, from `newest`.
            made: the version.
            keys: of all its samples.
        """
        seen = self._seen
        if base is None:
            changes = list[dict[str, Any]]()
        elif seen is not None and seen.dataset is base:
            changes = seen.changes
        else:
            return
        if keys.num_chunks > _CHUNKS:
            keys = pa.chunked_array([keys.combine_chunks()], keys.type)
        self._seen = _Seen(made, changes, keys if keys.nbytes <= _KEYS else None)

    def absolute(self, uri: str) -> str:
        """Where a shard lies: those inside the store are kept by their place in it."""
        return uri if is_remote(uri) or os.path.isabs(uri) else f"{self._root.url}/{uri}"

    def _holds(self, seen: _Seen) -> bool:
        """Whether a version that is remembered is the newest, and as it was."""
        made = seen.dataset
        said = self._tables.found("datasets", f"name/{made.name}", made.version)
        same = said is not None and said.rows[0]["attempt"] == made.attempts[-1]
        return same and self.is_newest(made.name, made.version) and self.changes(made.name) == seen.changes

    def _load(self, heads: Sequence[Mapping[str, Any]]) -> _Seen:
        head = heads[-1]
        name, version, attempts = head["dataset"], int(head["version"]), tuple(str(h["attempt"]) for h in heads)
        rows = self.changes(name)
        changes = Changes.of(holding(rows, heads))
        there = self._tables.read("shards", dataset=name, attempt=attempts).sort_by("shard").to_pylist()
        dataset = Dataset(
            name, version, head["key"], int(head["samples"]), tuple(self._shard(row, changes) for row in there),
            head["image"], head["label"], changes.classes(version, tuple(head["classes"] or ())),
            self._tables, attempts,
        )  # fmt: skip
        return _Seen(dataset, rows)

    def _shard(self, row: Mapping[str, Any], changes: Changes) -> Shard:
        place, stamp = changes.places.get(row["shard"], (row["uri"], row["stamp"]))
        bytes_, digest, index = (row[name] for name in ("bytes", "digest", "index_digest"))
        first, count = row["first_sample"], row["count"]
        return Shard(self.absolute(place), bytes_, digest, index, stamp, first, count, self._root.options)
