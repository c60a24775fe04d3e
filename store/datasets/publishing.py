"""Publishing a version of a dataset: shards and rows of samples first, the head that makes them visible last.

How: an attempt writes its payload, and the head names it under a claim of (name, version). Who loses the claim takes
his payload back. A dataset that is derived of another (`splitting`, `flipping`) has its shards, and where it came from
is part of the payload; so is which camera took which frame (`frames`).
Cost: one append a table and one commit.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.datasets.dataset import Dataset
from tamis.store.datasets.versions import Versions
from tamis.store.errors import DatasetExists, TamisError
from tamis.store.keys import key_of, split_ref
from tamis.store.naming.needs import publish_needing
from tamis.store.roots.roots import Root
from tamis.store.roots.urls import is_remote
from tamis.store.shards.shards import Shard
from tamis.store.tables.heads import Barred
from tamis.store.tables.lives import Need
from tamis.store.tables.specs import TABLES
from tamis.store.tables.tables import Tables, new_attempt, now, rows_of, until_claimed


class Publisher:
    """Publishes versions of the datasets of one store."""

    def __init__(self, root: Root, tables: Tables, versions: Versions) -> None:
        self._root, self._tables, self._versions = root, tables, versions

    def derive(
        self,
        name: str,
        base: Dataset,
        shards: tuple[Shard, ...],
        rows: Callable[[str], pa.RecordBatchReader],
        started: datetime,
        origin: Mapping[str, Any] | None = None,
        samples: npt.NDArray[np.int64] | None = None,
    ) -> Dataset:
        """Publish a dataset that has another's shards, and some of its samples or all, or find it."""
        shot = base.frames()
        frames = None if shot is None else (lambda attempt: shot.rows(name, attempt, samples))

        def publish() -> Dataset | None:
            there = self.same(name, shards)
            if there is not None:
                return there
            seconds = (now() - started).total_seconds()
            return self.keep(
                name,
                None,
                list(shards),
                rows,
                base.image,
                base.label,
                base.classes,
                seconds,
                origin=origin,
                frames=frames,
            )

        return until_claimed(publish, f"Publishing dataset {name}")

    def same(self, name: str, shards: Sequence[Shard]) -> Dataset | None:
        """The dataset of this name, which must consist of just these shards; None where there is none."""
        there = self._versions.newest(name)
        if there is None or [s.content for s in there.shards] == [s.content for s in shards]:
            return there
        raise DatasetExists(
            f"Dataset {name!r} already exists (version {there.version}, {there.samples} samples) and has other "
            "samples or labels. Nothing was written: choose other names, or use the seed and shares that made it."
        )

    def keep(
        self,
        name: str,
        base: Dataset | None,
        shards: list[Shard],
        rows: Callable[[str], pa.RecordBatchReader],
        image: str,
        label: str | None,
        classes: tuple[str, ...],
        seconds: float,
        origin: Mapping[str, Any] | None = None,
        frames: Callable[[str], pa.Table] | None = None,
    ) -> Dataset | None:
        """Publish shards and the rows of their samples, which an attempt's name is given to, behind a version's."""
        attempt = new_attempt()
        next_one = self._versions.following(name, 0 if base is None else base.version)
        if next_one is None:
            return None
        version, moves = next_one
        before = () if base is None else base.shards
        everything = (*before, *shards)
        contents = {"shards": [s.content for s in everything], "image": image, "label": label}
        key = key_of("dataset", {**contents, "classes": list(classes)})
        written = {
            "samples": self._tables.append("samples", rows(attempt)),
            "shards": self._tables.append("shards", self._shard_rows(name, version, attempt, len(before), shards)),
        }
        if origin is not None:
            row = rows_of("dataset_origins", {"dataset": name, "attempt": attempt, **origin}, 1)
            written["dataset_origins"] = self._tables.append("dataset_origins", row)
        rows_of_frames = None if frames is None else frames(attempt)
        if rows_of_frames is not None and len(rows_of_frames):
            written["frames"] = self._tables.append("frames", rows_of_frames)
        count = everything[-1].first_sample + everything[-1].count
        head = {
            "dataset": name, "version": version, "key": key, "samples": count, "shards": len(everything),
            "bytes": sum(s.bytes for s in everything), "image": image, "label": label, "classes": list(classes),
            "seconds": seconds, "created": now(), "attempt": attempt,
        }  # fmt: skip
        needs = [] if base is None else [Need("datasets", name, base.version)]
        if origin is not None and origin.get("source"):
            source, number = split_ref(str(origin["source"]))
            needs.append(Need("datasets", source, number or 0))
        try:
            made = self._shown(head, version, needs, moves)
        except TamisError:
            self._forget(written)
            raise
        if made:
            attempts = (*(() if base is None else base.attempts), attempt)
            return Dataset(name, version, key, count, everything, image, label, tuple(classes), self._tables, attempts)
        self._forget(written)
        return None

    def _shown(self, head: dict[str, Any], version: int, needs: list[Need], moves: int) -> bool:
        """Publish a head, unless versions of its name were removed or restored meanwhile."""
        name = head["dataset"]
        stays = {f"moves/{name}": moves + 1}
        try:
            return publish_needing(self._tables, "datasets", [head], {f"name/{name}": version}, needs, stays)
        except Barred:
            return False

    def _forget(self, written: Mapping[str, tuple[str, ...]]) -> None:
        for table, where in written.items():
            self._tables.drop_attempt(table, where)

    def _shard_rows(self, name: str, version: int, attempt: str, before: int, shards: list[Shard]) -> pa.Table:
        columns: dict[str, object] = {"dataset": name, "version": version, "attempt": attempt}
        columns["shard"] = pa.array(range(before, before + len(shards)), pa.int32())
        columns["uri"] = pa.array([self.relative(s.uri) for s in shards])
        for field_name in ("bytes", "digest", "index_digest", "stamp", "first_sample", "count"):
            kind = TABLES["shards"].schema.field(field_name).type
            columns[field_name] = pa.array([getattr(s, field_name) for s in shards], kind)
        return rows_of("shards", columns, len(shards))

    def relative(self, uri: str) -> str:
        """Shards inside the store are kept by their place in it, so that the store may move as a whole."""
        if self._root.path is None:
            return uri.removeprefix(f"{self._root.url}/")
        if not is_remote(uri) and Path(uri).is_relative_to(self._root.path):
            return Path(uri).relative_to(self._root.path).as_posix()
        return uri
