"""A model of one's own that trains in no time: a linear layer on the pixels."""

import torch
from torch import Tensor, nn


def linear(num_classes: int, in_channels: int) -> nn.Module:
    """Logits of images of 8 x 8 pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, num_classes))


class _Whole(nn.Module):
    """Finds the whole frame, as brightly as it is."""

    classes = ("frame",)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [
            {
                "boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]),
                "labels": torch.ones(1).long(),
                "scores": image.mean()[None],
            }
            for image in images
        ]


def detector(weights: str | None) -> nn.Module:
    """A detector under torchvision's contract."""
    return _Whole()
