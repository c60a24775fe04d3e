"""ResNet trunks of detectors: torchvision's blocks and names, at any width.

What: `Trunk` is a ResNet without its last layers. Its parameters are called as torchvision's are, so the state dict of
a ResNet that was trained to classify fits it, but for `fc`.
How: a width multiplies the channels of every convolution, rounded to 8. `stage4` leaves the last stage out, and then
the third keeps its size, as in NVIDIA's SSD300: 38 x 38 features of 300 pixels.
Source: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
"""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_BOTTLENECK_FROM = 50
_ROUND = 8


def widened(channels: int, width: float) -> int:
    """Channels times width, rounded to a multiple of 8; as they are for a width of 1."""
    return channels if width == 1 else max(_ROUND, round(channels * width / _ROUND) * _ROUND)


class Trunk(nn.Module):
    """A ResNet up to its last stage.

    Args:
        depth: 18, 34, 50 or 101.
        width: factor of the channels.
        stage4: has the last stage; without it the third one keeps the size of the second.

    Attributes:
        channels: that each stage gives.
    """

    def __init__(self, depth: int, width: float = 1.0, stage4: bool = True) -> None:
        super().__init__()
        block = Bottleneck if depth >= _BOTTLENECK_FROM else BasicBlock
        inputs = widened(64, width)
        self.conv1 = nn.Conv2d(3, inputs, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels: list[int] = []
        for stage, count in enumerate(_BLOCKS[depth][: 4 if stage4 else 3]):
            planes = widened(64 * 2**stage, width)
            stride = 1 if stage == 0 or (stage == 2 and not stage4) else 2
            self.add_module(f"layer{stage + 1}", _stage(block, inputs, planes, count, stride))
            inputs = planes * block.expansion
            self.channels.append(inputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> the last stage's features."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(len(self.channels)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, planes: int, count: int, stride: int) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride > 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    blocks = [block(inputs, planes, stride, shortcut), *(block(outputs, planes) for _ in range(count - 1))]
    return nn.Sequential(*blocks)


def sizes_of(trunk: nn.Module, side: int) -> list[torch.Size]:
    """The shapes of the feature maps that a trunk gives of square images, [1, C, H, W] each."""
    training = trunk.training
    trunk.eval()
    with torch.no_grad():
        found = trunk(torch.zeros(1, 3, side, side))
    trunk.train(training)
    return [one.shape for one in found.values()]
