"""Folders of images with boxes, COCO's and VOC's, as shards and a run of annotations.

What: `find_annotated` reads a folder's annotations, `pack_annotated` packs its images and keeps the boxes as a run of
the kind "annotations", whose scores are 1.
COCO: `annotations.json` (or the only .json in `annotations/`), images in `images/` or beside it.
Ids need not be dense: images are packed in the order of their ids, and categories become classes in that of theirs.
VOC: `JPEGImages/` and `Annotations/*.xml`; classes are the names, sorted. Its corners count pixels from 1 and include
the last, so x1 and y1 are lessened by one.
Left out and counted: crowd boxes, images that are missing or no file inside the folder, annotations of no image.
Trust: a file of annotations has at most `LARGEST` bytes; XML with a document type, which could name entities, is
refused before it is parsed. Nothing outside the folder is read.
Cost: the annotations in memory, about ten times their file.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

import numpy as np

from tamis.store.boxes import ANNOTATIONS, Frames, starts
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import Sample, pack_samples
from tamis.store.errors import ImportRefused
from tamis.store.keys import check_name, key_of
from tamis.store.run import Run
from tamis.store.shards.images import EITHER, IMAGES, SAME
from tamis.store.shards.skipped import Skipped, summed

if TYPE_CHECKING:
    from tamis.store.store import Store

LARGEST = 1 << 30
_XML = 1 << 22  # bytes of one file of VOC
Box = tuple[int, float, float, float, float]  # class, x1, y1, x2, y2


@dataclass(frozen=True)
class Image:
    """An image with its boxes."""

    path: Path
    boxes: tuple[Box, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Annotated:
    """What a folder has: images, the names of classes, and what was left out."""

    images: tuple[Image, ...]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    @property
    def kind(self) -> str:
        """The suffix under which all are packed; where there are several, all of them ("jpg;png")."""
        kinds = {SAME.get(kind, kind) for kind in map(_suffix, (image.path for image in self.images))}
        return EITHER.join(kind for kind in IMAGES if kind in kinds)


def is_annotated(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like one of COCO or VOC."""
    root = Path(folder)
    return ((root / "Annotations").is_dir() and (root / "JPEGImages").is_dir()) or _coco_file(root) is not None


def find_annotated(folder: str | os.PathLike[str]) -> Annotated:
    """Read a folder's annotations.

    Raises:
        ImportRefused: naming the file and what is wrong with it.
    """
    root = Path(folder).expanduser().absolute()
    file = _coco_file(root)
    found = _coco(root, file) if file is not None else _voc(root)
    if not found.images:
        left = f" Left out: {'; '.join(map(str, found.skipped))}." if found.skipped else ""
        raise ImportRefused(f"{root} has no image that its annotations name.{left}")
    return found


def pack_annotated(
    store: "Store", name: str, found: Annotated, out: str | os.PathLike[str], *, per_shard: int = 5000
) -> tuple[Dataset, Run]:
    """Pack the images, index them, and keep their boxes as a run.

    Safe to repeat: what is there already is found again.

    Args:
        store: an open store.
        name: of the dataset.
        found: from `find_annotated`.
        out: path and beginning of the shards' names.
        per_shard: images in a shard.

    Raises:
        DatasetExists, ShardError, StoreFull: as packing raises them.
    """
    check_name(name, "dataset")
    paths = pack_samples(_samples(found), out, per_shard=per_shard)
    dataset = store.datasets.add(name, paths, image=found.kind, label=None)
    frames = _frames(found)
    content = hashlib.sha256(b"".join(a.astype(k).tobytes() for a, k in (
        (frames.offsets_F1, "<i8"), (frames.labels_B, "<i4"), (frames.corners_B4, "<f4"))))  # fmt: skip
    config: dict[str, Any] = {"model": None, "model_run": None, "classes": list(found.classes), "decoder": {}}
    config["content"] = content.hexdigest()
    key = key_of(ANNOTATIONS, {"dataset": dataset.key, **config})
    there = store.runs.find(key)
    if there is not None:
        return dataset, there
    store.runs.begin(kind=ANNOTATIONS, key=key, dataset=dataset.ref, config=config)
    tally = store.runs.put_boxes(key, iter([frames]))
    left = [one.as_json() for one in found.skipped]
    return dataset, store.runs.finish(key, metrics={"samples": tally.frames, **asdict(tally), "skipped": left})


def _samples(found: Annotated) -> Iterator[Sample]:
    kinds = found.kind.split(EITHER)
    for number, image in enumerate(found.images):
        suffix = _suffix(image.path)
        stem = image.path.stem.replace(".", "_")
        yield f"{number:07d}-{stem}", {suffix if suffix in kinds else SAME[suffix]: image.path.read_bytes()}


def _frames(found: Annotated) -> Frames:
    every = [box for image in found.images for box in image.boxes]
    return Frames(
        np.arange(len(found.images)),
        starts(np.asarray([len(image.boxes) for image in found.images])),
        np.asarray([box[0] for box in every], np.int32),
        np.ones(len(every), np.float32),
        np.asarray([box[1:] for box in every], np.float32).reshape(-1, 4),
        np.asarray([image.size for image in found.images], np.int32).reshape(-1, 2),
        [None] * len(found.images),
    )


