"""Boxes on the command line: packed with their images, found by a detector, exported with a selection."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

DETECTOR = """
import torch
from torch import nn


class Whole(nn.Module):
    classes = ("frame",)
    background = False

    def forward(self, images):
        if any(image.max() > 0.9 for image in images):
            raise ValueError("too bright")
        box = [[0.0, 0.0, images[0].shape[2], images[0].shape[1]], [9.0, 9.0, 9.0, 9.0]]
        return [
            {"boxes": torch.tensor(box), "labels": torch.tensor([0, 0]), "scores": torch.tensor([0.5, 0.75])}
            for _ in images
        ]


def make(weights):
    return Whole()
"""


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A COCO folder of three frames, one of which is bright; and a detector in the current folder."""
    folder = tmp_path / "coco"
    (folder / "images").mkdir(parents=True)
    for i, shade in enumerate((1, 2, 255)):
        Image.new("RGB", (40, 20), (shade, 0, 0)).save(folder / "images" / f"{i}.png")
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 20} for i in range(3)]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": [box]}
    (folder / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "own_boxes.py").write_text(DETECTOR)
    monkeypatch.chdir(tmp_path)
    return folder


def test_from_a_folder_to_an_export(tamis: Any, street: Path, tmp_path: Path) -> None:
    tamis("init")
    packed = tamis("dataset", "pack", "street", street, "--json").json
    assert (packed["samples"], packed["boxes"]) == (3, 1)
    made = tamis("score", "boxes", "--dataset", "street", "--model", "own_boxes:make", "--json")
    assert {name: made.json["metrics"][name] for name in ("frames", "failed", "boxes", "outside")} == {
        "frames": 3, "failed": 1, "boxes": 2, "outside": 2,
    }  # fmt: skip
    again = tamis("score", "boxes", "--dataset", "street", "--model", "own_boxes:make")
    assert "cached" in again.out
    rows = tamis("sql", "select class, count(*) as n from boxes group by class order by class", "--json").json
    assert rows == [{"class": "cat", "n": 1}, {"class": "frame", "n": 2}]
    tamis("select", "random", "--dataset", "street", "--budget", 3, "--name", "all")
    assert tamis("selection", "export", "all", "--format", "coco").code == 2
    out = tmp_path / "chosen.json"
    exported = ("selection", "export", "all", "--format", "coco", "--boxes", made.json["run"], "--out", out)
    assert tamis(*exported).code == 0
    content = json.loads(out.read_text())
    assert sorted(one["bbox"] for one in content["annotations"]) == [[0, 0, 40, 20]] * 2
    assert {one["score"] for one in content["annotations"]} == {0.5}


def test_a_detector_that_is_none(tamis: Any, street: Path) -> None:
    tamis("init")
    tamis("dataset", "pack", "street", street)
    said = tamis("score", "boxes", "--dataset", "street", "--model", "own_boxes:nothing")
    assert said.code == 1
    assert "cannot be imported" in said.err
