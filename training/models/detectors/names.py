"""Names of detectors, taken apart. Loads no torch.

    fasterrcnn-resnet18, fasterrcnn-resnet101    Faster R-CNN with a feature pyramid on a ResNet-18, 34, 50 or 101.
    ssd300-resnet50                              SSD on a ResNet whose third stage keeps its size, as NVIDIA's SSD300.
    ssd300-efficientnet-lite0                    SSD on an EfficientNet-Lite 0, 1 or 2: maps at strides 8, 16 and 32.
    ssdlite-mobilenet                            SSDLite on MobileNetV3-Large, as torchvision's for 320 pixels.
    ssdlite-mobilenet-full                       The same with all channels in the trunk's last blocks, which
                                                 torchvision halves: for weights of a whole MobileNetV3-Large.

The number behind the family is the side that images are scaled to inside of the network (`fasterrcnn512-resnet18`: the
shorter side; by default 800, of SSDLite 320). `@2` at the end widens every convolution of the trunk by that factor, and
of SSD the further feature maps too (`ssdlite-mobilenet@1.5`): a teacher with the priors of its student.
"""

import re
from typing import NamedTuple

from tamis.training.errors import UnknownModelError

DEPTHS = (18, 34, 50, 101)
SHOWN = (
    "fasterrcnn-resnet18", "fasterrcnn-resnet101", "ssd300-resnet50", "ssd300-efficientnet-lite0", "ssdlite-mobilenet",
)  # fmt: skip
_TRUNKS = {"fasterrcnn": ("resnet",), "ssd": ("resnet", "efficientnet-lite"), "ssdlite": ("mobilenet",)}
_NAME = re.compile(
    r"(fasterrcnn|ssdlite|ssd)(\d+)?-(mobilenet(-full)?|resnet(\d+)|efficientnet-lite[012])(?:@(\d+(?:\.\d+)?))?\Z"
)
_SIDES = {"fasterrcnn": 800, "ssdlite": 320, "ssd": 300}
_LEAST, _MOST = 32, 4_096  # pixels: fewer leave a trunk nothing to look at
_WIDEST = 16.0


class DetectorName(NamedTuple):
    """What a name says.

    Attributes:
        family: "fasterrcnn", "ssd" or "ssdlite".
        depth: of the ResNet; 0 for other trunks.
        side: pixels that images are scaled to.
        width: factor of the channels.
        full: the last blocks of MobileNet have all their channels.
        lite: name of the EfficientNet-Lite; "" for other trunks.
    """

    family: str
    depth: int
    side: int
    width: float
    full: bool = False
    lite: str = ""


def is_detector(name: str) -> bool:
    """Whether a name is of this kind, in range or not."""
    return _NAME.match(name) is not None


def parse(name: str) -> DetectorName | None:
    """A name taken apart; None where it is of another kind of model.

    Raises:
        UnknownModelError: its trunk, side or width cannot be had.
    """
    found = _NAME.match(name)
    if found is None:
        return None
    family, depth = found[1], int(found[5] or 0)
    side, width = int(found[2] or _SIDES[family]), float(found[6] or 1)
    lite = found[3] if found[3].startswith("efficientnet") else ""
    if not found[3].startswith(_TRUNKS[family]) or (depth and depth not in DEPTHS):
        raise UnknownModelError(f"{name!r}: {family} goes with one of {', '.join(_trunks(family))}.")
    if not _LEAST <= side <= _MOST:
        raise UnknownModelError(f"{name!r}: its side is {side} pixels; expected {_LEAST} to {_MOST}.")
    if not 0 < width <= _WIDEST:
        raise UnknownModelError(f"{name!r}: its width is {width:g}; expected a factor above 0, up to {_WIDEST:g}.")
    if lite and width != 1:
        raise UnknownModelError(
            f"{name!r}: an EfficientNet-Lite is not widened; leave out @{width:g}, or take a larger one."
        )
    return DetectorName(family, depth, side, width, found[4] is not None, lite)


def _trunks(family: str) -> list[str]:
    sizes: dict[str, tuple[int, ...]] = {"resnet": DEPTHS, "efficientnet-lite": (0, 1, 2)}
    return [f"{trunk}{size}" for trunk in _TRUNKS[family] for size in sizes.get(trunk, ("",))]
