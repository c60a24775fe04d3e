"""Folders of COCO and VOC become shards and annotations; selections with boxes become JSON that is read again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tamis.store import Store
from tamis.store.detections.exporting import exported
from tamis.store.detections.folders import find_annotated, is_annotated, pack_annotated
from tamis.store.errors import ImportRefused
from tamis.store.selections import Request, RoundData


def png(path: Path, shade: int, size: tuple[int, int] = (100, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 0)).save(path)


def coco(root: Path, **changes: Any) -> Path:
    """Ids that are not dense and not in order, a crowd, a missing image, an unknown category and an image too many."""
    png(root / "images" / "b.png", 1)
    png(root / "images" / "a.png", 2)
    content: dict[str, Any] = {
        "images": [
            {"id": 900, "file_name": "a.png", "width": 100, "height": 50},
            {"id": 7, "file_name": "b.png", "width": 100, "height": 50},
            {"id": 8, "file_name": "gone.png", "width": 100, "height": 50},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 900, "category_id": 90, "bbox": [10, 20, 30, 10]},
            {"id": 2, "image_id": 900, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1},
            {"id": 3, "image_id": 8, "category_id": 3, "bbox": [0, 0, 5, 5]},
            {"id": 4, "image_id": 900, "category_id": 5, "bbox": [0, 0, 5, 5]},
            {"id": 5, "image_id": 11, "category_id": 3, "bbox": [0, 0, 5, 5]},
            {"id": 6, "image_id": 900, "category_id": 3, "bbox": [1, 1, 0, 5]},
        ],
    }
    (root / "annotations.json").write_text(json.dumps(content | changes))
    return root


def voc(root: Path, head: str = "", name: str = "x.png") -> Path:
    png(root / "JPEGImages" / "x.png", 1)
    (root / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"
    (root / "Annotations" / "x.xml").write_text(
        f"{head}<annotation><filename>{name}</filename><size><width>100</width><height>50</height></size>"
        f"<object><name>dog</name>{box}</object></annotation>"
    )
    return root


def test_coco(store: Store, tmp_path: Path) -> None:
    found = find_annotated(coco(tmp_path / "coco"))
    dataset, run = pack_annotated(store, "street", found, tmp_path / "out" / "street", per_shard=1)
    assert (dataset.keys(), dataset.label, found.classes) == (["0000000-b", "0000001-a"], None, ("cat", "dog"))
    boxes = store.runs.boxes(run.key, dataset)
    assert (boxes.offsets_N1.tolist(), boxes.labels_B.tolist(), boxes.scores_B.tolist()) == ([0, 0, 1], [1], [1.0])
    assert boxes.corners_B4.tolist() == [[10, 20, 40, 30]]
    assert boxes.status_N.tolist() == [1, 1]
    assert (run.kind, run.metrics["unknown"], run.metrics["outside"], run.metrics["empty"]) == ("annotations", 1, 1, 1)
    assert {one.why: one.some for one in found.skipped} == {
        "crowd boxes": ("2",),
        "annotations of images that the file does not list": ("5",),
        "images that are missing, or none that can be packed": ("gone.png",),
    }
    assert pack_annotated(store, "street", found, tmp_path / "out" / "street", per_shard=1)[1] == run


def test_voc(store: Store, tmp_path: Path) -> None:
    """Its corners count pixels from 1 and include the last: 1 to 20 are the 20 columns from 0."""
    dataset, run = pack_annotated(store, "voc", find_annotated(voc(tmp_path / "voc")), tmp_path / "out" / "voc")
    boxes = store.runs.boxes(run.key, dataset)
    assert (boxes.corners_B4.tolist(), boxes.classes) == ([[0, 10, 20, 30]], ("dog",))


def test_entities_are_never_expanded(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"x\.xml has a document type"):
        find_annotated(voc(tmp_path, '<!DOCTYPE a [<!ENTITY b "bb">]>'))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd"])
def test_nothing_outside_the_folder_is_packed(tmp_path: Path, name: str) -> None:
    png(tmp_path / "secret.png", 9)
    listed = [{"id": 1, "file_name": name}]
    with pytest.raises(ImportRefused, match="no image that its annotations name"):
        find_annotated(coco(tmp_path / "coco", images=listed, annotations=[]))
    with pytest.raises(ImportRefused, match="no image that its annotations name"):
        find_annotated(voc(tmp_path / "voc", name=name))


@pytest.mark.parametrize(
    "changes",
    [{"images": 3}, {"categories": [{"id": 1}]}, {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1]}]},
     {"images": [{"id": "x"}]}],
)  # fmt: skip
def test_what_is_no_coco(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ImportRefused, match="is no COCO file of detections"):
        find_annotated(coco(tmp_path, **changes))


def test_a_folder_of_classes_is_none(tmp_path: Path) -> None:
    png(tmp_path / "cat" / "a.png", 1)
    (tmp_path / "notes.json").write_text("{}")
    assert not is_annotated(tmp_path)
    with pytest.raises(ImportRefused, match="neither a COCO file"):
        find_annotated(tmp_path)


def test_a_selection_comes_back_as_coco(store: Store, tmp_path: Path) -> None:
    """What is exported and read again has the same boxes and classes."""
    dataset, run = pack_annotated(store, "street", find_annotated(coco(tmp_path / "coco")), tmp_path / "out" / "s")
    store.selections.publish(Request(dataset, "random", 1, {"k": 2}), "some", [RoundData([1, 0])], seconds=0.1)
    made = exported(store, "some", run.key[:8], "coco")
    assert [one["file_name"] for one in made["images"]] == ["0000001-a.png", "0000000-b.png"]
    (one,) = made["annotations"]
    assert (one["bbox"], one["area"], one["image_id"], "score" in one) == ([10, 20, 30, 10], 300, 1, False)
    again = tmp_path / "again"
    for image in made["images"]:
        png(again / "images" / image["file_name"], 3)
    (again / "annotations.json").write_text(json.dumps(made))
    more, kept = pack_annotated(store, "again", find_annotated(again), tmp_path / "out" / "again")
    first, second = store.runs.boxes(run.key, dataset), store.runs.boxes(kept.key, more)
    assert np.array_equal(first.corners_B4, second.corners_B4)
    assert (first.classes, first.labels_B.tolist()) == (second.classes, second.labels_B.tolist())


def test_a_selection_as_fiftyone(store: Store, tmp_path: Path) -> None:
    """By its documentation: labels by file, relative left, top, width and height, and the class by its place."""
    dataset, run = pack_annotated(store, "street", find_annotated(coco(tmp_path / "coco")), tmp_path / "out" / "s")
    store.selections.publish(Request(dataset, "random", 1, {"k": 2}), "some", [RoundData([1, 0])], seconds=0.1)
    made = json.loads(json.dumps(exported(store, "some", run.key, "fiftyone")))
    assert made == {
        "classes": ["cat", "dog"],
        "labels": {
            "0000001-a.png": [{"label": 1, "confidence": 1.0, "bounding_box": [0.1, 0.4, 0.3, 0.2]}],
            "0000000-b.png": [],
        },
    }
