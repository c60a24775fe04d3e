"""Where every chosen sample goes in curated shards, and where its members come from. No shard is opened.

What: `lay_out` puts the chosen samples into the order of a keyed permutation, leaves out members that must not be
copied, and cuts the order into shards of nearly the same number of bytes.
Cost: about 1 µs a sample of the dataset; memory about 150 bytes a sample of it while the index is read.
Legend: K chosen samples, M members of theirs that are copied, S shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tamis.store.datasets import Dataset, Locations
from tamis.store.errors import ShardError
from tamis.store.tables.arrow import pc
from tamis.training.decoding.suffixes import is_executable
from tamis.training.export.tar import BLOCK
from tamis.training.streaming.shuffle import order_key, permute

MEMBER = "tamis.json"  # two parts, because a sample may have a .json of its own; stock decoders go by the last one
_PIECE = 16 << 20  # bytes read at once
_LEADS_OUT = r"^/|(^|[/\\])\.\.([/\\]|$)"  # of a name: below another folder than the one that it is extracted into

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """K samples in the order of the new shards, and their M members in the order of the samples."""

    samples: Ints  # [K] numbers in the dataset
    ranks: Ints  # [K]
    weights: Floats  # [K]
    keys: pa.ChunkedArray  # [K]
    starts: Ints  # [K + 1] member i of sample k: starts[k] <= i < starts[k + 1]
    suffixes: tuple[str, ...]  # each that there is
    suffix: Ints  # [M] index into suffixes
    where: Locations  # [M]
    ends: Ints  # [K] bytes of tar from the first sample's beginning to this one's end
    cuts: list[int]  # [S + 1] shard s has samples cuts[s] to cuts[s + 1] - 1
    left_out: dict[str, int]  # members by suffix
    label: str | None = None  # the member that is made of `labels`, where those are not the shards'
    labels: Ints | None = None  # [K]

    def pieces(self, number: int) -> Iterator[tuple[int, int]]:
        """A shard's samples in runs that are read at once."""
        a, last = self.cuts[number], self.cuts[number + 1]
        while a < last:
            before = int(self.ends[a - 1]) if a else 0
            b = min(last, max(a + 1, int(np.searchsorted(self.ends, before + _PIECE, side="right"))))
            yield a, b
            a = b

    def members(self, a: int, b: int) -> tuple[Ints, Locations]:
        """The owners' numbers and the places of the members of samples a to b - 1."""
        part = slice(int(self.starts[a]), int(self.starts[b]))
        owners = np.repeat(self.samples[a:b], np.diff(self.starts[a : b + 1]))
        return owners, Locations(self.where.shard[part], self.where.offset[part], self.where.size[part])

    def names(self, a: int, b: int) -> Iterator[tuple[str, list[str], dict[str, bytes]]]:
        """(key, suffixes of what is copied, contents by suffix of what is added) of samples a to b - 1."""
        keys = self.keys.slice(a, b - a).to_pylist()
        starts, suffix = self.starts[a : b + 1].tolist(), self.suffix[self.starts[a] : self.starts[b]].tolist()
        facts = (self.ranks[a:b].tolist(), self.samples[a:b].tolist(), self.weights[a:b].tolist())
        labels = None if self.labels is None else self.labels[a:b].tolist()
        for i, (key, rank, sample, weight) in enumerate(zip(keys, *facts, strict=True)):
            own = suffix[starts[i] - starts[0] : starts[i + 1] - starts[0]]
            # Weights are finite, so this is JSON; a tenth of what an encoder takes.
            added = {MEMBER: b'{"rank":%d,"sample":%d,"weight":%a}' % (rank, sample, weight)}
            if self.label is not None and labels is not None:
                added = {self.label: b"%d" % labels[i]} | added
            yield key, [self.suffixes[s] for s in own], added


