"""Equation 1 of distillation, for classes of images and for those of priors.

    L = alpha CE(S, truth) + beta KL(softmax(T / Temp) || softmax(S / Temp)),   alpha + beta = 1

with the logits S of the student and T of the teacher. For a detector the cross-entropy keeps SSD's hard negatives and
its normaliser N; the divergence is a mean over all priors, or over those that the cross-entropy counts ("mined"). The
loss of boxes is added as it is, or, beyond the paper, in the same proportion with the smooth L1 between the regression
outputs of both over matched priors, over N.
Scale: a gradient of the divergence shrinks with 1 / Temp^2; `squared` multiplies it by Temp^2, as Hinton et al. do. The
paper says nothing of it, so it is off.
An image without boxes has the divergence alone.
Source: J. G. Ko, W. Yoo, "Knowledge Distillation based Compact Model Learning Method for Object Detection", ETRI,
equation 1 (seed of distillation); G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2.

Legend: B samples, P priors, K classes (of a detector, the background first).
"""

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional

from tamis.training.models.detectors.ssd import CORNERS, LOGITS, ssd_terms


class Equation(NamedTuple):
    """What the equation leaves open.

    Attributes:
        alpha: weight of the truth; that of the teacher is 1 - alpha.
        temperature: that logits are divided by.
        squared: multiply the divergence by the temperature's square.
        over: the priors whose divergence counts.
        boxes: distil regression as well.
        box_weight: of the loss of boxes (SSD's alpha).
    """

    alpha: float = 0.5
    temperature: float = 2.0
    squared: bool = False
    over: Literal["all", "mined"] = "all"
    boxes: bool = False
    box_weight: float = 1.0


class Distilled(NamedTuple):
    """A loss, and what it is made of, before alpha and beta."""

    losses_B: Tensor
    truth_B: Tensor  # cross-entropy
    teacher_B: Tensor  # divergence


def divergence(teacher_K: Tensor, student_K: Tensor, temperature: float, squared: bool = False) -> Tensor:
    """KL of the softened student from the softened teacher, over the last axis; logits of any shape [..., K]."""
    told_K = functional.log_softmax(teacher_K / temperature, dim=-1)
    said_K = functional.log_softmax(student_K / temperature, dim=-1)
    apart = functional.kl_div(said_K, told_K, reduction="none", log_target=True).sum(-1)
    return apart * temperature**2 if squared else apart


def distil_classes(student_BK: Tensor, teacher_BK: Tensor, targets_B: Tensor, how: Equation) -> Distilled:
    """Of class numbers: logits of both, and the true classes."""
    truth_B = functional.cross_entropy(student_BK, targets_B, reduction="none")
    teacher_B = divergence(teacher_BK, student_BK, how.temperature, how.squared)
    return Distilled(how.alpha * truth_B + (1 - how.alpha) * teacher_B, truth_B, teacher_B)


def distil_priors(student_BPK: Tensor, teacher_BPK: Tensor, targets_BM5: Tensor, how: Equation) -> Distilled:
    """Of SSD.

    Args:
        student_BPK, teacher_BPK: outputs of both (`tamis.training.models.detectors.ssd.ssd_outputs`), same priors.
        targets_BM5: class (-1 for padding) and corners of each box.
        how: the equation.
    """
    terms = ssd_terms(student_BPK, targets_BM5)
    truth_B, boxes_B = terms.means()
    apart_BP = divergence(teacher_BPK[:, :, LOGITS:], student_BPK[:, :, LOGITS:], how.temperature, how.squared)
    if how.over == "mined":
        teacher_B = (apart_BP * terms.mined_BP).sum(1) / terms.mined_BP.sum(1).clamp(min=1)
    else:
        teacher_B = apart_BP.mean(1)
    if how.boxes:
        told_BP = functional.smooth_l1_loss(
            student_BPK[:, :, CORNERS:LOGITS], teacher_BPK[:, :, CORNERS:LOGITS], reduction="none"
        ).sum(2)
        told_B = (told_BP * terms.matched_BP).sum(1) / terms.matched_BP.sum(1).clamp(min=1)
        boxes_B = how.alpha * boxes_B + (1 - how.alpha) * told_B
    losses_B = how.alpha * truth_B + (1 - how.alpha) * teacher_B + how.box_weight * boxes_B
    return Distilled(losses_B, truth_B, teacher_B)