def _coco_file(root: Path) -> Path | None:
    if (root / "annotations.json").is_file():
        return root / "annotations.json"
    there = sorted((root / "annotations").glob("*.json"))
    if len(there) > 1:
        raise ImportRefused(
            f"{root / 'annotations'} has {len(there)} JSON files: leave one there, or put it at {root}/annotations.json."
        )
    return there[0] if there else None


def _coco(root: Path, file: Path) -> Annotated:
    try:
        content: Any = json.loads(_bounded(file, LARGEST))
        categories = sorted((int(one["id"]), str(one["name"])) for one in content["categories"])
        images = {int(one["id"]): one for one in content["images"]}
        labels = {number: place for place, (number, _) in enumerate(categories)}
        boxes, skipped = _coco_boxes(content.get("annotations", []), images, labels)
        kept = [
            image
            for number, one in sorted(images.items())
            if (image := _image(root, str(one["file_name"]), boxes.get(number, []), one, skipped)) is not None
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ImportRefused(
            f"{file} is no COCO file of detections ({type(error).__name__}: {str(error)[:100]}): expected images with "
            "id and file_name, categories with id and name, and annotations with image_id, category_id and bbox."
        ) from error
    return Annotated(tuple(kept), tuple(name for _, name in categories), summed(skipped))


def _coco_boxes(
    annotations: list[dict[str, Any]], images: dict[int, Any], labels: dict[int, int]
) -> tuple[dict[int, list[Box]], list[Skipped]]:
    boxes, skipped = dict[int, list[Box]](), list[Skipped]()
    for one in annotations:
        number, name = int(one["image_id"]), str(one.get("id", "without id"))
        if one.get("iscrowd"):
            skipped.append(Skipped("crowd boxes", 1, (name,)))
        elif number not in images:
            skipped.append(Skipped("annotations of images that the file does not list", 1, (name,)))
        else:
            x, y, width, height = map(float, one["bbox"])
            label = labels.get(int(one["category_id"]), -1)  # unknown ones are counted where boxes are kept
            boxes.setdefault(number, []).append((label, x, y, x + width, y + height))
    return boxes, skipped


def _image(root: Path, name: str, boxes: list[Box], one: Any, skipped: list[Skipped]) -> Image | None:
    for folder in (root / "images", root):
        path = (folder / name).resolve()
        if path.is_relative_to(root.resolve()) and path.is_file() and _suffix(path) in IMAGES:
            return Image(path, tuple(boxes), (int(one.get("width", 0)), int(one.get("height", 0))))
    skipped.append(Skipped("images that are missing, or none that can be packed", 1, (name,)))
    return None


def _voc(root: Path) -> Annotated:
    if not ((root / "Annotations").is_dir() and (root / "JPEGImages").is_dir()):
        raise ImportRefused(
            f"{root} has neither a COCO file (annotations.json) nor VOC's folders Annotations and JPEGImages."
        )
    read = [_voc_file(file) for file in sorted((root / "Annotations").glob("*.xml"))]
    classes = sorted({name for _, _, boxes in read for name, *_ in boxes})
    skipped, kept = list[Skipped](), list[Image]()
    for name, size, found in read:
        boxes = [(classes.index(label), x1 - 1, y1 - 1, x2, y2) for label, x1, y1, x2, y2 in found]
        path = (root / "JPEGImages" / name).resolve()
        if path.is_relative_to(root.resolve()) and path.is_file() and _suffix(path) in IMAGES:
            kept.append(Image(path, tuple(boxes), size))
        else:
            skipped.append(Skipped("images that are missing, or none that can be packed", 1, (name,)))
    return Annotated(tuple(kept), tuple(classes), summed(skipped))


def _voc_file(file: Path) -> tuple[str, tuple[int, int], list[tuple[str, float, float, float, float]]]:
    data = _bounded(file, _XML)
    text = data.decode("utf-8", "replace").replace("\0", "")
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise ImportRefused(f"{file} has a document type: annotations need none, and entities are not expanded.")
    try:
        top = ElementTree.fromstring(text)
        size = int(top.findtext("size/width", "0")), int(top.findtext("size/height", "0"))
        boxes = [
            (one.findtext("name", "").strip(), *(float(one.findtext(f"bndbox/{c}", "")) for c in _CORNERS))
            for one in top.findall("object")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise ImportRefused(f"{file} is no VOC annotation ({error}): expected objects with name and bndbox.") from error
    return top.findtext("filename", f"{file.stem}.jpg").strip(), size, cast("Any", boxes)


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _bounded(file: Path, limit: int) -> bytes:
    try:
        if file.stat().st_size > limit:
            raise ImportRefused(f"{file} has {file.stat().st_size:,} bytes: expected {limit:,} at most.")
        return file.read_bytes()
    except OSError as error:
        raise ImportRefused(f"{file} cannot be read: {error.strerror}.") from error


def _suffix(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")
