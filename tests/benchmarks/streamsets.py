"""The two datasets of the streaming benchmarks, each with a tenth of it as a selection.

Small: the shards that are given (CIFAR-10: 2.3 kB a sample), or scikit-learn's digits. Large: JPEG images of 20 kB,
each made of nine of the small ones, side by side and three times enlarged. They lie in the benchmark's folder, and so
do the copies that other loaders want (`streampeers`).
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import Sample, pack_digits, pack_samples
from tamis.store.selections import Request, RoundData, Selection
from tamis.training.streaming.stream import SelectionStream

TENTH = 10
_GRID = 3  # images of the small set along each side of a large one
_ENLARGED = 3
_QUALITY = 90


@dataclass(frozen=True)
class Data:
    """A dataset to stream.

    Attributes:
        name: for the table.
        folder: for what is derived from it.
        part: every tenth sample on average, drawn at random.
    """

    name: str
    folder: Path
    store: Store
    dataset: Dataset
    part: Selection

    @property
    def shards(self) -> list[str]:
        return [shard.uri for shard in self.dataset.shards]

    def chosen(self) -> NDArray[np.int64]:
        """The samples of `part`, in its order, which is random."""
        return self.part.read_round(self.part.rounds[0].round)[0]

    def bytes_chosen(self) -> int:
        """The images of `part`."""
        return int(self.dataset.locations().size[self.chosen()].sum())

    def stream(self, part: bool, **options: Any) -> SelectionStream:
        return SelectionStream(self.store, self.part if part else self.dataset, **options)

    def members(self) -> Iterator[tuple[bytes, int]]:
        """Every sample's image and label, by number."""
        for batch in self.stream(False, shuffle=False).raw(0):
            yield from zip(map(bytes, batch.members[self.dataset.image]), batch.labels.tolist(), strict=True)


def small(folder: Path, data: Path | None, quick: bool) -> Data:
    shards = [] if quick or data is None else sorted(Path(data).glob("train-*.tar"))
    return published(folder / "small", shards or pack_digits(folder / "digits"))


def large(folder: Path, source: Data, quick: bool) -> Data:
    """Made of another dataset; what an earlier run has made is used."""
    shards = sorted((folder / "large").glob("made-*.tar")) or pack_samples(
        _enlarged(source, 40 if quick else 10_000), folder / "large" / "made", per_shard=1000
    )
    return published(folder / "large", shards)


def published(folder: Path, shards: Sequence[Path | str], name: str = "data") -> Data:
    store = Store.open_or_create(folder / "store")
    dataset = store.datasets.add(name, shards)
    size = int(dataset.locations().size.mean())
    return Data(f"{dataset.samples:,} x {size / 1e3:.1f} kB", folder, store, dataset, publish_part(store, dataset))


def publish_part(store: Store, dataset: Dataset) -> Selection:
    """A tenth of a dataset, drawn at random and published."""
    chosen = np.random.default_rng(0).permutation(dataset.samples)[: max(1, dataset.samples // TENTH)]
    return store.selections.publish(
        Request(dataset, "random", 1), f"{dataset.name}-tenth", [RoundData(chosen)], seconds=0.0
    ).selection


def _enlarged(source: Data, count: int) -> Iterator[Sample]:
    tiles = [data for data, _ in source.members()]
    for number in range(count):
        first = number * _GRID**2
        grid = [tiles[i % len(tiles)] for i in range(first, first + _GRID**2)]
        yield f"{number:06d}", {"jpg": _mosaic(grid), "cls": str(number % 10).encode()}


def _mosaic(grid: list[bytes]) -> bytes:
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in grid]
    side = images[0].width
    whole = Image.new("RGB", (side * _GRID, side * _GRID))
    for place, image in enumerate(images):
        whole.paste(image, (place % _GRID * side, place // _GRID * side))
    edge = side * _GRID * _ENLARGED
    made = io.BytesIO()
    whole.resize((edge, edge), Image.Resampling.BICUBIC).save(made, "JPEG", quality=_QUALITY)
    return made.getvalue()
