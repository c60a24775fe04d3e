"""Class names become class numbers: the same ones for every shard of a dataset, whenever it was added."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from tamis.store.errors import ShardError
from tamis.store.shards.indexing import Found
from tamis.store.tables.arrow import pc

_SOME = 5


def number_names(
    found: Sequence[Found], classes: Sequence[str], *, fixed: bool, more: bool = True
) -> tuple[list[Found], tuple[str, ...]]:
    """Give shards whose labels are names the numbers of these.

    Args:
        found: the shards, all of them with names or none.
        classes: names that are numbered already.
        fixed: there are no others: they were given.
        more: others may be numbered behind them; False where the dataset has numbers without names.

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
    fresh = sorted(there - set(classes))
    if fresh and fixed:
        raise ShardError(
            f"{len(fresh)} names that shards have as labels are not among the {len(classes)} class names that were "
            f"given (first: {', '.join(map(repr, fresh[:_SOME]))}): add them to the file of class names, or leave it "
            "out to have the names numbered in alphabetical order."
        )
    names = (*classes, *fresh)
    return [_numbered(one, names) for one in found], names


def _distinct(one: Found) -> set[str]:
    assert one.index.names is not None
    return set(one.index.names.unique().to_pylist())


def _numbered(one: Found, names: tuple[str, ...]) -> Found:
    numbers = pc.index_in(one.index.names, value_set=pa.array(names, pa.string()))
    return replace(one, index=replace(one.index, label=np.asarray(numbers, np.int64)))
