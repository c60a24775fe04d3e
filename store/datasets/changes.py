"""What was put right after a dataset was published: where its shards lie now, and what its classes are called.

A dataset version is as it was published for ever: its samples, its key, and so everything that was computed from it.
Where shards lie and how classes are called are no part of that. Each change is a row in `dataset_changes`, numbered
within the dataset; the newest that says something counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.store.errors import ShardError
from tamis.store.shards.shards import Shard

MOVED = "moved"
CLASSES = "classes"


@dataclass(frozen=True)
class Changes:
    """All changes of one dataset."""

    places: Mapping[int, tuple[str, int]]  # shard -> where it lies, and its stamp there
    names: tuple[tuple[int, tuple[str, ...]], ...]  # the newest version that there was, and what classes are called

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "Changes":
        """From the rows of `dataset_changes` in order."""
        places, names = dict[int, tuple[str, int]](), list[tuple[int, tuple[str, ...]]]()
        for row in rows:
            if row["kind"] == MOVED:
                places[row["shard"]] = (row["uri"], row["stamp"])
            elif row["kind"] == CLASSES:
                names.append((row["version"], tuple(row["classes"] or ())))
        return cls(places, tuple(names))

    def classes(self, version: int, published: tuple[str, ...]) -> tuple[str, ...]:
        """What the classes of a version are called: it was published with the names that held then."""
        return next((names for upto, names in reversed(self.names) if upto >= version), published)


def holding(rows: Iterable[Mapping[str, Any]], heads: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The changes of a dataset that are of shards which it has: those of a version that was removed are not.

    Args:
        rows: of `dataset_changes`.
        heads: of the versions that are there, in order.
    """

    def shards(version: int) -> int:
        return max((int(head["shards"]) for head in heads if head["version"] <= version), default=0)

    return [row for row in rows if row["kind"] != MOVED or row["shard"] < shards(row["version"])]


def overlaid(name: str, source: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A source of SQL rows of a table, with the changes put in.

    Args:
        name: the table; others than `datasets` and `shards` stay as they are.
        source: what SQL reads the table's own rows from.
        rows: of `dataset_changes`, in order.
    """
    if name not in ("datasets", "shards") or not rows:
        return source
    by_dataset: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_dataset.setdefault(row["dataset"], []).append(row)
    changes = {dataset: Changes.of(some) for dataset, some in by_dataset.items()}
    return _shards(source, changes) if name == "shards" else _datasets(source, changes)


def _shards(source: str, changes: Mapping[str, Changes]) -> str:
    values = [
        f"({_text(dataset)}, {shard}, {_text(uri)}, {stamp})"
        for dataset, one in changes.items()
        for shard, (uri, stamp) in one.places.items()
    ]
    if not values:
        return source
    return f"""(select t.* replace (coalesce(c.uri, t.uri) as uri, coalesce(c.stamp, t.stamp) as stamp)
                from {source} t left join (values {", ".join(values)}) c(dataset, shard, uri, stamp)
                on t.dataset = c.dataset and t.shard = c.shard)"""


def _datasets(source: str, changes: Mapping[str, Changes]) -> str:
    values = [
        f"({_text(dataset)}, {low}, {high}, [{', '.join(map(_text, names))}]::varchar[])"
        for dataset, one in changes.items()
        for low, high, names in _intervals(one)
    ]
    if not values:
        return source
    return f"""(select t.* replace (coalesce(c.classes, t.classes) as classes)
                from {source} t left join (values {", ".join(values)}) c(dataset, low, high, classes)
                on t.dataset = c.dataset and t.version between c.low and c.high)"""


def _intervals(changes: Changes) -> list[tuple[int, int, tuple[str, ...]]]:
    """The first and the last version that have these names, by `Changes.classes`."""
    found, covered = list[tuple[int, int, tuple[str, ...]]](), 0
    for upto, names in reversed(changes.names):
        if upto > covered:
            found.append((covered + 1, upto, names))
            covered = upto
    return found


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def moved(there: Shard, found: Shard) -> bool:
    """Whether a shard that was found again lies elsewhere.

    Raises:
        ShardError: nobody can tell that it is the same.
    """
    if there.uri == found.uri:
        return False
    if there.digest is not None and there.digest == found.digest:
        return True
    raise ShardError(
        f"{found.uri} looks like shard {there.uri} of the dataset, but one of them was indexed without a digest, so "
        "they cannot be compared. Add it with digests; if the dataset has none, add it under another name."
    )
