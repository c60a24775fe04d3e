"""Images of samples on a page: where each lies, and what is written below it."""

from collections.abc import Sequence
from typing import Any

from tamis.flows.web.site import Site
from tamis.flows.web.thumbnails import PIXELS, SIZES
from tamis.store.datasets import Dataset
from tamis.store.errors import TamisError

Row = dict[str, Any]
_WIDE = 1.2


def cells(site: Site, dataset: Dataset, samples: Sequence[int]) -> list[Row]:
    """One row an image: sample, key, label (number), class (name), image (address without a size).

    Raises:
        DatasetNotFound: the dataset has no such sample.
    """
    return [
        {
            "sample": place.sample,
            "key": place.key,
            "label": place.label,
            "class": class_of(dataset, place.label),
            "image": f"/images/{dataset.ref}/{place.sample}",
        }
        for place in site.thumbnails.places(dataset, samples)
    ]


def shape(site: Site, dataset: Dataset) -> str:
    """How a dataset's images are shown, told from its first one.

    Returns:
        "pixel": so small that their pixels are shown; "wide": wider than high; "" else.
    """
    try:
        made = site.thumbnails.image(dataset, site.thumbnails.places(dataset, [0])[0], SIZES[1])
    except TamisError:  # the image itself will say what is wrong
        return ""
    if max(made.width, made.height) <= PIXELS:
        return "pixel"
    return "wide" if made.width > _WIDE * made.height else ""


def class_of(dataset: Dataset, label: int | None) -> str | None:
    """A class's name, or its number; None where there is none."""
    if label is None or label < 0 or not dataset.has_classes:
        return None
    return dataset.classes[label] if label < len(dataset.classes) else str(label)
