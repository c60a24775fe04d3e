"""A model of one's own that trains in no time: a linear layer on the pixels."""

from torch import nn


def linear(num_classes: int, in_channels: int) -> nn.Module:
    """Logits of images of 8 x 8 pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, num_classes))
