"""Plain ResNets for small images: the first ones, with activations after the sum and shortcuts without parameters.

What: `resnet20`, `resnet32`, `resnet44`, `resnet56`, `resnet110`, `resnet1202`: a 3x3 stem of 16 channels, three stages
of (depth - 2) / 6 blocks with 16, 32 and 64 channels, the mean over the image, a linear layer. A block is
relu(x + f(x)), f convolution-BatchNorm-ReLU-convolution-BatchNorm. Where a stage halves the image, the shortcut takes
every second pixel and fills the new channels with zeros (option A), half of them on either side.
When: for set-ups that name these networks; `preact20` and so on are the later variant, with activations before.
Cost: parameters for 10 classes: resnet20 .27 M, resnet32 .46 M, resnet44 .66 M, resnet56 .85 M, resnet110 1.7 M.
Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from torch import Tensor, nn
from torch.nn import functional

DEPTHS = (20, 32, 44, 56, 110, 1202)  # the paper's; resnet50 and resnet152 would be 6n+2, too, and are torchvision's


class PlainResNet(nn.Module):
    """A ResNet for small images, as first published.

    Args:
        depth: 6n+2.
        num_classes: logits it gives.
        in_channels: of the images it takes.
    """

    def __init__(self, depth: int, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = _conv(in_channels, 16)
        self.norm = nn.BatchNorm2d(16)
        width, stages = 16, list[nn.Module]()
        for out in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                stages.append(_Block(width, out))
                width = out
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, num_classes]."""
        x = self.stages(functional.relu(self.norm(self.stem(x)), inplace=True))
        return self.fc(x.mean(dim=(2, 3)))


class _Block(nn.Module):
    """relu(x + f(x)); a block that widens halves the image."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(width, out, 1 if width == out else 2), _conv(out, out)
        self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.new = out - width

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return functional.relu(y + _shortcut(x, self.new), inplace=True)


def _shortcut(x: Tensor, new: int) -> Tensor:
    """Every second pixel, and zeros for so many new channels; x itself for none."""
    return x if new == 0 else functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new // 2, new - new // 2))


def _conv(a: int, b: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(a, b, 3, stride, padding=1, bias=False)