def lay_out(dataset: Dataset, samples: Ints, weights: Floats, source: str, shard_size: int) -> Layout:
    """Lay out a round of a selection.

    Args:
        dataset: that it chooses from.
        samples: int64 [K], in rank order, at least one.
        weights: float32 [K].
        source: what the order is derived from.
        shard_size: bytes a shard should have at most, give or take a sample.

    Raises:
        ShardError: a sample has two members of one name, which stock webdataset refuses to read, or a name that leads
            out of the folder that a tar is extracted into.
    """
    count = len(samples)
    ranks = permute(np.arange(count, dtype=np.int64), count, order_key(source, 0, 0))
    rows = dataset.members().take(pa.array(samples[ranks]))
    members = rows["members"].combine_chunks()
    names, offset, size = members.flatten().flatten()
    coded = names.dictionary_encode()
    suffixes, suffix = tuple(coded.dictionary.to_pylist()), np.asarray(coded.indices, np.int64)
    # Shards that are curated shards already carry the weights of another selection.
    remade = (dataset.outdated, dataset.given_label) if dataset.relabelled else ()
    kept = ~np.array([is_executable(s) or s == MEMBER or s in remade for s in suffixes])[suffix]
    owner = np.repeat(np.arange(count), np.asarray(pc.list_value_length(members)))[kept]
    left = np.bincount(suffix[~kept], minlength=len(suffixes)).tolist()
    suffix, shard = suffix[kept], np.asarray(rows["shard"], np.int32)[owner]
    where = Locations(shard, np.asarray(offset, np.int64)[kept], np.asarray(size, np.int64)[kept])
    _refuse_doubled(dataset, rows["key"], owner * len(suffixes) + suffix, len(suffixes))
    _refuse_leading_out(dataset, rows["key"], suffixes)
    labels = dataset.labels()[samples[ranks]] if remade else None
    ends = _ends(owner, where.size, count, added=1 if labels is None else 2)
    dropped = {s: n for s, n in zip(suffixes, left, strict=True) if n and not (remade and s == dataset.given_label)}
    return Layout(
        samples[ranks], ranks, weights[ranks], rows["key"], np.searchsorted(owner, np.arange(count + 1)), suffixes,
        suffix, where, ends, _cuts(ends, shard_size), dropped, dataset.given_label if remade else None, labels,
    )  # fmt: skip


def _refuse_doubled(dataset: Dataset, keys: pa.ChunkedArray, named: Ints, suffixes: int) -> None:
    values, counts = np.unique(named, return_counts=True)
    if (counts > 1).any():
        first = keys[int(values[counts > 1][0]) // suffixes]
        raise ShardError(
            f"Sample {first} of {dataset.ref} has two members of one name, which stock webdataset refuses to read. "
            "Repair its shard, or leave the sample out of the selection."
        )


def _refuse_leading_out(dataset: Dataset, keys: pa.ChunkedArray, suffixes: tuple[str, ...]) -> None:
    """Curated shards are handed to whoever extracts tars, with tools that believe what stands in them."""
    for names, what in ((keys, "Sample"), (pa.chunked_array([pa.array(suffixes, pa.string())]), "Member")):
        found = names.filter(pc.match_substring_regex(names, _LEADS_OUT))
        if len(found):
            raise ShardError(
                f"{what} {found[0].as_py()[:200]!r} of {dataset.ref} is not copied: a name with '..' or a leading '/' "
                f"would lead out of the folder that a curated shard is extracted into ({len(found)} such names). "
                "Rename the members, or leave these samples out of the selection."
            )


def _ends(owner: Ints, size: Ints, count: int, added: int) -> Ints:
    """Where each sample ends in one endless tar (the longer headers of long names not counted)."""
    blocks = np.bincount(owner, weights=1 + (size + BLOCK - 1) // BLOCK, minlength=count)
    return np.cumsum(blocks.astype(np.int64) + 2 * added) * BLOCK  # members that are added fill a block each


def _cuts(ends: Ints, shard_size: int) -> list[int]:
    """Shards of nearly the same number of bytes: readers that share them out should be done together."""
    total, begins = int(ends[-1]), np.r_[0, ends[:-1]]
    wanted = min(len(ends), -(-total // shard_size))
    goals = np.array([total * s // wanted for s in range(1, wanted)], np.int64)
    return sorted({0, len(ends), *np.searchsorted(begins, goals).tolist()})
