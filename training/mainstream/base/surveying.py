"""A base model's branchpoints with what they cost, as a table shows them.

What: `survey` builds a network, gives it weights if there are any, finds its branchpoints, measures its segments.
When: before packages are built from a base model, to see what can be shared and what it saves.
Cost: building and tracing the network, and some twenty passes over one image.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tamis.training.mainstream.base.branchpoints import Branchpoint
from tamis.training.mainstream.base.profiling import Profile, measure
from tamis.training.mainstream.base.splitting import split
from tamis.training.mainstream.base.tracing import plain
from tamis.training.models.efficientnet_lite import MEAN, STD
from tamis.training.models.pretrained import Given, fit, read_weights
from tamis.training.models.registry import ImageClassifier, build_model


@dataclass(frozen=True)
class Row:
    """A branchpoint and its price.

    Attributes:
        point: the branchpoint.
        seconds: a frame, from it to the outputs: what each application that leaves there adds.
        share: part of the whole model's seconds before it, 0..1: what applications have in common.
    """

    point: Branchpoint
    seconds: float
    share: float


@dataclass(frozen=True)
class Survey:
    """What `survey` found.

    Attributes:
        model: its name.
        head: the layer that each application has of its own, at least.
        branchpoints: and their prices.
        profile: the seconds they are made of.
        given: what the model got of a file; None without one.
    """

    model: str
    head: str
    branchpoints: tuple[Row, ...]
    profile: Profile
    given: Given | None


def survey(
    model: str, *, weights: Path | None = None, image_size: int = 224, classes: int = 1000, device: str = "auto"
) -> Survey:
    """A base model's branchpoints and what they cost on a device.

    Args:
        model: see `tamis.training.models.registry`.
        weights: a state dict that it begins with; costs are the same without it.
        image_size: height and width of its images.
        classes: outputs.
        device: see `tamis.training.devices`.

    Raises:
        BaseModelError: it cannot be a base model.
        UnknownModelError, CheckpointError, DeviceError: no such model, weights that do not fit, no such device.
    """
    network = build_model(model, num_classes=classes)
    given = None
    if weights is not None:
        data, other = weights.read_bytes(), partial(build_model, model, num_classes=classes + 1)
        found, sha256 = read_weights(data, weights), hashlib.sha256(data).hexdigest()
        given = fit(network, found, file=weights.name, sha256=sha256, model=model, other=other)
    # What pixels are normalised with changes neither branchpoints nor seconds.
    parts = split(ImageClassifier(network, MEAN, STD), (3, image_size, image_size))
    profile = measure(parts, device)
    return Survey(model, plain(parts.head), tuple(_rows(parts.branchpoints, profile)), profile, given)


def _rows(points: tuple[Branchpoint, ...], profile: Profile) -> Iterator[Row]:
    for point in points:
        yield Row(point, profile.rest(point.index), profile.stem(point.index) / profile.rest(0))
