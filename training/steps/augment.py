"""Augmentation: random crop and flip, and cutout behind them; boxes follow where they are what is learnt.

Legend: B batch, C channels, H height, W width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tamis.training.models.registry import ImageClassifier
from tamis.training.steps.cutout import cutout
from tamis.training.steps.recipe import Recipe
from tamis.training.streaming.batches import Batch

PADDING = 4


def augmented(
    model: nn.Module, batch: Batch, recipe: Recipe, generator: torch.Generator, in_image: bool = False
) -> Batch:
    """A batch as it is trained on. What is cut out has the mean that the model takes off: 0 to its network.

    Args:
        model: the model.
        batch: its images on the device.
        recipe: how to train.
        generator: of the CPU.
        in_image: its targets are boxes, which follow.
    """
    if in_image:
        batch = with_boxes(batch, recipe.augment, generator)
    else:
        batch = batch._replace(images=augment(batch.images, recipe.augment, generator))
    if recipe.cutout is None:
        return batch
    mean_C = model.mean.flatten() if isinstance(model, ImageClassifier) else batch.images.new_zeros(1)
    return batch._replace(images=cutout(batch.images, recipe.cutout, mean_C, generator))


def resized(batch: Batch, side: int, in_image: bool = False) -> Batch:
    """A batch whose images have side x side pixels; boxes follow where targets are boxes."""
    height, width = batch.images.shape[2:]
    images_BCHW = functional.interpolate(batch.images, size=(side, side), mode="bilinear")
    if not in_image:
        return batch._replace(images=images_BCHW)
    scale_5 = batch.labels.new_tensor([1, side / width, side / height, side / width, side / height])
    # Padding is told by a class of -1 alone, which this leaves.
    return Batch(images_BCHW, batch.labels * scale_5, *batch[2:])


def with_boxes(batch: Batch, how: str, generator: torch.Generator) -> Batch:
    """A batch augmented with the boxes that are its targets; "none" gives it back.

    "crop-flip" does with the images what `augment` does. "zoom-flip" is SSD's: half of the images are put on a canvas
    up to four times as wide, then a part is cut out that overlaps a box as drawn, scaled back, and mirrored by half
    (torchvision's v2 `RandomZoomOut`, `RandomIoUCrop`, `Resize`, `RandomHorizontalFlip`). A box stays where its centre
    does, and is cut at the border.

    Args:
        batch: its labels are class (-1 for padding) and corners, [B, M, 5], in pixels.
        how: "none", "crop-flip" or "zoom-flip".
        generator: of the CPU, so that every device gets the same.
    """
    if how == "none":
        return batch
    if how == "crop-flip":
        state = generator.get_state()
        images_BCHW = augment(batch.images, how, generator)
        return Batch(images_BCHW, _followed(batch, torch.Generator().set_state(state)), *batch[2:])
    pairs = [_zoomed(*pair, generator) for pair in zip(batch.images, batch.labels, strict=True)]
    return Batch(torch.stack([one for one, _ in pairs]), torch.stack([of for _, of in pairs]), *batch[2:])


def _drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The shifts [B, 2] down and across, and whether an image is mirrored, bool [B, 1]."""
    shift_B2 = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    return shift_B2, torch.randint(0, 2, (count, 1), generator=generator, dtype=torch.bool)


def _followed(batch: Batch, generator: torch.Generator) -> Tensor:
    """Boxes of images that "crop-flip" has shifted and mirrored."""
    shift_B2, flip_B1 = _drawn(len(batch.labels), generator)
    height, width = batch.images.shape[2:]
    moved_B2 = (PADDING - shift_B2).flip(1).repeat(1, 2)
    corners_BM4 = batch.labels[:, :, 1:] + moved_B2[:, None].to(batch.labels)
    mirrored_BM4 = torch.stack(
        [width - corners_BM4[:, :, 2], corners_BM4[:, :, 1], width - corners_BM4[:, :, 0], corners_BM4[:, :, 3]], dim=2
    )
    corners_BM4 = torch.where(flip_B1[:, :, None].to(batch.labels.device), mirrored_BM4, corners_BM4)
    return _inside(batch.labels, corners_BM4, height, width)


def _inside(labels_M5: Tensor, corners_M4: Tensor, height: int, width: int) -> Tensor:
    """Boxes cut at the border; those whose centre is outside become padding. Any number of axes before the last."""
    limit_2 = corners_M4.new_tensor([width, height])
    centre_M2 = (corners_M4[..., :2] + corners_M4[..., 2:]) / 2
    stays_M = (labels_M5[..., 0] >= 0) & ((centre_M2 > 0) & (centre_M2 < limit_2)).all(-1)
    cut_M4 = corners_M4.clamp(min=0).minimum(limit_2.repeat(2))
    whole_M5 = torch.cat([labels_M5[..., :1], cut_M4], dim=-1)
    return torch.where(stays_M[..., None], whole_M5, -1)


def _zoomed(image_CHW: Tensor, labels_M5: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    from torchvision import tv_tensors  # loads much, and most runs need none of it
    from torchvision.transforms import v2

    height, width = image_CHW.shape[1:]
    steps = [v2.RandomZoomOut(), v2.RandomIoUCrop(), v2.Resize((height, width)), v2.RandomHorizontalFlip()]
    given_M5 = labels_M5[labels_M5[:, 0] >= 0].cpu()
    make: Any = tv_tensors.BoundingBoxes  # its stubs lack the arguments that it takes
    boxes = make(given_M5[:, 1:], format="XYXY", canvas_size=(height, width))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global state
        torch.default_generator.manual_seed(int(torch.randint(0, 2**62, (), generator=generator)))
        # It takes an image without a box for one that cannot be cut.
        chain = v2.Compose(steps if len(given_M5) else [*steps[:1], *steps[2:]])
        image, found = chain(tv_tensors.Image(image_CHW), {"boxes": boxes, "labels": given_M5[:, 0]})
    corners_M4 = found["boxes"].as_subclass(Tensor)
    kept_M5 = _inside(torch.cat([found["labels"][:, None], corners_M4], 1), corners_M4, height, width)
    padded_M5 = torch.full_like(labels_M5, -1)
    padded_M5[: len(kept_M5)] = kept_M5.to(labels_M5)
    return image.as_subclass(Tensor), padded_M5


def augment(images_BCHW: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Images shifted by up to 4 pixels over a black border and mirrored at random; "none" gives them back.

    Args:
        images_BCHW: uint8, on any device.
        how: "none" or "crop-flip".
        generator: of the CPU, so that every device gets the same shifts.
    """
    if how == "none":
        return images_BCHW
    count, _, height, width = images_BCHW.shape
    shift_B2, flip_B = _drawn(count, generator)
    rows_BH = shift_B2[:, :1] + torch.arange(height)
    columns_W = torch.arange(width)
    columns_BW = shift_B2[:, 1:] + torch.where(flip_B, columns_W.flip(0), columns_W)
    rows_BH, columns_BW = rows_BH.to(images_BCHW.device), columns_BW.to(images_BCHW.device)
    padded = functional.pad(images_BCHW, (PADDING,) * 4)
    which = torch.arange(count, device=images_BCHW.device)[:, None, None]
    # Indices around a slice put the slice last: [B, H, W, C], which is the layout that convolutions want.
    return padded[which, :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)
