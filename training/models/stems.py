"""Stems for small images: torchvision's networks for 224 pixels, made to keep those of 32.

What: `shrink_stem` changes an untrained network so that its first layers keep the size of the image, as the usual
implementations for CIFAR do; the stages after them are left as they are.
    ResNet (ResNeXt, Wide ResNet-50-2, ...), DenseNet: the first convolution is 3x3 with stride 1 in place of 7x7 with
        stride 2, and the max-pool after it is left out: 32 pixels enter the first stage, 4 leave the last.
    MobileNetV2: the first convolution has stride 1, and so has the first stage that halves the image: it has no
        max-pool that could be left out. 32 pixels enter the first stage, 4 leave the last.
When: for images of about 32 pixels; without it, the last stage of such a network sees a single pixel of them.
Cost: 16 times the multiplications of the same network without it: an image of 32 pixels costs what one of 128 did.
Source: the stem of K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, before wider
stages; trained on CIFAR by T. DeVries, G. W. Taylor, 2017 (Cutout), and A. H. Jiang et al., 2019 (Selective-Backprop).
"""

from typing import Literal

from torch import nn

SUFFIX = "-cifar"
_FAMILIES = ("resnet", "resnext", "wide_resnet", "densenet", "mobilenet_v2")


def has_stem(name: str) -> bool:
    """Whether `shrink_stem` knows torchvision's network of this name."""
    return name.startswith(_FAMILIES)


def shrink_stem(model: nn.Module) -> None:
    """Make one of torchvision's networks keep the size of small images in its first layers.

    Args:
        model: untrained, of a name that `has_stem`; its new convolution is initialised as the library does.
    """
    from torchvision.models import DenseNet, MobileNetV2, ResNet

    if isinstance(model, ResNet):
        model.conv1 = _three(model.conv1, "fan_out")
        model.add_module("maxpool", nn.Identity())
    elif isinstance(model, DenseNet):
        model.features.conv0 = _three(model.features.get_submodule("conv0"), "fan_in")
        model.features.pool0 = nn.Identity()
    else:
        assert isinstance(model, MobileNetV2)
        halving = [one for one in model.modules() if isinstance(one, nn.Conv2d) and one.stride == (2, 2)]
        for conv in halving[:2]:
            conv.stride = (1, 1)


def _three(old: nn.Module, fan: Literal["fan_in", "fan_out"]) -> nn.Conv2d:
    assert isinstance(old, nn.Conv2d)
    made = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(made.weight, mode=fan, nonlinearity="relu")
    return made
