"""What has come to where a dataset's shards lie since it was indexed, and what of it is gone or changed.

What: `arrivals` holds what patterns find against the shards of a version.
How: by address; a shard that is known is trusted where its size and time are as they were, and hashed where only the
time is another. What no pattern covers is not looked at.
When: before a growing dataset is indexed further: only what is new has to be read.
Cost: one look at every file that the patterns find (`tamis.store.shards.finding`), no read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tamis.store.datasets.dataset import Dataset
from tamis.store.shards.finding import Pattern, find_all


@dataclass(frozen=True)
class Arrivals:
    """What patterns find, beside what a dataset has.

    Attributes:
        fresh: addresses that the dataset does not have, by pattern and by name.
        vanished: addresses of the dataset that a pattern covers and where nothing is.
        touched: shards whose bytes are the same, though they were written since.
    """

    fresh: tuple[str, ...]
    vanished: tuple[str, ...]
    touched: int


def arrivals(dataset: Dataset, patterns: Sequence[str], options: Mapping[str, str]) -> Arrivals:
    """Look for shards.

    Args:
        dataset: the newest version.
        patterns: see `tamis.store.shards.finding.Pattern.of`.
        options: storage options.

    Raises:
        ShardError: a pattern is none, or finds nothing.
        ShardChanged: a shard of the dataset has other content now.
    """
    asked = [Pattern.of(text) for text in patterns]
    found = find_all(asked, options)
    known = {shard.uri for shard in dataset.shards}
    touched, vanished = 0, list[str]()
    for shard in dataset.shards:
        seen = found.get(shard.uri)
        if seen is None:
            vanished += [shard.uri] if any(one.covers(shard.uri) for one in asked) else []
        elif seen != (shard.bytes, shard.stamp):
            shard.check()
            touched += 1
    return Arrivals(tuple(uri for uri in found if uri not in known), tuple(vanished), touched)
