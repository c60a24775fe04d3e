"""Frames made smaller before a detector looks at them, boxes scaled back.

What: `Shrunk` is a detector that sees frames at a part of their size; its boxes are in pixels of the frame as it is
stored. A detector that scales frames to a side of its own sees less detail, and costs the same.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from tamis.training.detection.detector import Detector


class Shrunk:
    """A detector of smaller frames.

    Args:
        detector: gets the smaller frames.
        scale: of both sides, above 0, up to 1.
    """

    def __init__(self, detector: "Detector", scale: float) -> None:
        self._detector, self._scale, self.classes = detector, scale, detector.classes

    def __call__(self, images_BCHW: "Tensor") -> "list[dict[str, Tensor]]":
        """As `Detector`."""
        import torch

        small = scaled(images_BCHW, self._scale)
        height, width = (old / new for old, new in zip(images_BCHW.shape[-2:], small.shape[-2:], strict=True))
        back = torch.tensor([width, height, width, height])
        return [one | {"boxes": one["boxes"] * back.to(one["boxes"])} for one in self._detector(small)]


def scaled(images_BCHW: "Tensor", scale: float) -> "Tensor":
    """uint8 images [B, C, H, W] with both sides times a scale, rounded, at least a pixel; antialiased."""
    from torch.nn import functional

    size = [max(1, round(side * scale)) for side in images_BCHW.shape[-2:]]
    made = functional.interpolate(images_BCHW.float(), size=size, mode="bilinear", antialias=True)
    return made.round().clamp(0, 255).to(images_BCHW.dtype)
