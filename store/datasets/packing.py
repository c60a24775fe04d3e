"""Packing images into WebDataset shards: a folder by class, a torchvision dataset object, scikit-learn's digits.

The bytes of a shard depend on the samples alone (fixed times, owners and modes), so packing again gives the same
digest. A shard appears under its name only when it is whole, and never in place of another file: what is there with
the same bytes is kept, which is how packing that was killed goes on, and what is there with others is refused.

Cost: what reading the samples takes; memory for one sample.
"""

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tamis.store.datasets import AUTO, Dataset, Datasets
from tamis.store.errors import DatasetExists, DatasetNotFound, ShardError
from tamis.store.keys import check_name
from tamis.store.roots.roots import reporting_full
from tamis.store.shards.folders import Pictures, find_pictures, path_keys
from tamis.store.shards.skipped import Skipped
from tamis.store.shards.writing import Hashed, NewShard, check_key, remove_abandoned, write_members

Sample = tuple[str, dict[str, bytes]]


@dataclass(frozen=True)
class Packed:
    """What packing a folder gave."""

    paths: list[Path]  # the shards, in order
    classes: list[str]  # the folders' names, whose places are the labels
    skipped: tuple[Skipped, ...]  # what was not packed


class Labelled(Protocol):
    """What torchvision's datasets are: a sequence of (PIL image or array, class number)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


def pack_samples(samples: Iterable[Sample], out: str | os.PathLike[str], *, per_shard: int = 5000) -> list[Path]:
    """Write samples into shards `OUT-000000.tar`, `OUT-000001.tar`, ...

    Args:
        samples: (key, {extension: bytes}); keys without dots, each once.
        out: path and beginning of the names.
        per_shard: samples in a shard.

    Returns:
        The shards, in order.

    Raises:
        ShardError: there are no samples, `per_shard` is below 1, a key is none, or another file has a shard's name.
        StoreFull: the medium is full; no half-written shard stays.
    """
    if per_shard < 1:
        raise ShardError(f"{per_shard} samples per shard: expected at least 1.")
    prefix = Path(out).expanduser().absolute()
    paths: list[Path] = []
    with reporting_full(str(prefix.parent)):
        prefix.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(prefix)
        left = iter(samples)
        for first in left:
            path = prefix.parent / f"{prefix.name}-{len(paths):06d}.tar"
            _write_shard(path, itertools.chain([first], itertools.islice(left, per_shard - 1)))
            paths.append(path)
    if not paths:
        raise ShardError(f"Nothing to pack into {prefix}: there are no samples.")
    return paths


def pack_folder(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], *, per_shard: int = 5000
) -> tuple[list[Path], list[str]]:
    """Pack images that lie in one folder a class, as `torchvision.datasets.ImageFolder` expects them.

    As `pack_pictures`, without what was skipped.

    Returns:
        The shards, and the classes: the folders' names in order, whose places are the labels.
    """
    packed = pack_pictures(find_pictures(folder), out, per_shard=per_shard)
    return packed.paths, packed.classes


def pack_pictures(pictures: Pictures, out: str | os.PathLike[str], *, per_shard: int = 5000) -> Packed:
    """Pack what `find_pictures` found.

    The files' bytes are taken as they are. Samples are dealt out class by class, so that every shard has all classes.

    Raises:
        ShardError, StoreFull: as `pack_samples`.
    """
    paths = pack_samples(picture_samples(pictures), out, per_shard=per_shard)
    return Packed(paths, list(pictures.classes), pictures.skipped)


def picture_samples(pictures: Pictures, *, keep_paths: bool = False) -> Iterator[Sample]:
    """The samples that `pack_pictures` packs, each image as it is.

    Args:
        pictures: from `find_pictures`.
        keep_paths: keys are the files' paths in the folder (`path_keys`), not class and number.
    """
    keys = path_keys(pictures) if keep_paths else None
    for place in range(max(map(len, pictures.files))):
        for label, group in enumerate(pictures.files):
            if place < len(group):
                file = group[place]
                key = f"{label:04d}-{place:07d}" if keys is None else keys[file]
                yield key, {pictures.packed_as(file): file.read_bytes(), "cls": str(label).encode()}


def pack_pairs(
    pairs: Labelled, out: str | os.PathLike[str], *, per_shard: int = 5000, prefix: str = ""
) -> tuple[list[Path], list[str]]:
    """Pack a dataset object of (image, class number), such as torchvision's, as PNG.

    Args:
        pairs: images are PIL images, or uint8 arrays [H, W] or [H, W, 3].
        out: path and beginning of the shards' names.
        per_shard: samples in a shard.
        prefix: what the keys begin with.

    Returns:
        The shards, and the object's `classes` where it has any.
    """
    classes = [str(c) for c in getattr(pairs, "classes", [])]
    return pack_samples(_pair_samples(pairs, prefix), out, per_shard=per_shard), classes


def pack_digits(out: str | os.PathLike[str], *, test: bool = False, per_shard: int = 300) -> list[Path]:
    """Pack scikit-learn's digits: 1,797 real 8x8 grey images of 10 classes. No download.

    Every sixth image is the test part (299 samples), the rest is for training (1,498).
    """
    return pack_samples(digit_samples(test), out, per_shard=per_shard)


def digit_samples(test: bool = False) -> Iterator[Sample]:
    """The samples that `pack_digits` packs."""
    try:
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise ShardError("The digits come with scikit-learn: pip install 'tamis[demo]'.") from error
    digits: Any = load_digits()
    images = (digits.images * (255 / 16)).round().astype("uint8")
    chosen = [i for i in range(len(images)) if (i % 6 == 5) == test]
    pairs = [(images[i], int(digits.target[i])) for i in chosen]
    return _pair_samples(pairs, "test" if test else "train")


def pack_dataset(
    datasets: Datasets,
    name: str,
    samples: Callable[[], Iterable[Sample]],
    out: str | os.PathLike[str],
    *,
    per_shard: int = 5000,
    classes: Sequence[str] = (),
    image: str = AUTO,
) -> Dataset:
    """Pack samples and index them as a new dataset.

    The name is looked at first: under one that is taken nothing is written, and the same samples give what is there.

    Args:
        datasets: of the store.
        name: the dataset's name.
        samples: makes the samples, each time the same.
        out: path and beginning of the shards' names.
        per_shard: samples in a shard.
        classes: names of the classes, by number.
        image: the member that is the input.

    Raises:
        InvalidName: the name cannot be a dataset's.
        DatasetExists: it is one with other content.
        ShardError, StoreFull: as `pack_samples`.
    """
    check_name(name, "dataset")
    try:
        there = datasets.get(name)
    except DatasetNotFound:
        there = None
    if there is not None:
        found = _same(datasets, there, samples(), per_shard)
        if found is None:
            raise DatasetExists(
                f"Dataset {name!r} already exists (version {there.version}, {there.samples} samples) and has other "
                "shards. Nothing was written. Choose another name; what is packed under another name can also be "
                f"appended (tamis dataset add {name} SHARDS --append)."
            )
        if classes and tuple(classes) != found.classes:
            datasets.rename_classes(name, classes)
        if all(shard.is_there() for shard in found.shards):
            return datasets.get(found.ref)
    return datasets.add(name, pack_samples(samples(), out, per_shard=per_shard), classes=classes, image=image)


def _same(datasets: Datasets, newest: Dataset, samples: Iterable[Sample], per_shard: int) -> Dataset | None:
    """The version that has just these samples in its shards, found without writing any."""
    left = [datasets.get(f"{newest.name}@{version}") for version in range(newest.version, 0, -1)]
    count, rest = 0, iter(samples)
    for first in rest:
        digest = _digest(itertools.chain([first], itertools.islice(rest, per_shard - 1)))
        left = [d for d in left if len(d.shards) > count and d.shards[count].content == digest]
        if not left:
            return None
        count += 1
    return next((d for d in left if len(d.shards) == count), None)


def _digest(samples: Iterable[Sample]) -> str:
    """sha256 of the shard that these samples make."""
    sink = Hashed()
    write_members(sink, _members(samples))
    return sink.total.hexdigest()


def _write_shard(path: Path, samples: Iterable[Sample]) -> None:
    with NewShard(path) as shard:
        write_members(shard.file, _members(samples))
        shard.publish()


def _members(samples: Iterable[Sample]) -> Iterator[tuple[str, bytes]]:
    for key, members in samples:
        check_key(key)
        yield from ((f"{key}.{extension}", data) for extension, data in members.items())


def _pair_samples(pairs: Labelled, prefix: str) -> Iterator[Sample]:
    for i in range(len(pairs)):
        image, label = pairs[i]
        yield f"{prefix}{i:07d}", {"png": _png(image, i), "cls": str(int(label)).encode()}


def _png(image: Any, place: int) -> bytes:
    from PIL import Image

    if not isinstance(image, Image.Image):
        if getattr(image, "dtype", None) != "uint8" or image.ndim not in (2, 3):
            raise ShardError(
                f"Sample {place} is a {type(image).__name__}: a PIL image, or a uint8 array [H, W] or [H, W, 3], was "
                "expected. Pack the dataset without its ToTensor transform."
            )
        image = Image.fromarray(image)
    png = io.BytesIO()
    image.save(png, "PNG")
    return png.getvalue()
