"""A set of curated shards as it lies in a folder or under a prefix: shards, a manifest, and records on the way there.

What: `Curated` is what the manifest `curated.json` says. It is written last: a set without one is not finished. Until
then each shard is followed by a record `curated-NNNNNN.json` with its digest, by which the next call knows that the
shard is whole. With the manifest the records go.
Faults: files appear whole or not at all, and nothing is ever replaced. Of two writers the second compares what it made
with what is there; what differs is refused by name.
Cost: one listing; small requests go out together.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from tamis.store.datasets import Dataset
from tamis.store.keys import canonical
from tamis.store.roots.roots import Root
from tamis.training.errors import DestinationTaken

VERSION = 1  # of the shards' bytes and of the manifest: raise it when the same selection comes to give others
MANIFEST = "curated.json"
_AT_ONCE = 8  # small requests


@dataclass(frozen=True)
class CuratedShard:
    """One shard of a curated set."""

    name: str
    bytes: int
    sha256: str
    samples: int


@dataclass(frozen=True)
class Curated:
    """A finished set of curated shards.

    Attributes:
        key: of all that decides the shards' bytes.
        url: the folder or the prefix that holds them.
        selection, selection_key: name@version and key of what was asked for.
        round, first_epoch: which of its rounds, and from which epoch on that is in force.
        dataset, dataset_key, dataset_bytes: name@version it chooses from, its key, and its shards' bytes.
        samples, bytes: in all shards.
        weights: their min, max and mean.
        left_out: members that were not copied, by suffix.
        shards: in order.
        cached: whether the whole set cached.
        kept: how many of its shards were.
    """

    key: str
    url: str
    selection: str
    selection_key: str
    round: int
    first_epoch: int
    dataset: str
    dataset_key: str
    dataset_bytes: int
    samples: int
    bytes: int
    weights: dict[str, float]
    left_out: dict[str, int]
    shards: tuple[CuratedShard, ...]
    cached: bool = False
    kept: int = 0

    def paths(self) -> list[str]:
        """Every shard's path or URL, in order."""
        return [f"{self.url}/{shard.name}" for shard in self.shards]

    @property
    def pattern(self) -> str:
        """All shards as one address, with braces that `webdataset` expands."""
        if len(self.shards) == 1:
            return self.paths()[0]
        return f"{self.url}/curated-{{000000..{len(self.shards) - 1:06d}}}.tar"


def stock_reader(made: Curated, dataset: Dataset) -> str:
    """The expression by which stock webdataset reads a set of this dataset's samples."""
    # Stock webdataset opens no s3:// by itself.
    url = f"pipe:aws s3 cp {made.pattern} -" if made.url.startswith("s3://") else made.pattern
    members = ", ".join(f'"{m}"' for m in (dataset.image, dataset.given_label, "tamis.json") if m is not None)
    return (
        f'wds.WebDataset("{url}", shardshuffle={len(made.shards)}).shuffle(1000)'
        f'.decode("torchrgb8").to_tuple({members})'
    )


def shard_name(number: int) -> str:
    """A shard's file name."""
    return f"curated-{number:06d}.tar"


@dataclass(frozen=True)
class Place:
    """Where one set lies, or will lie."""

    root: Root
    key: str

    def manifest(self) -> Curated | None:
        """The set that is finished here, or None.

        Raises:
            DestinationTaken: the manifest is another set's, or none at all.
        """
        data = self.root.get(MANIFEST)
        if data is None:
            return None
        try:
            found: dict[str, Any] = json.loads(data)
            if (found.pop("format"), found["key"]) == (VERSION, self.key):
                shards = tuple(CuratedShard(**shard) for shard in found.pop("shards"))
                if [s.name for s in shards] == [shard_name(number) for number in range(len(shards))]:
                    return Curated(url=self.root.url, shards=shards, **found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._taken(MANIFEST) from error
        raise self._taken(MANIFEST, f" (it is of another set, from {found.get('selection')})")

    def is_whole(self, there: Curated) -> bool:
        """Whether all shards that the manifest names are there, by name and size. Clears away what a kill left."""
        sizes = dict(self.root.list(""))
        whole = all(sizes.get(shard.name) == shard.bytes for shard in there.shards)
        if whole:
            self._forget(there.shards, sizes)
        return whole

    def finished(self, there: Curated | None) -> dict[str, CuratedShard]:
        """The shards that are here, by what the manifest or their records say; to be checked with `check`."""
        sizes = dict(self.root.list(""))
        said = there.shards if there is not None else self._records(sizes)
        found = {shard.name: shard for shard in said if shard.name in sizes}
        for shard in found.values():
            if sizes[shard.name] != shard.bytes:
                raise self._taken(shard.name)
        return found

    def check(self, shard: CuratedShard) -> None:
        """Hash a shard that was finished before; on an object store its size is trusted, where objects appear whole.

        Raises:
            DestinationTaken: it has other bytes now.
        """
        if self.root.path is not None and self._digest(shard.name) != shard.sha256:
            raise self._taken(shard.name)

    def put(self, number: int, data: bytes, samples: int) -> CuratedShard:
        """Keep a shard, and then the record that it is whole.

        Raises:
            DestinationTaken: its name has other bytes.
        """
        made = CuratedShard(shard_name(number), len(data), hashlib.sha256(data).hexdigest(), samples)
        if not self.root.put_new(made.name, data) and self._digest(made.name) != made.sha256:
            raise self._taken(made.name)
        self.root.put(_record(made.name), canonical({"key": self.key, "shard": asdict(made)}).encode())
        return made

    def publish(self, curated: Curated) -> None:
        """Write the manifest, then remove the records.

        Raises:
            DestinationTaken: another set was finished here meanwhile.
        """
        content = asdict(curated)
        for name in ("url", "cached", "kept"):  # where it lies and how it came about are no part of it
            del content[name]
        if not self.root.put_new(MANIFEST, json.dumps({"format": VERSION, **content}, indent=1).encode() + b"\n"):
            self.manifest()
        self._forget(curated.shards, dict(self.root.list("")))

    def _records(self, sizes: dict[str, int]) -> list[CuratedShard]:
        def read(name: str) -> CuratedShard | None:
            try:
                record = json.loads(self.root.get(name) or b"")
                return CuratedShard(**record["shard"]) if record["key"] == self.key else None
            except (ValueError, KeyError, TypeError):
                return None  # no record of ours: its shard is made again, and compared

        names = [_record(name) for name in sizes if name.endswith(".tar") and _record(name) in sizes]
        return [shard for shard in _together(read, names) if shard is not None]

    def _forget(self, shards: Iterable[CuratedShard], sizes: dict[str, int]) -> None:
        _together(self.root.delete, [_record(shard.name) for shard in shards if _record(shard.name) in sizes])

    def _digest(self, name: str) -> str | None:
        if self.root.path is not None:
            with (self.root.path / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        data = self.root.get(name)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def _taken(self, name: str, what: str = "") -> DestinationTaken:
        return DestinationTaken(
            f"{self.root.url}/{name} is there and is not what these curated shards have under that name{what}. Nothing "
            "was replaced: choose another destination, or remove the file if it is damaged or no longer needed."
        )


def _record(name: str) -> str:
    return f"{name.removesuffix('.tar')}.json"


def _together(work: Callable[[str], Any], names: list[str]) -> list[Any]:
    if not names:
        return []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, names))
