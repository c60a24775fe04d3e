"""Faster R-CNN's losses of each image, out of one batched forward pass.

What: `rcnn_terms` gives four losses of each image: objectness and boxes of the proposals, class and boxes of the
regions. Each is a mean over what was sampled of that image (256 anchors, 512 regions).
How: torchvision's own parts in its order, drawing from the global generator as it does; it alone sums over the batch.
The mean over a batch weighted by what was sampled is torchvision's batch loss; images that had as many sampled weigh
the same. An image without boxes has sampled background only, and a loss.
Source: S. Ren et al., "Faster R-CNN", NeurIPS 2015, equation 1; R. Girshick, "Fast R-CNN", ICCV 2015, equation 1.

Legend: B images, A anchors of an image, R sampled regions of all images, K classes and the background.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

Boxes = list[dict[str, Tensor]]
_BETA = 1 / 9  # where smooth L1 begins to be linear


class Terms(NamedTuple):
    """Losses, each a mean over what was sampled of an image."""

    losses_B4: Tensor  # objectness, boxes of proposals, class, boxes of regions
    anchors_B: Tensor  # sampled, for the first two
    regions_B: Tensor  # sampled, for the others


def rcnn_terms(network: FasterRCNN, pixels_BCHW: Tensor, boxes: Boxes) -> Terms:
    """The four losses of each image.

    Args:
        network: in training or evaluation mode; proposals are as many as in training.
        pixels_BCHW: normalised.
        boxes: of each image: `boxes` [M, 4] in its pixels, `labels` from 1.
    """
    images, scaled = network.transform([*pixels_BCHW], boxes)
    assert scaled is not None
    found = network.backbone(images.tensors)
    # Anchors and regions are computed in the features' precision, which autocast lowers.
    features = {name: one.float() for name, one in ({"0": found} if isinstance(found, Tensor) else found).items()}
    rpn: Any = network.rpn  # stubs know no parts of a module
    with _as_in_training(rpn):
        proposals, first_B2, anchors_B = _proposals(rpn, images, features, scaled)
    heads: Any = network.roi_heads
    regions, _, labels, wanted = heads.select_training_samples(proposals, scaled)
    pooled = heads.box_head(heads.box_roi_pool(features, regions, images.image_sizes))
    logits_RK, deltas = heads.box_predictor(pooled)
    second_B2 = _of_regions(logits_RK.float(), deltas.float(), labels, wanted)
    regions_B = torch.tensor([len(one) for one in labels], device=first_B2.device)
    return Terms(torch.cat([first_B2, second_B2], dim=1), anchors_B, regions_B)


@contextmanager
def _as_in_training(rpn: RegionProposalNetwork) -> Generator[None]:
    """As many proposals as in training; the modes of its parts stay."""
    was, rpn.training = rpn.training, True
    try:
        yield
    finally:
        rpn.training = was


def _proposals(
    rpn: RegionProposalNetwork, images: ImageList, features: dict[str, Tensor], boxes: Boxes
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Proposals of each image, the losses [B, 2] of finding them, and how many anchors were sampled, [B]."""
    maps = [*features.values()]
    scores, moves = rpn.head(maps)
    anchors = rpn.anchor_generator(images, maps)
    levels = [one[0].numel() for one in scores]
    scores, moves = concat_box_prediction_layers(scores, moves)
    scores, moves = scores.float(), moves.float()
    placed = rpn.box_coder.decode(moves.detach(), anchors).view(len(anchors), -1, 4)
    proposals, _ = rpn.filter_proposals(placed, scores, images.image_sizes, levels)
    labels, matched = rpn.assign_targets_to_anchors(anchors, boxes)
    wanted = rpn.box_coder.encode(matched, anchors)
    positive, negative = rpn.fg_bg_sampler(labels)
    scores_BA, moves_BA4 = scores.view(len(anchors), -1), moves.view(len(anchors), -1, 4)
    losses, counts = list[Tensor](), list[Tensor]()
    for i, (found, others) in enumerate(zip(positive, negative, strict=True)):
        near, sampled = found.bool(), found.bool() | others.bool()
        counts.append(sampled.sum().clamp(min=1))
        objectness = functional.binary_cross_entropy_with_logits(
            scores_BA[i, sampled], labels[i][sampled], reduction="sum"
        )
        moved = functional.smooth_l1_loss(moves_BA4[i, near], wanted[i][near], beta=_BETA, reduction="sum")
        losses.append(torch.stack([objectness, moved]) / counts[-1])
    return proposals, torch.stack(losses), torch.stack(counts)


def _of_regions(logits_RK: Tensor, deltas: Tensor, labels: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """The losses of class and boxes of each image, [B, 2]."""
    sizes = [len(one) for one in labels]
    parts, losses = deltas.view(len(deltas), -1, 4).split(sizes), list[Tensor]()
    for logits_SK, deltas_SK4, labels_S, wanted_S4 in zip(logits_RK.split(sizes), parts, labels, wanted, strict=True):
        near = (labels_S > 0).nonzero()[:, 0]
        classed = functional.cross_entropy(logits_SK, labels_S, reduction="sum")
        moved = functional.smooth_l1_loss(
            deltas_SK4[near, labels_S[near]], wanted_S4[near], beta=_BETA, reduction="sum"
        )
        losses.append(torch.stack([classed, moved]) / max(len(labels_S), 1))
    return torch.stack(losses)
