"""Class names become class numbers: the same ones for every shard of a dataset, whenever it was added."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from tamis.store.errors import ShardError
from tamis.store.shards.indexing import Found
from tamis.store.tables.arrow import pc

_SOME = 5


def number_names(
    found: Sequence[Found], classes: Sequence[str], *, fixed: bool, more: bool = True, former: Sequence[str] = ()
) -> tuple[list[Found], tuple[str, ...]]:
    """Give shards whose labels are names the numbers of these.

    Args:
        found: the shards, all of them with names or none.
        classes: names that are numbered already.
        fixed: there are no others: they were given.
        more: others may be numbered behind them; False where the dataset has numbers without names.
        former: what the classes were called before they were renamed: shards may still say so.

    Returns:
        The shards with class numbers, and the names of all classes. New names are numbered in alphabetical order,
        behind those that were there.

    Raises:
        ShardError: some shards have names and others numbers, or a name is not among those that were given.
    """
    named = [one.index.names is not None for one in found]
    if not any(named):
        return list(found), tuple(classes)
    if not all(named) or not more:
        which = found[named.index(True)].shard.uri
        raise ShardError(
            f"The labels of {which} are names of classes, and others of this dataset are class numbers without names: "
            "a dataset has one or the other. Add them as a dataset of another name."
        )
    there = set[str]().union(*(_distinct(one) for one in found))
    numbers = {name: i for i, name in enumerate(() if fixed else former)} | {n: i for i, n in enumerate(classes)}
    fresh = sorted(there - set(numbers))
    if fresh and fixed:
        raise ShardError(
            f"{len(fresh)} names that shards have as labels are not among the {len(classes)} class names that were "
            f"given (first: {', '.join(map(repr, fresh[:_SOME]))}): add them to the file of class names, or leave it "
            "out to have the names numbered in alphabetical order."
        )
    numbers |= {name: i for i, name in enumerate(fresh, len(classes))}
    return [_numbered(one, numbers) for one in found], (*classes, *fresh)


def _distinct(one: Found) -> set[str]:
    assert one.index.names is not None
    return set(one.index.names.unique().to_pylist())


def _numbered(one: Found, numbers: Mapping[str, int]) -> Found:
    at = pc.index_in(one.index.names, value_set=pa.array(numbers, pa.string()))
    label = np.fromiter(numbers.values(), np.int64)[np.asarray(at, np.int64)]
    return replace(one, index=replace(one.index, label=label))
