"""Detectors built from torchvision's parts, untrained.

What: `make_detector` gives torchvision's `SSD` or `FasterRCNN` for a name (`tamis.training.models.detectors.names`), so
its losses, its output (boxes, labels from 1, scores) and the names of its weights are torchvision's.
How: they take pixels that are normalised already, so their own normalisation does nothing, and only scales.
BatchNorm is trained, not frozen as torchvision's is beside pretrained trunks. A network for one channel has another
first convolution, as all models do.
Priors of SSD: those of W. Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2, 8,732 of 300
pixels; their number does not depend on the width.
Source: NVIDIA, "SSD300 v1.1 for PyTorch", 2019 (seed of the method for detection): trunk to the third stage of
ResNet-50 without its stride, five further maps of 512, 512, 256, 256, 256 channels. Departure: for sides other than 300
the priors are spaced by the maps, and a map of fewer than 3 pixels is padded where NVIDIA's are not.
On an EfficientNet-Lite, whose features reach stride 32, SSD has three further maps and BatchNorm before the first three
(the paper scales its first map too, section 3.1); priors are spaced by the maps.
SSDLite: A. Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.3, as torchvision builds it.
"""

from collections import OrderedDict
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead

from tamis.training.models.detectors.names import DetectorName
from tamis.training.models.detectors.trunks import Trunk, sizes_of, widened
from tamis.training.models.efficientnet_lite import LiteTrunk

_PLAIN: dict[str, Any] = {"image_mean": [0.0], "image_std": [1.0]}  # pixels are normalised before
_MIDDLE, _FURTHER = (256, 256, 128, 128, 128), (512, 512, 256, 256, 256)  # channels of SSD's further maps
_RATIOS = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
_SCALES = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
_STEPS = [8, 16, 32, 64, 100, 300]
_PYRAMID = 256  # channels of a feature pyramid
_LONG = 1333 / 800  # the longer side over the shorter one, at most


def make_detector(name: DetectorName, outputs: int) -> nn.Module:
    """An untrained detector.

    Args:
        name: what is built.
        outputs: classes, and one for the background.
    """
    return {"fasterrcnn": _rcnn, "ssd": _ssd, "ssdlite": _ssdlite}[name.family](name, outputs)


def _rcnn(name: DetectorName, outputs: int) -> nn.Module:
    trunk = Trunk(name.depth, name.width)
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    pyramid = BackboneWithFPN(trunk, layers, trunk.channels, widened(_PYRAMID, name.width))
    return FasterRCNN(pyramid, outputs, min_size=name.side, max_size=round(name.side * _LONG), **_PLAIN)


def _ssd(name: DetectorName, outputs: int) -> nn.Module:
    if name.lite:
        return SSD(
            _LiteMaps(name.lite),
            DefaultBoxGenerator(_RATIOS, scales=_SCALES),
            (name.side, name.side),
            outputs,
            **_PLAIN,
        )
    trunk = _Maps(Trunk(name.depth, name.width, stage4=False), name.side, name.width)
    priors = DefaultBoxGenerator(_RATIOS, scales=_SCALES, steps=_STEPS if name.side == _STEPS[-1] else None)
    return SSD(trunk, priors, (name.side, name.side), outputs, **_PLAIN)


class _Maps(nn.Module):
    """A trunk and the smaller maps behind it.

    Attributes:
        out_channels: of each map.
    """

    def __init__(self, trunk: Trunk, side: int, width: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.out_channels = [trunk.channels[-1], *(widened(one, width) for one in _FURTHER)]
        pixels, further = -(-side // 8), list[nn.Module]()
        for number, middle in enumerate(_MIDDLE):
            halves = number < 3
            padding = 1 if halves or pixels < 3 else 0
            inputs, outputs = self.out_channels[number : number + 2]
            further.append(_block(inputs, widened(middle, width), outputs, 2 if halves else 1, padding))
            pixels = -(-pixels // 2) if halves else pixels + 2 * padding - 2
        self.extra = nn.ModuleList(further)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] -> six maps."""
        x = self.trunk(x)
        found = [x]
        for block in self.extra:
            x = block(x)
            found.append(x)
        return OrderedDict((str(i), one) for i, one in enumerate(found))


class _LiteMaps(nn.Module):
    """The maps of an EfficientNet-Lite and the smaller ones behind it.

    Attributes:
        out_channels: of each map.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.trunk = LiteTrunk(name)
        # Blocks end without an activation or a bound; with weights that were trained, logits would begin in the tens.
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in self.trunk.channels)
        self.out_channels = [*self.trunk.channels, *_FURTHER[2:]]
        widths = zip(self.out_channels[2:-1], _MIDDLE[2:], _FURTHER[2:], strict=True)
        self.extra = nn.ModuleList(_block(inputs, middle, further, 2, 1) for inputs, middle, further in widths)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] -> six maps."""
        found = [norm(one) for norm, one in zip(self.norms, self.trunk(x), strict=True)]
        for block in self.extra:
            found.append(block(found[-1]))
        return OrderedDict((str(i), one) for i, one in enumerate(found))


def _block(inputs: int, middle: int, outputs: int, stride: int, padding: int) -> nn.Sequential:
    convs = (
        nn.Conv2d(inputs, middle, 1, bias=False),
        nn.Conv2d(middle, outputs, 3, stride=stride, padding=padding, bias=False),
    )
    for conv in convs:
        nn.init.xavier_uniform_(conv.weight)
    return nn.Sequential(
        convs[0],
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        convs[1],
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _ssdlite(name: DetectorName, outputs: int) -> nn.Module:
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    features = mobilenet_v3_large(norm_layer=norm, reduced_tail=not name.full, width_mult=name.width).features
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.03)
    # The last block that halves the image: torchvision marks the strided ones.
    strided = [i for i, block in enumerate(features) if getattr(block, "_is_cn", False)]
    trunk = SSDLiteFeatureExtractorMobileNet(features, strided[-1], norm, width_mult=name.width)
    channels = [shape[1] for shape in sizes_of(trunk, name.side)]
    priors = DefaultBoxGenerator([[2, 3]] * len(channels), min_ratio=0.2, max_ratio=0.95)
    head = SSDLiteHead(channels, priors.num_anchors_per_location(), outputs, norm)
    return SSD(
        trunk, priors, (name.side, name.side), outputs, head=head, score_thresh=0.001, nms_thresh=0.55,
        detections_per_img=300, topk_candidates=300, **_PLAIN,
    )  # fmt: skip
