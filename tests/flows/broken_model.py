"""A real network whose logits are not finite for bright images, while it is evaluated."""

import torch
from torch import Tensor, nn


class Broken(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(in_channels * 64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(images.flatten(1))
        if self.training:
            return logits
        bright = images.mean(dim=(1, 2, 3))
        logits = torch.where((bright > bright.new_tensor(0.15))[:, None], torch.nan, logits)
        return torch.where((bright < bright.new_tensor(-0.2))[:, None], torch.inf, logits)


def broken(num_classes: int, in_channels: int) -> Broken:
    return Broken(num_classes, in_channels)
