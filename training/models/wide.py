"""Wide ResNets: few layers, many channels.

What: `wrn-28-10` has 28 layers and 10 times the channels of a thin network: a 3x3 stem of 16 channels, three stages of
(depth - 4) / 6 blocks with 16, 32 and 64 times the width, BatchNorm, ReLU, the mean over the image, a linear layer.
A block is x + f(x), f twice BatchNorm-ReLU-3x3 convolution; with dropout between the two: `wrn-28-10-drop0.3`.
When: for the set-ups of Cutout (wrn-28-10-drop0.3 on CIFAR, wrn-16-8-drop0.4 on SVHN) and of Selective-Backprop.
Cost: parameters for 10 classes: wrn-16-4 2.7 M, wrn-40-2 2.2 M, wrn-16-8 11.0 M, wrn-40-4 8.9 M, wrn-28-10 36.5 M.
Source: S. Zagoruyko, N. Komodakis, "Wide Residual Networks", BMVC 2016, table 1 and section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = 6  # that one block more in each of the three stages adds; the stem and the shortcuts are the other 4


class WideResNet(nn.Module):
    """A wide ResNet for small images.

    Args:
        depth: 6n+4.
        widen: k, the channels of the stages over 16, 32 and 64.
        num_classes: logits it gives.
        in_channels: of the images it takes.
        drop: share of a block's inner activations that dropout leaves out.
    """

    def __init__(self, depth: int, widen: int, num_classes: int, in_channels: int = 3, drop: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        width, stages = 16, list[nn.Module]()
        for out, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
            for number in range((depth - 4) // LAYERS):
                stages.append(_Block(width, out, stride if number == 0 else 1, drop))
                width = out
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, num_classes]."""
        x = functional.relu(self.norm(self.stages(self.stem(x))), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))


class _Block(nn.Module):
    """x + f(x). Where the width or the size changes, the shortcut is a 1x1 convolution of what enters f."""

    def __init__(self, width: int, out: int, stride: int, drop: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(out)
        self.conv1 = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.drop = nn.Dropout(drop)
        changes = stride > 1 or width != out
        self.shortcut = nn.Conv2d(width, out, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(y)
        y = functional.relu(self.norm2(self.conv1(y)), inplace=True)
        return torch.add(kept, self.conv2(self.drop(y)))
