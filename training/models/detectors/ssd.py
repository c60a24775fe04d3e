"""SSD's losses of each image, out of one batched forward pass.

What: `ssd_outputs` gives everything that a loss needs as one tensor, [B, P, 8 + K]: each prior's corners in pixels of
the image that was given, its 4 regression outputs, and K logits, that of the background first. `ssd_terms` matches the
priors with the boxes, `ssd_losses` is

    L_i = (L_conf + alpha L_loc) / N      of image i, with N its matched priors

L_conf is the cross-entropy over matched priors and the 3 N hardest of the others, L_loc the smooth L1 of matched ones.
How: a box takes the prior that overlaps it most and all that overlap it by half. The mean over a batch weighted by N is
the batch's loss in torchvision.
An image without boxes has no matched priors and mines none: its loss is 0, as in the paper. Strategies that
choose by losses leave it to the last.
Cost: B M P overlaps, image by image.
Departure: where an image has fewer than 3 N unmatched priors, torchvision counts matched ones twice.
Source: W. Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, equations 1 to 3 and "hard negative mining".

Legend: B images, P priors, M boxes of an image at most, K classes and the background.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

CORNERS, LOGITS = 4, 8  # where the regression outputs begin in a prior's numbers, and the logits
_OVERLAP = 0.5
_NEGATIVES = 3  # for each matched prior
_SCALES = (10.0, 10.0, 5.0, 5.0)  # of regression targets


class Terms(NamedTuple):
    """What a loss is made of."""

    conf_BP: Tensor  # cross-entropy
    loc_BP: Tensor  # smooth L1, 0 where a prior is not matched
    matched_BP: Tensor  # bool
    mined_BP: Tensor  # bool: matched, or one of the hardest of the others

    def means(self) -> tuple[Tensor, Tensor]:
        """L_conf / N and L_loc / N of each image, [B] each."""
        matched_B = self.matched_BP.sum(1).clamp(min=1)
        return (self.conf_BP * self.mined_BP).sum(1) / matched_B, self.loc_BP.sum(1) / matched_B


def ssd_outputs(network: SSD, pixels_BCHW: Tensor) -> Tensor:
    """Priors and outputs, [B, P, 8 + K]; differentiable but for the priors."""
    images, _ = network.transform([*pixels_BCHW])
    features = network.backbone(images.tensors)
    maps = [features] if isinstance(features, Tensor) else [*features.values()]
    outputs = network.head(maps)
    # In the maps' own precision, which autocast lowers, a prior would be off by pixels.
    priors_P4: Tensor = network.anchor_generator(images, [one.float() for one in maps])[0]
    height, width = images.tensors.shape[2:]
    across, down = pixels_BCHW.shape[3] / width, pixels_BCHW.shape[2] / height
    priors_P4 = priors_P4 * priors_P4.new_tensor([across, down, across, down])
    found = [priors_P4.expand(len(pixels_BCHW), -1, -1), outputs["bbox_regression"], outputs["cls_logits"]]
    return torch.cat([one.float() for one in found], dim=2)


def ssd_terms(outputs_BPK: Tensor, targets_BM5: Tensor) -> Terms:
    """The terms of each prior.

    Args:
        outputs_BPK: from `ssd_outputs`, float32.
        targets_BM5: class from 0 (-1 for padding) and corners of each box, in the pixels of the priors.
    """
    labels_BP, boxes_BP4 = _assigned(outputs_BPK[:, :, :CORNERS].detach(), targets_BM5)
    matched_BP = labels_BP > 0
    conf_BP = functional.cross_entropy(outputs_BPK[:, :, LOGITS:].transpose(1, 2), labels_BP, reduction="none")
    wanted_BP4 = encoded(boxes_BP4, outputs_BPK[:, :, :CORNERS].detach())
    # Where nothing is matched there may be no logarithm: such priors want what they are.
    found_BP4 = outputs_BPK[:, :, CORNERS:LOGITS]
    wanted_BP4 = torch.where(matched_BP[:, :, None], wanted_BP4, found_BP4.detach())
    loc_BP = functional.smooth_l1_loss(found_BP4, wanted_BP4, reduction="none").sum(2)
    return Terms(conf_BP, loc_BP, matched_BP, matched_BP | _hardest(conf_BP.detach(), matched_BP))


def ssd_losses(outputs_BPK: Tensor, targets_BM5: Tensor, alpha: float = 1.0) -> Tensor:
    """L of each image, [B]; arguments as those of `ssd_terms`."""
    conf_B, loc_B = ssd_terms(outputs_BPK, targets_BM5).means()
    return conf_B + alpha * loc_B


def ssd_detections(network: SSD, outputs_BPK: Tensor, height: int, width: int) -> list[dict[str, Tensor]]:
    """Boxes, labels (from 1) and scores of each image, which has height x width pixels."""
    heads = {"bbox_regression": outputs_BPK[:, :, CORNERS:LOGITS], "cls_logits": outputs_BPK[:, :, LOGITS:]}
    priors = [*outputs_BPK[:, :, :CORNERS]]
    return network.postprocess_detections(heads, priors, [(height, width)] * len(priors))


def encoded(boxes_BP4: Tensor, priors_BP4: Tensor) -> Tensor:
    """What regression is to give for a box by a prior: offsets of centres and logarithms of sides (equation 2)."""
    side_BP2 = priors_BP4[..., 2:] - priors_BP4[..., :2]
    centre_BP2 = (priors_BP4[..., 2:] + priors_BP4[..., :2]) / 2
    moved_BP2 = ((boxes_BP4[..., 2:] + boxes_BP4[..., :2]) / 2 - centre_BP2) / side_BP2
    grown_BP2 = ((boxes_BP4[..., 2:] - boxes_BP4[..., :2]) / side_BP2).log()
    return torch.cat([moved_BP2, grown_BP2], dim=-1) * boxes_BP4.new_tensor(_SCALES)


def _assigned(priors_BP4: Tensor, targets_BM5: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each prior, int64 [B, P], 0 the background, and the box that it is to find, [B, P, 4]."""
    labels_BP = torch.zeros(priors_BP4.shape[:2], dtype=torch.int64, device=priors_BP4.device)
    boxes_BP4 = priors_BP4.clone()
    for i, (priors_P4, targets_M5) in enumerate(zip(priors_BP4, targets_BM5, strict=True)):
        targets_M5 = targets_M5[targets_M5[:, 0] >= 0]
        if len(targets_M5):
            which_P = matches(priors_P4, targets_M5[:, 1:])
            rows_Q = (which_P >= 0).nonzero()[:, 0]
            chosen_Q5 = targets_M5[which_P[rows_Q]]
            labels_BP[i, rows_Q], boxes_BP4[i, rows_Q] = chosen_Q5[:, 0].long() + 1, chosen_Q5[:, 1:]
    return labels_BP, boxes_BP4


def matches(priors_P4: Tensor, boxes_M4: Tensor) -> Tensor:
    """The box that each prior is matched with, int64 [P]; -1 for none. A prior that two boxes take is the later's."""
    overlaps_MP = box_iou(boxes_M4, priors_P4)
    most_P, which_P = overlaps_MP.max(dim=0)
    which_P = torch.where(most_P >= _OVERLAP, which_P, -1)
    numbers_M = torch.arange(len(boxes_M4), device=boxes_M4.device)
    taken_P = torch.full_like(which_P, -1).scatter_reduce(0, overlaps_MP.argmax(dim=1), numbers_M, "amax")
    return torch.where(taken_P >= 0, taken_P, which_P)


def _hardest(conf_BP: Tensor, matched_BP: Tensor) -> Tensor:
    """The unmatched priors with the largest losses, three for each matched one of the image, bool [B, P]."""
    place_BP = conf_BP.masked_fill(matched_BP, -torch.inf).argsort(1, descending=True).argsort(1)
    return (place_BP < _NEGATIVES * matched_BP.sum(1, keepdim=True)) & ~matched_BP
