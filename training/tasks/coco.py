"""Mean average precision as COCO defines it, by faster-coco-eval.

Measures: `map` over the overlaps .5, .55, ..., .95, `map50` at .5, and `map_small`, `map_medium`, `map_large` of boxes
under 32^2 pixels, up to 96^2, and above; a size that no true box has is left out. Sizes are of the image as it was
decoded. 100 detections an image, as COCO counts.
Source: T.-Y. Lin et al., "Microsoft COCO", ECCV 2014; seed of the method for detection, "Evaluation metrics".
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from tamis.training.errors import ExtraMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STATS = {"map": 0, "map50": 1, "map_small": 3, "map_medium": 4, "map_large": 5}  # where COCO's twelve numbers stand
MEASURES = tuple(_STATS)


def check_installed() -> None:
    """Refuse to begin what could not be judged.

    Raises:
        ExtraMissing: faster-coco-eval is not installed.
    """
    if find_spec("faster_coco_eval") is None:
        raise ExtraMissing(
            "Judging detectors needs faster-coco-eval: pip install 'tamis[detection]' (or faster-coco-eval)."
        )


def average_precision(
    truth: "Sequence[NDArray[np.floating]]", found: "Sequence[NDArray[np.floating]]", classes: int
) -> dict[str, float]:
    """The measures of some images.

    Args:
        truth: of each image, [m, 5]: class from 0, x1, y1, x2, y2.
        found: of each image, [n, 6]: the same and the score.
        classes: how many there are.

    Raises:
        ExtraMissing: faster-coco-eval is not installed.
    """
    check_installed()
    from faster_coco_eval import COCO, COCOeval_faster

    boxes = [_box(i, row) for i, rows in enumerate(truth) for row in rows.tolist()]
    if not boxes:
        return {}
    true = COCO({
        "images": [{"id": i} for i in range(len(truth))],
        "categories": [{"id": i} for i in range(classes)],
        "annotations": [one | {"id": i + 1, "iscrowd": 0} for i, one in enumerate(boxes)],
    })  # fmt: skip
    guesses = [_box(i, row) | {"score": row[5]} for i, rows in enumerate(found) for row in rows.tolist()]
    if not guesses:
        return dict.fromkeys(("map", "map50"), 0.0)
    judge: Any = COCOeval_faster(true, true.loadRes(guesses), iouType="bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    values = {name: float(judge.stats[place]) for name, place in _STATS.items()}
    return {name: value for name, value in values.items() if value >= 0}  # -1: no true box of that size


def _box(image: int, row: Sequence[float]) -> dict[str, Any]:
    label, x1, y1, x2, y2 = row[:5]
    width, height = x2 - x1, y2 - y1
    return {"image_id": image, "category_id": int(label), "bbox": [x1, y1, width, height], "area": width * height}
