"""What lists and pages show of a store: one function a list, one a page. Each gives plain values, for JSON as they are.

The command line prints them; a web page shows the same. Nothing here loads torch or reads a shard.
Cost: a list reads the head of its table; a page of a dataset or selection reads the samples' labels too.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tamis.store.datasets import Dataset
from tamis.store.keys import split_ref
from tamis.store.selections import Selection

if TYPE_CHECKING:
    from tamis.store.sql.query import Asked
    from tamis.store.store import Store

Row = dict[str, Any]
SHOWN = 1000  # classes

_SAMPLES = """
    select c.round, r.first_epoch, c.rank, c.sample, s.key, h.uri as shard, s.label, c.weight
    from selection_samples c join selection_rounds r using (selection, round)
    join samples s on s.dataset = $dataset and s.sample = c.sample
    join shards h on h.dataset = s.dataset and h.shard = s.shard
    where c.selection = $key and h.version <= $version order by c.round, c.rank"""


def datasets(store: "Store") -> list[Row]:
    """Every version of every dataset: dataset, version, samples, shards, bytes, image, label, classes, created."""
    return store.datasets.all()


def dataset(found: Dataset) -> Row:
    """One version of a dataset, and how many samples each class has."""
    counts, more = by_class(found.labels(), found.classes) if found.has_classes else ({}, 0)
    row: Row = {
        "dataset": found.ref,
        "key": found.key,
        "samples": found.samples,
        "shards": len(found.shards),
        "bytes": found.bytes,
        "image": found.image,
        "label": found.label,
        "samples_by_class": counts,
        "first_shard": found.shards[0].uri,
    }
    return row | ({"classes_not_shown": more} if more else {})


def runs(store: "Store", kind: str | None = None) -> list[Row]:
    """Every run, the oldest first.

    Args:
        store: an open store.
        kind: only these: "train", "score", ...

    Returns:
        The fields of each `Run`, `accuracy` and `total` (seconds) of what it measured, None where it did not.
    """
    found = [one for one in store.runs.all() if kind in (None, one.kind)]
    return [vars(r) | {"accuracy": r.metrics.get("accuracy"), "total": r.seconds.get("total")} for r in found]


def selections(store: "Store") -> list[Row]:
    """Every version of every selection, by name: how it was made, and of how many samples its first round is."""
    return [_head(one) for one in store.selections.all()]


def selection(store: "Store", ref: str, *, epoch: int = 0, top: int = 5) -> Row:
    """One selection, its rounds, and its round in force in an epoch.

    Args:
        store: an open store.
        ref: name, name@version or key.
        epoch: whose round is looked at.
        top: how many samples of it are listed, the best first.
    """
    found = store.selections.get(ref)
    of = store.datasets.get(found.dataset)
    samples, weights = found.round_at(epoch)
    labels = of.labels()[samples] if of.has_classes else None
    best: list[Row] = [
        {"rank": rank, "sample": int(sample), "key": key, "weight": float(weight)}
        for rank, (sample, key, weight) in enumerate(
            zip(samples[:top], of.keys(samples[:top]), weights[:top], strict=True)
        )
    ]
    row = _head(found) | {"rounds": [vars(r) for r in found.rounds], "stats": found.stats, "best": best}
    if labels is not None:
        for one, label in zip(best, labels, strict=False):
            one["label"] = int(label)
        row["samples_by_class"] = by_class(labels, of.classes)[0]
    return row


def difference(store: "Store", first: str, second: str, *, epoch: int = 0) -> Row:
    """What two selections of one dataset have in common in an epoch.

    Raises:
        SelectionError: they choose from different datasets.
    """
    a, b = store.selections.get(first), store.selections.get(second)
    found = store.selections.diff(a, b, epoch)
    return {
        "first": a.ref,
        "second": b.ref,
        "in_both": len(found.both),
        "only_in_first": len(found.only_first),
        "only_in_second": len(found.only_second),
        "jaccard": found.jaccard,
        "weight_correlation": found.weight_correlation,
    }


def selection_samples(store: "Store", ref: str) -> "Asked":
    """The samples of a selection, round by round in rank order: round, first_epoch, rank, sample, key, shard, label,
    weight; an answer that is computed as it is read."""
    found = store.selections.get(ref)
    name, version = split_ref(found.dataset)
    return store.ask(_SAMPLES, {"dataset": name, "key": found.key, "version": version})


def by_class(labels: Any, classes: Sequence[str]) -> tuple[dict[str, int], int]:
    """How many samples each class has, of the first classes, and how many classes more there are.

    Args:
        labels: class numbers, an array or a list; those below 0 stand for no label.
        classes: names by number, where there are any.
    """
    import numpy as np

    numbers, counts = np.unique(np.asarray(labels, np.int64), return_counts=True)
    found = {n: count for n, count in zip(numbers.tolist(), counts.tolist(), strict=True) if n >= 0}
    there = sorted({*range(len(classes)), *found})
    if there and there[-1] < SHOWN:
        there = list(range(there[-1] + 1))
    doubled = {name for name, times in Counter(classes).items() if times > 1}
    return {_named(n, classes, doubled): found.get(n, 0) for n in there[:SHOWN]}, max(0, len(there) - SHOWN)


def _named(number: int, classes: Sequence[str], doubled: set[str]) -> str:
    """A class's name; with its number where others have the same name."""
    name = classes[number] if number < len(classes) else str(number)
    return f"{name} ({number})" if name in doubled else name


def _head(found: Selection) -> Row:
    return {
        "selection": found.ref,
        "key": found.key,
        "dataset": found.dataset,
        "method": found.method,
        "params": found.params,
        "inputs": list(found.inputs),
        "seed": found.seed,
        "size": found.size,
        "seconds": found.seconds,
    }
