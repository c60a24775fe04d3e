"""Images of samples on a page: where each lies, and what is written below it."""

from collections.abc import Sequence
from typing import Any

from tamis.flows.web.site import Site
from tamis.flows.web.thumbnails import PIXELS
from tamis.store.datasets import Dataset
from tamis.store.errors import TamisError

Row = dict[str, Any]


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


def is_small(site: Site, dataset: Dataset) -> bool:
    """Whether a dataset's images are so small that a page shows their pixels; told from its first image."""
    try:
        made = site.thumbnails.image(dataset, site.thumbnails.places(dataset, [0])[0], PIXELS)
    except TamisError:  # the image itself will say what is wrong
        return False
    return max(made.width, made.height) <= PIXELS


def class_of(dataset: Dataset, label: int | None) -> str | None:
    """A class's name, or its number; None where there is none."""
    if label is None or label < 0 or not dataset.has_classes:
        return None
    return dataset.classes[label] if label < len(dataset.classes) else str(label)
