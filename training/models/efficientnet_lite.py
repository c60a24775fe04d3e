"""EfficientNet-Lite: EfficientNet for small devices, without squeeze-and-excitation and with ReLU6.

What: `efficientnet-lite0`, `efficientnet-lite1`, `efficientnet-lite2`: a stem of 32 channels, 16, 21 and 21 inverted
residual blocks, 1,280 features, a linear layer. Width and depth grow as in EfficientNet, but the stem, the features and
the depth of the first and last stage stay.
Weights: parameters are named as in the package efficientnet-lite-pytorch (`_conv_stem`, `_blocks.0._depthwise_conv`),
whose state dicts hold the weights that TensorFlow's authors published: `tamis train --weights FILE` begins with them.
They were trained on pixels (x - 127) / 128, which are `MEAN` and `STD` of pixels scaled to 0..1, at 224, 240 and 260
pixels.
How: where a convolution halves the image, TensorFlow pads by what is missing, more of it below and on the right;
PyTorch pads on all sides alike. The weights expect the former.
Cost: 4.7, 5.4 and 6.1 M parameters with 1,000 classes.
Source: M. Tan, Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the Lite
variants of 2020 in tensorflow/tpu, models/official/efficientnet/lite.
"""

import math

from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

NAMES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
_SCALES = {  # width, depth, dropout
    "efficientnet-lite0": (1.0, 1.0, 0.2), "efficientnet-lite1": (1.0, 1.1, 0.2), "efficientnet-lite2": (1.1, 1.2, 0.3),
}  # fmt: skip
_STAGES = (  # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
_STEM, _FEATURES = 32, 1280
_TAPS = (2, 4, 6)  # the last stages of strides 8, 16 and 32
_DROPPED = 0.2  # share of images that skip the last block in training; none skip the first


class LiteTrunk(nn.Module):
    """An EfficientNet-Lite up to its last block, untrained.

    Args:
        name: of `NAMES`.
        in_channels: of the images it takes.

    Attributes:
        channels: of the features at strides 8, 16 and 32.
    """

    def __init__(self, name: str, in_channels: int = 3) -> None:
        super().__init__()
        width, depth, _ = _SCALES[name]
        self._conv_stem = _SameConv2d(in_channels, _STEM, 3, 2)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.Sequential(*_blocks(width, depth))
        self._relu = nn.ReLU6(inplace=True)
        self.channels = [_rounded(_STAGES[stage][-1] * width) for stage in _TAPS]
        self._ends = [sum(_depth(one, depth) for one in range(stage + 1)) for stage in _TAPS]
        _draw(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images [B, C, H, W] -> features at strides 8, 16 and 32, from the last block of each."""
        x, found = self._relu(self._bn0(self._conv_stem(x))), list[Tensor]()
        for number, block in enumerate(self._blocks, 1):
            x = block(x)
            if number in self._ends:
                found.append(x)
        return found


class EfficientNetLite(nn.Module):
    """An EfficientNet-Lite, untrained.

    Args:
        name: of `NAMES`.
        num_classes: logits it gives.
        in_channels: of the images it takes.
    """

    def __init__(self, name: str, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        width, depth, dropout = _SCALES[name]
        self._conv_stem = _SameConv2d(in_channels, _STEM, 3, 2)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.Sequential(*_blocks(width, depth))
        self._conv_head = _SameConv2d(_rounded(_STAGES[-1][-1] * width), _FEATURES, 1)
        self._bn1 = _norm(_FEATURES)
        self._relu = nn.ReLU6(inplace=True)
        self._avg_pooling = nn.AdaptiveAvgPool2d(1)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(_FEATURES, num_classes)
        _draw(self)

    def embed(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> what the last layer sees but for dropout, [B, 1280]."""
        x = self._blocks(self._relu(self._bn0(self._conv_stem(x))))
        x = self._relu(self._bn1(self._conv_head(x)))
        return self._avg_pooling(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, num_classes]."""
        return self._fc(self._dropout(self.embed(x)))


class _Block(nn.Module):
    """Expand, filter each channel, project; with a shortcut where shapes allow."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int, dropped: float) -> None:
        super().__init__()
        inner = width * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = _SameConv2d(width, inner, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _SameConv2d(inner, out, 1)
        self._bn2 = _norm(out)
        self._relu = nn.ReLU6(inplace=True)
        self._skip = StochasticDepth(dropped, "row") if stride == 1 and width == out else None

    def forward(self, x: Tensor) -> Tensor:
        y = self._relu(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._relu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return y if self._skip is None else self._skip(y) + x


class _SameConv2d(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's "same" does: n pixels become ceil(n / stride)."""

    def __init__(self, width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width, out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(input)
        (above, below), (left, right) = (self._missing(at) for at in input.shape[2:])
        return super().forward(functional.pad(input, (left, right, above, below)))

    def _missing(self, pixels: int) -> tuple[int, int]:
        """How many pixels are added before and after so many."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = max((math.ceil(pixels / stride) - 1) * stride + kernel - pixels, 0)
        return missing // 2, missing - missing // 2


def _draw(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")


def _blocks(width: float, depth: float) -> list[nn.Module]:
    total = sum(_depth(stage, depth) for stage in range(len(_STAGES)))
    made, before = list[nn.Module](), _STEM
    for stage, (_, kernel, stride, expansion, channels) in enumerate(_STAGES):
        out = _rounded(channels * width)
        for number in range(_depth(stage, depth)):
            dropped = _DROPPED * len(made) / total
            made.append(_Block(before, out, kernel, stride if number == 0 else 1, expansion, dropped))
            before = out
    return made


def _depth(stage: int, depth: float) -> int:
    blocks = _STAGES[stage][0]
    return blocks if stage in (0, len(_STAGES) - 1) else math.ceil(depth * blocks)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not over a tenth less."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)
