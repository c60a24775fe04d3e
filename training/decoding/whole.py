"""Pictures scaled without cutting: all of a frame in a square, its sides too.

What: `fit_whole` stretches a picture to size x size, or scales its longer side to `size` and pads what is left, above
and below or left and right, with mid-grey. (`tamis.training.decoding.scaling` cuts the centre out.)
How: pillow's bilinear, antialiased scaling, as there. A JPEG may have been decoded at a part of its size: scales are
those of the whole picture.
Cost: as there; a stretched picture of 16:9 has half the detail across.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tamis.training.decoding.scaling import to_image

How = Literal["crop", "stretch", "pad"]
PADDING = 127  # where models that centre pixels have about 0
_BILINEAR = Image.Resampling.BILINEAR


def fit_whole(image: Image.Image, size: int, how: How, reached: tuple[float, float] | None = None) -> Image.Image:
    """A picture as size x size, all of it.

    Args:
        image: of mode L or RGB.
        size: pixels a side.
        how: "stretch" or "pad".
        reached: height and width of `image` that the picture covers; None: all of it.
    """
    height, width = reached or (image.height, image.width)
    inside = (size, size) if how == "stretch" else _inside(height, width, size)
    scaled = image.resize(inside, _BILINEAR, box=(0, 0, width, height))
    if scaled.size == (size, size):
        return scaled
    made = Image.new(image.mode, (size, size), PADDING if image.mode == "L" else (PADDING,) * 3)
    made.paste(scaled, ((size - inside[0]) // 2, (size - inside[1]) // 2))
    return made


def whole_pixels(pixels: NDArray[np.uint8], full: tuple[int, int], scale: int, size: int, how: How) -> Image.Image:
    """As `fit_whole` of uint8 [H, W, 1 or 3], decoded at 1 / scale of its full height and width."""
    mode = "L" if pixels.shape[2] == 1 else "RGB"
    reached = (min(pixels.shape[0], full[0] / scale), min(pixels.shape[1], full[1] / scale))
    return fit_whole(to_image(pixels, mode), size, how, reached)


def _inside(height: float, width: float, size: int) -> tuple[int, int]:
    """Width and height of a padded picture."""
    longer = max(height, width)
    return max(1, round(size * width / longer)), max(1, round(size * height / longer))
