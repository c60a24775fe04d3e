"""The samples of a selection with the boxes of a run, as JSON that other programs read.

What: `coco` gives COCO's detection JSON; `fiftyone` the labels of a FiftyOneImageDetectionDataset: classes, and for
each image boxes relative to it (left, top, width, height of 0..1), null where it was not looked at or failed. Images
are called by their keys with the suffix of their member, which is the name of their file in a folder of shards that
were unpacked.
Cost: the answer in memory, about 300 bytes a box.
Source: cocodataset.org/#format-data; docs.voxel51.com, "Exporting FiftyOne Datasets".
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tamis.store.boxes import ANNOTATIONS, LOOKED
from tamis.store.errors import ImportRefused

if TYPE_CHECKING:
    from tamis.store.boxes import Boxes
    from tamis.store.store import Store

FORMATS = ("coco", "fiftyone")


def exported(store: "Store", selection: str, boxes: str, form: str, epoch: int = 0) -> dict[str, Any]:
    """A selection with boxes.

    Args:
        store: an open store.
        selection: name, name@version or key.
        boxes: key of the run that has them, or the beginning of it.
        form: one of FORMATS.
        epoch: the round in force in this epoch.

    Raises:
        ImportRefused: FiftyOne's boxes are relative, and the size of an image is not known.
        RunNotFound, SelectionError: the run has no boxes, or those of another dataset.
    """
    chosen = store.selections.get(selection)
    dataset, run = store.datasets.get(chosen.dataset), store.runs.get(boxes)
    samples, found = chosen.round_at(epoch)[0], store.runs.boxes(run.key, dataset)
    rows = store.query("select sample, width, height from detections where run = ?", [run.key])
    sizes_N2 = np.zeros((dataset.samples, 2), np.int64)
    sizes_N2[np.asarray(rows["sample"])] = np.stack([np.asarray(rows["width"]), np.asarray(rows["height"])], axis=1)
    suffix = dataset.image.split(";")[0]
    names = [f"{key}.{suffix}" for key in dataset.keys(samples)]
    if form == "coco":
        return _coco(samples.tolist(), names, sizes_N2, found, scored=run.kind != ANNOTATIONS)
    return _fiftyone(samples.tolist(), names, sizes_N2, found)


def _coco(samples: list[int], names: list[str], sizes_N2: Any, found: "Boxes", scored: bool) -> dict[str, Any]:
    images, annotations = list[Any](), list[Any]()
    for sample, name in zip(samples, names, strict=True):
        width, height = sizes_N2[sample].tolist()
        images.append({"id": sample, "file_name": name, "width": width, "height": height})
        at = found.frame(sample)
        for label, score, (x1, y1, x2, y2) in zip(
            found.labels_B[at].tolist(), found.scores_B[at].tolist(), found.corners_B4[at].tolist(), strict=True
        ):
            one = {"id": len(annotations) + 1, "image_id": sample, "category_id": label + 1, "iscrowd": 0}
            one |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            annotations.append(one | ({"score": score} if scored else {}))
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(_classes(found))]
    return {"images": images, "annotations": annotations, "categories": categories}


def _fiftyone(samples: list[int], names: list[str], sizes_N2: Any, found: "Boxes") -> dict[str, Any]:
    labels: dict[str, Any] = {}
    for sample, name in zip(samples, names, strict=True):
        width, height = sizes_N2[sample].tolist()
        at = found.frame(sample)
        if at.start < at.stop and not (width and height):
            raise ImportRefused(
                f"The size of {name} is not known, to which FiftyOne's boxes are relative: export coco."
            )
        boxes = [
            {"label": label, "confidence": score,
             "bounding_box": [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]}
            for label, score, (x1, y1, x2, y2) in zip(
                found.labels_B[at].tolist(), found.scores_B[at].tolist(), found.corners_B4[at].tolist(), strict=True
            )
        ]  # fmt: skip
        labels[name] = boxes if found.status_N[sample] == LOOKED else None
    return {"classes": _classes(found), "labels": labels}


def _classes(found: "Boxes") -> list[str]:
    """Names by number; numbers where the run has no names."""
    return list(found.classes) or [str(n) for n in range(int(found.labels_B.max(initial=-1)) + 1)]
