"""A dataset with other labels than its shards hold, without copying or rewriting one.

What: the derived dataset has the same shards, or those that hold the samples it has; its rows in the index hold the new
labels, and everything that reads labels goes by the index (`Dataset.outdated`, `Dataset.given_label`). `flipping` draws
such labels; here they are given.
How: a shard is another content where a label in it is another, so that keys of datasets, scores and selections cover
the labels; a shard with the labels that it had stays what it was.
Cost: one read of the samples' rows and one append; memory for them.

Legend: N samples, M of them with a label.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.datasets.classes import check_classes
from tamis.store.datasets.dataset import Dataset
from tamis.store.datasets.splitting import part_of, part_rows
from tamis.store.errors import ShardError
from tamis.store.keys import canonical
from tamis.store.shards.labels import LARGEST_LABEL
from tamis.store.shards.shards import RELABELLED, Shard
from tamis.store.tables.specs import TABLES

Ints = npt.NDArray[np.int64]
RELABEL = "relabel"  # the kind of origin
_GIVEN = "cls"  # under which labels are given where the source has none, or numbers to learn


@dataclass(frozen=True)
class Labels:
    """Labels for samples of a dataset.

    Attributes:
        samples_M: numbers, rising.
        labels_M: class numbers.
        classes: their names; may be empty.
        source: where they are from, plain JSON: `{"sql": ...}`, or `{"file": ..., "sha256": ...}`.
    """

    samples_M: Ints
    labels_M: Ints
    classes: tuple[str, ...]
    source: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_classes(self.classes)
        top = len(self.classes) - 1 if self.classes else LARGEST_LABEL
        wrong = (self.labels_M < 0) | (self.labels_M > top)
        if wrong.any():
            names = f" of the {len(self.classes)} classes {', '.join(self.classes)[:80]}" if self.classes else ""
            raise ShardError(
                f"{int(wrong.sum()):,} labels are no class (first: {self.labels_M[wrong][0]} of sample "
                f"{self.samples_M[wrong][0]}): expected class numbers 0 to {top:,}{names}."
            )


@dataclass(frozen=True)
class Relabelled:
    """What a relabelled dataset consists of, before it is published.

    Attributes:
        like: the source, with the label and the classes of the derived dataset.
        shards: of the derived dataset.
        samples: of the source, that it has; None for all.
        origin: columns of `dataset_origins`.
    """

    like: Dataset
    shards: tuple[Shard, ...]
    samples: Ints | None
    origin: Mapping[str, Any]
    _after: Ints
    _numbers: list[int]

    def rows(self, name: str, attempt: str) -> pa.RecordBatchReader:
        """The samples' rows."""
        rows = self.like.rows()
        if self.samples is not None:
            rows = part_rows(rows, name, self._numbers, self.samples, attempt).read_all()
        return relabelled_rows(rows, self._after, name, attempt)


def relabelled(source: Dataset, given: Labels, *, drop_missing: bool) -> Relabelled:
    """Give a dataset's samples other labels.

    Args:
        source: the dataset.
        given: a label for each sample, or for those that are to stay.
        drop_missing: leave samples without a label out of the derived dataset.

    Raises:
        ShardError: samples lack a label and may not be dropped, or all do.
    """
    lacking = source.samples - len(given.samples_M)
    if not len(given.samples_M) or (lacking and not drop_missing):
        first = np.setdiff1d(np.arange(min(source.samples, len(given.samples_M) + 1)), given.samples_M)
        raise ShardError(
            f"{lacking:,} of the {source.samples:,} samples of {source.ref} have no label (first: {first[0]}): "
            + ("label them, or leave them out (--drop-missing)." if len(given.samples_M) else "give some a label.")
        )
    before = source.labels()
    shards, numbers, samples = source.shards, list(range(len(source.shards))), None
    if lacking:
        shards, numbers = part_of(source, given.samples_M)
        before, samples = before[given.samples_M], given.samples_M
    changed = int((before != given.labels_M).sum())
    params = {"dropped": lacking, "changed": changed, "classes": list(given.classes), **given.source}
    origin = {"kind": RELABEL, "source": source.ref, "source_key": source.key, "params": canonical(params)}
    like = replace(source, label=source.label if source.has_classes else _GIVEN, classes=given.classes)
    return Relabelled(like, relabelled_shards(shards, before, given.labels_M), samples, origin, given.labels_M, numbers)


def relabelled_shards(shards: Sequence[Shard], before_N: Ints, after_N: Ints) -> tuple[Shard, ...]:
    """The shards of a derived dataset: those in which a label changed have another content."""
    made = list[Shard]()
    for shard in shards:
        inside = slice(shard.first_sample, shard.first_sample + shard.count)
        if (before_N[inside] != after_N[inside]).any():
            labels = after_N[inside].astype("<i8").tobytes()
            said = hashlib.sha256(f"{shard.content}\n".encode() + labels).hexdigest()
            shard = replace(shard, index_digest=RELABELLED + said)  # or as it was
        made.append(shard)
    return tuple(made)


def relabelled_rows(rows: pa.Table, after_N: Ints, name: str, attempt: str) -> pa.RecordBatchReader:
    """The samples' rows of a derived dataset.

    Args:
        rows: of the source (`Dataset.rows`).
        after_N: the labels.
        name: of the derived dataset.
        attempt: that writes it.
    """
    made = {
        "dataset": pa.repeat(pa.scalar(name), len(rows)),
        "attempt": pa.repeat(pa.scalar(attempt), len(rows)),
        "label": pa.array(after_N),
    }
    schema = TABLES["samples"].schema
    table = pa.Table.from_arrays([made.get(field.name, rows[field.name]) for field in schema], schema=schema)
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1 << 16))
