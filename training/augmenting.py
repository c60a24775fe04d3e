"""Random crops and mirror images, of a whole batch at once.

What: `augment` shifts each image over a black border and mirrors it, by a draw of its own.
Cost: one gather a batch; memory for it padded.
Source: C.-Y. Lee et al., "Deeply-Supervised Nets", AISTATS 2015.

Legend: B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor
from torch.nn import functional

PADDING = 4


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
    shift_B2 = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    flip_B = torch.randint(0, 2, (count, 1), generator=generator, dtype=torch.bool)
    rows_BH = shift_B2[:, :1] + torch.arange(height)
    columns_W = torch.arange(width)
    columns_BW = shift_B2[:, 1:] + torch.where(flip_B, columns_W.flip(0), columns_W)
    rows_BH, columns_BW = rows_BH.to(images_BCHW.device), columns_BW.to(images_BCHW.device)
    padded = functional.pad(images_BCHW, (PADDING,) * 4)
    which = torch.arange(count, device=images_BCHW.device)[:, None, None]
    # Indices around a slice put the slice last: [B, H, W, C], which is the layout that convolutions want.
    return padded[which, :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)
