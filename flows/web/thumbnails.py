"""Images of samples, small enough for a page.

What: `Thumbnails.places` finds where the images of some samples lie, in one query; `Thumbnails.image` reads one by its
byte range, decodes it as training does, scales it and encodes it again. Images of `PIXELS` and less stay as they are,
as PNG, and the page enlarges them.
How: two threads read and decode, each with readers of its own, however many ask. Places and encoded images are kept,
the least used forgotten. An image's tag is told from where it lies in which
shard, so a browser that has it is answered without a read.
Cost: a place is a row of the table `samples`, some dozen bytes; an image 1 to 10 ms and some kB, of `CACHE` bytes kept.
"""

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tamis.flows.web.asking import answer
from tamis.store import Store
from tamis.store.datasets import Dataset, Locations
from tamis.store.errors import DatasetNotFound, ShardChanged
from tamis.store.shards.images import EITHER

if TYPE_CHECKING:
    from tamis.training.streaming.local import Reader

SIZES = (96, 192, 384, 1024)  # pixels of the longer side
PIXELS = 64  # of the longer side, up to which an image is shown pixel by pixel
CACHE, _PLACES, _READERS = 64 << 20, 200_000, 16
_QUALITY = 82

_PLACE = """
    select sample, key, label, shard, members from samples where dataset = $dataset and sample in ({})"""


@dataclass(frozen=True)
class Place:
    """Where the image of a sample lies.

    Attributes:
        sample, key: which.
        label: its class's number; None for none.
        shard: number of the shard.
        offset, size: of the image in it, bytes.
    """

    sample: int
    key: str
    label: int | None
    shard: int
    offset: int
    size: int


@dataclass(frozen=True)
class Picture:
    """An encoded image.

    Attributes:
        data: PNG or JPEG.
        media: its media type.
        width, height: of the image as it is stored.
    """

    data: bytes
    media: str
    width: int
    height: int


class Thumbnails:
    """The images of a store's datasets.

    Args:
        store: an open store.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._places: OrderedDict[tuple[str, int], Place] = OrderedDict()
        self._made: OrderedDict[str, Picture] = OrderedDict()
        self._bytes = 0
        self._readers: OrderedDict[tuple[str, int], Reader] = OrderedDict()
        self._pool = ThreadPoolExecutor(2, "tamis-images")

    @property
    def kept_bytes(self) -> int:
        """What the images that are kept take."""
        return self._bytes

    def places(self, dataset: Dataset, samples: Sequence[int]) -> list[Place]:
        """Where the images of some samples lie, in their order.

        Raises:
            DatasetNotFound: the dataset has no such sample.
        """
        missing = [s for s in dict.fromkeys(samples) if (dataset.name, s) not in self._places]
        if missing:
            numbers = ", ".join(str(int(sample)) for sample in missing)
            rows = answer(self._store, _PLACE.format(numbers), {"dataset": dataset.name}, rows=len(missing))
            with self._lock:
                for row in rows:
                    self._places[dataset.name, row["sample"]] = _place(row, dataset.image.split(EITHER))
        found = [self._places.get((dataset.name, s)) if 0 <= s < dataset.samples else None for s in samples]
        with self._lock:
            while len(self._places) > _PLACES:
                self._places.popitem(last=False)
        gone = [s for s, place in zip(samples, found, strict=True) if place is None]
        if gone:
            raise DatasetNotFound(f"{dataset.ref} has samples 0 to {dataset.samples - 1}, not {gone[0]}.")
        return [place for place in found if place is not None]

    def tag(self, dataset: Dataset, place: Place, size: int) -> str:
        """What identifies an image of a size."""
        said = f"{dataset.shards[place.shard].content} {place.offset} {place.size} {size} 1"
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def image(self, dataset: Dataset, place: Place, size: int) -> Picture:
        """One image, its longer side at most `size` pixels.

        Raises:
            ShardChanged, DecodeError, DecoderRefused: naming the shard or the sample.
        """
        tag = self.tag(dataset, place, size)
        with self._lock:
            if tag in self._made:
                self._made.move_to_end(tag)
                return self._made[tag]
        made = self._pool.submit(lambda: _encoded(self._pixels(dataset, place), size)).result()
        with self._lock:
            if tag not in self._made:
                self._made[tag] = made
                self._bytes += len(made.data)
            while self._bytes > CACHE:
                self._bytes -= len(self._made.popitem(last=False)[1].data)
        return made

    def _pixels(self, dataset: Dataset, place: Place) -> Image.Image:
        from tamis.training.decoding.decode import IMAGES, check_suffix, decode_images

        suffix = check_suffix(dataset.image, IMAGES)
        shard, offset, size = ([place.shard], [place.offset], [place.size])
        where = Locations(np.asarray(shard, np.int32), np.asarray(offset, np.int64), np.asarray(size, np.int64))
        try:
            data = self._reader(dataset).each(np.asarray([place.sample]), where)
        except ShardChanged:  # it may be elsewhere by now: the next one who asks opens it there
            self._forget(dataset.ref)
            raise
        pixels = decode_images(data, suffix, name=lambda _: f"Sample {place.key} (number {place.sample})")[0]
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())

    def _reader(self, dataset: Dataset) -> "Reader":
        """This thread's reader of a dataset; the least used of its readers are closed."""
        from tamis.training.streaming.readers import Media, open_reader

        key = dataset.ref, threading.get_ident()
        with self._lock:
            if key not in self._readers:
                media = Media("ranges", sparse=True, options=dict(self._store.root.options))
                self._readers[key] = open_reader(dataset.shards, lambda sample: f"number {sample}", media)
            self._readers.move_to_end(key)
            mine = [other for other in self._readers if other[1] == key[1]]
            for other in mine[:-_READERS]:
                self._readers.pop(other).close()
            return self._readers[key]

    def _forget(self, ref: str) -> None:
        with self._lock:
            gone = self._readers.pop((ref, threading.get_ident()), None)
        if gone is not None:
            gone.close()


def _place(row: dict[str, Any], names: Sequence[str]) -> Place:
    member = next((one for one in row.pop("members") if one["name"] in names), {"offset": 0, "size": 0})
    return Place(**row, offset=member["offset"], size=member["size"])


def _encoded(image: Image.Image, size: int) -> Picture:
    width, height = image.size
    file = io.BytesIO()
    if max(width, height) <= PIXELS:
        image.save(file, "PNG")
        return Picture(file.getvalue(), "image/png", width, height)
    image.thumbnail((size, size), Image.Resampling.BOX)
    image.save(file, "JPEG", quality=_QUALITY)
    return Picture(file.getvalue(), "image/jpeg", width, height)
