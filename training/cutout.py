"""Cutout: a square of each image is hidden from the model.

What: `cutout` fills one square an image, its centre drawn uniformly over the image's pixels, its border cut off at the
image's, with one value a channel. Training fills it with the mean of the pixels, so that what the network sees there,
after normalisation, is 0 as in the reference, which cuts after it has normalised. Images are bytes: the mean is rounded
to one, which is at most half a byte from it (.008 of a standard deviation of CIFAR-10's).
How: after crop and flip, from the same generator of the CPU: what is drawn before is the same with and without cutout.
Cost: one pass over the batch on its device; two draws an image on the CPU.
Source: T. DeVries, G. W. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017: side 16
for CIFAR-10, 8 for CIFAR-100, 20 for SVHN. Departure: an odd side is that side, not one less.

Legend: B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor

from tamis.training.errors import AugmentError


def cutout(images_BCHW: Tensor, side: int, fill_C: Tensor, generator: torch.Generator) -> Tensor:
    """Images with a square filled in each; those given stay as they are.

    Args:
        images_BCHW: uint8, on any device.
        side: of the square, in pixels.
        fill_C: what it is filled with, 0 to 255, on the same device; rounded to a byte.
        generator: of the CPU, so that every device gets the same squares.

    Raises:
        AugmentError: the square is larger than the images.
    """
    count, _, height, width = images_BCHW.shape
    if side > min(height, width):
        raise AugmentError(
            f"cutout is {side} pixels and the images are {height} x {width}: expected a square that fits into them, "
            "such as half their side."
        )
    row_B1 = torch.randint(0, height, (count, 1), generator=generator)
    column_B1 = torch.randint(0, width, (count, 1), generator=generator)
    rows_BH = _covered(row_B1, side, height).to(images_BCHW.device)
    columns_BW = _covered(column_B1, side, width).to(images_BCHW.device)
    hidden_B1HW = (rows_BH[:, :, None] & columns_BW[:, None, :])[:, None]
    fill_1C11 = fill_C.round().to(images_BCHW.dtype).view(1, -1, 1, 1)
    return torch.where(hidden_B1HW, fill_1C11, images_BCHW)


def _covered(centre_B1: Tensor, side: int, length: int) -> Tensor:
    """Which of the `length` lines the square covers, bool [B, length]."""
    first_B1, lines_L = centre_B1 - side // 2, torch.arange(length)
    return (lines_L >= first_B1) & (lines_L < first_B1 + side)
