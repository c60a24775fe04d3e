"""Packing images into WebDataset shards: a folder by class, a torchvision dataset object, scikit-learn's digits.

The bytes of a shard depend on the samples alone (fixed times, owners and modes), so packing again gives the same
digest. A shard appears under its name only when it is whole.
"""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tamis.store.errors import ShardError
from tamis.store.roots import reporting_full

Sample = tuple[str, dict[str, bytes]]

_SUFFIXES = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".ppm": "ppm", ".pgm": "pgm"}


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
        ShardError: there are no samples, or `per_shard` is below 1.
        StoreFull: the medium is full; no half-written shard stays.
    """
    if per_shard < 1:
        raise ShardError(f"{per_shard} samples a shard: 1 or more were expected.")
    prefix = Path(out).expanduser().absolute()
    paths: list[Path] = []
    with reporting_full(str(prefix.parent)):
        prefix.parent.mkdir(parents=True, exist_ok=True)
        for number, group in enumerate(_groups(samples, per_shard)):
            path = prefix.parent / f"{prefix.name}-{number:06d}.tar"
            _write_shard(path, group)
            paths.append(path)
    if not paths:
        raise ShardError(f"Nothing to pack into {prefix}: there are no samples.")
    return paths


def pack_folder(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], *, per_shard: int = 5000
) -> tuple[list[Path], list[str]]:
    """Pack images that lie in one folder a class, as `torchvision.datasets.ImageFolder` expects them.

    The files' bytes are taken as they are. Samples are dealt out class by class, so that every shard has all classes.

    Returns:
        The shards, and the classes: the folders' names in order, whose places are the labels.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ShardError(f"{root} is no folder: one with a sub-folder of images for each class was expected.")
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [sorted(p for p in (root / c).rglob("*") if p.suffix.lower() in _SUFFIXES) for c in classes]
    if not any(files):
        raise ShardError(
            f"{root} holds no images ({', '.join(_SUFFIXES)}) in sub-folders: one sub-folder a class was expected."
        )
    kinds = {_SUFFIXES[p.suffix.lower()] for group in files for p in group}
    if len(kinds) > 1:
        raise ShardError(
            f"{root} mixes {', '.join(sorted(kinds))}: a dataset has one kind of image. Convert them first."
        )
    return pack_samples(_folder_samples(files, kinds.pop()), out, per_shard=per_shard), classes


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
    try:
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise ShardError("The digits come with scikit-learn: pip install 'tamis[demo]'.") from error
    digits: Any = load_digits()
    images = (digits.images * (255 / 16)).round().astype("uint8")
    chosen = [i for i in range(len(images)) if (i % 6 == 5) == test]
    pairs = [(images[i], int(digits.target[i])) for i in chosen]
    return pack_samples(_pair_samples(pairs, "test" if test else "train"), out, per_shard=per_shard)


def _groups(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    for sample in samples:
        group.append(sample)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _write_shard(path: Path, samples: Sequence[Sample]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples:
                for extension, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")  # mtime 0, owner 0, mode 0644
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _folder_samples(files: Sequence[Sequence[Path]], kind: str) -> Iterator[Sample]:
    for place in range(max(map(len, files))):
        for label, group in enumerate(files):
            if place < len(group):
                yield f"{label:04d}-{place:07d}", {kind: group[place].read_bytes(), "cls": str(label).encode()}


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
