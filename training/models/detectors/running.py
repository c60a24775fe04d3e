"""How a detector is run: torchvision's SSD and Faster R-CNN in one pass a batch, any other by torchvision's contract.

What: `run` gives what the losses of a batch are computed from, `detect` what a detector finds.
The contract: `model(images, boxes)` in training mode gives a dict of losses that are numbers, `model(images)` in
evaluation mode a list of dicts with `boxes` in the image's pixels, `labels` from 1, `scores`. `images` is a list of
[C, H, W].
Cost: a model that only keeps to the contract says one loss for all it is given, so it is given one image at a time: as
many passes as images. Its BatchNorm then sees one image at a time as well.

Legend: B images, M boxes of an image at most.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.ssd import SSD

from tamis.training.errors import TaskError
from tamis.training.models.detectors.rcnn import Boxes, rcnn_terms
from tamis.training.models.detectors.ssd import ssd_outputs

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_KEYS = ("boxes", "labels", "scores")


def run(network: nn.Module, pixels_BCHW: Tensor, targets_BM5: Tensor) -> Tensor:
    """What losses are computed from: of SSD its outputs, [B, P, 8 + K]; of others losses of each image, [B, parts].

    Args:
        network: a detector.
        pixels_BCHW: as it takes them.
        targets_BM5: class from 0 (-1 for padding) and corners of each box, in pixels of the images.

    Raises:
        TaskError: the network does not keep to the contract.
    """
    if isinstance(network, SSD):
        return ssd_outputs(network, pixels_BCHW)
    boxes = as_boxes(targets_BM5)
    if type(network) is FasterRCNN:  # those made from it want masks or points as well
        return rcnn_terms(network, pixels_BCHW, boxes).losses_B4
    with _as_in_training(network):
        return torch.stack([_sum(network([one], [of])) for one, of in zip(pixels_BCHW, boxes, strict=True)])[:, None]


def detect(network: nn.Module, pixels_BCHW: Tensor) -> Boxes:
    """Boxes, labels (from 1) and scores of each image; the network is in evaluation mode.

    Raises:
        TaskError: the network does not keep to the contract.
    """
    found: Any = network([*pixels_BCHW])
    if not isinstance(found, list) or len(found) != len(pixels_BCHW) or not all(map(_is_found, found)):
        raise TaskError(
            f"The model, a {type(network).__name__}, gave a {type(found).__name__} in evaluation mode: expected a list "
            f"of a dict for each image with {', '.join(_KEYS)}, as torchvision's detectors give."
        )
    return found


def as_boxes(targets_BM5: Tensor) -> Boxes:
    """Padded targets as torchvision takes them: `boxes` [m, 4] and `labels` from 1, of each image."""
    kept = [targets_M5[targets_M5[:, 0] >= 0] for targets_M5 in targets_BM5]
    return [{"boxes": one[:, 1:], "labels": one[:, 0].long() + 1} for one in kept]


def _is_found(one: object) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(key), Tensor) for key in _KEYS)


def _sum(losses: Any) -> Tensor:
    """Of a dict of losses."""
    if not isinstance(losses, dict) or not losses or not all(isinstance(one, Tensor) for one in losses.values()):
        raise TaskError(
            f"The model gave a {type(losses).__name__} in training mode: expected a dict of losses, as torchvision's "
            "detectors give for a list of images and one of boxes and labels."
        )
    return torch.stack([one.float().sum() for one in losses.values()]).sum()


@contextmanager
def _as_in_training(network: nn.Module) -> Generator[None]:
    """In training mode; where it was in evaluation mode, BatchNorm stays as it is."""
    if network.training:
        yield
        return
    before = [(module, module.training) for module in network.modules()]
    for module, _ in before:
        module.training = not isinstance(module, _NORMS)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was
