"""Scaling pictures: the shorter side to `size`, bilinear and antialiased, and the centre cut out.

What: `fit_image` is pillow's resizing, for every format but JPEG; `fit_pixels` is torch's, for a JPEG, which may have
been decoded at a part of its size. Both mean the same picture: on the same pixels they differ by one level at most.
How: torch's kernel for bytes laid out channels last takes .26 ms from 500 x 375 to 224 where pillow takes 1.4 (one
core, AVX2; without it pillow is the quicker one and is taken). It is asked for nothing to the right of what is kept and
below it. Scales are those of the whole picture: one decoded at an eighth has its sides rounded up, and would be
squeezed otherwise.
Memory: beside the picture, a copy of its rows `_ROWS` at a time, and the result. Of a picture a pixel wide, which would
grow without measure when its shorter side is scaled, only what is kept is computed.
"""

import threading
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels = NDArray[np.uint8]

_BILINEAR = Image.Resampling.BILINEAR
_ROWS = 1 << 24  # bytes of a picture that pillow is given at a time: it keeps four bytes a pixel, so it copies them
_MOST = 1 << 24  # pixels of a scaled picture; where it would have more, only what is kept of it is computed
_KERNEL = torch.ops.aten._upsample_bilinear2d_aa.out  # interpolate() takes a size or scales, and both are needed
_KEPT = 1 << 22  # bytes of a result whose memory a thread keeps
_LOCAL = threading.local()
_HAS_KERNEL = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


class _View(NamedTuple):
    """Where the result lies in the scaled picture, which has height x width pixels."""

    height: int
    width: int
    top: int
    left: int


def fit_image(image: Image.Image, size: int) -> Image.Image:
    """A picture of pillow's, scaled and cut to size x size."""
    view = _view(image.height, image.width, size)
    if view.height * view.width > _MOST:
        return _cut(image, view, (image.height, image.width), size)
    if (view.width, view.height) != image.size:
        image = image.resize((view.width, view.height), _BILINEAR)
    return _crop(image, view, size)


def fit_rows(pixels: Pixels, mode: str, size: int) -> Image.Image:
    """As `fit_image` of uint8 [H, W, 1 or 3] in a mode of pillow's; a large picture is never copied as a whole."""
    height, width = pixels.shape[:2]
    view = _view(height, width, size)
    if pixels.nbytes <= _ROWS or view.width > width or view.height * view.width > _MOST:
        return fit_image(to_image(pixels, mode), size)
    # Pillow too scales along rows first, each by itself, and then along columns.
    narrow, step = Image.new(mode, (view.width, height)), max(1, _ROWS // (pixels.nbytes // height))
    for a in range(0, height, step):
        rows = to_image(pixels[a : a + step], mode)
        narrow.paste(rows.resize((view.width, rows.height), _BILINEAR), (0, a))
    return _crop(narrow.resize((view.width, view.height), _BILINEAR), view, size)


def fit_pixels(pixels: Pixels, full: tuple[int, int], scale: int, size: int) -> Pixels:
    """uint8 [H, W, C] -> [size, size, C], perhaps a view of the argument. This thread's next call may write over it.

    Args:
        pixels: a picture, decoded at 1 / scale of its size.
        full: its height and width before that.
        scale: 1, 2, 4 or 8.
        size: pixels a side.
    """
    view = _view(*full, size)
    if pixels.shape[:2] == (view.height, view.width):
        return pixels[view.top : view.top + size, view.left : view.left + size]
    reached = (full[0] / scale, full[1] / scale)
    if not _HAS_KERNEL or view.height * view.width > _MOST:
        image = _cut(to_image(pixels, "L" if pixels.shape[2] == 1 else "RGB"), view, reached, size)
        return np.asarray(image).reshape(size, size, -1)
    kept = (_kept(view.top + size, view.height, pixels.shape[0]), _kept(view.left + size, view.width, pixels.shape[1]))
    fitted, planes = _result((*kept, pixels.shape[2]))
    _KERNEL(_planes(pixels), kept, False, view.height / reached[0], view.width / reached[1], out=planes)
    return fitted[view.top : view.top + size, view.left : view.left + size]


def _kept(wanted: int, whole: int, there: int) -> int:
    """How much of a scaled side the kernel is asked for: it takes a side that keeps its length for one that is done."""
    return wanted + 1 if wanted == there != whole else wanted


def _result(shape: tuple[int, int, int]) -> tuple[Pixels, Tensor]:
    """What the kernel writes to, and its planes: the same memory again, which saves 30 µs of fresh pages and turning.

    Without an `out` in the layout of the input the kernel would turn its result into planes, which takes .3 ms.
    """
    there: tuple[Pixels, Tensor] | None = getattr(_LOCAL, "result", None)
    if there is None or there[0].shape != shape:
        fitted = np.empty(shape, np.uint8)
        there = (fitted, _planes(fitted))
        _LOCAL.result = there if fitted.nbytes <= _KEPT else None
    return there


def _planes(pixels: Pixels) -> Tensor:
    """[1, C, H, W] over the same memory. Turned by numpy: torch takes 13 µs for it."""
    return torch.from_numpy(pixels[None].transpose(0, 3, 1, 2))


def fitted(height: int, width: int, size: int) -> tuple[float, float, int, int]:
    """Where a picture goes when it is scaled and cut: factors down and across, then pixels cut at the top and left."""
    view = _view(height, width, size)
    return view.height / height, view.width / width, view.top, view.left


@lru_cache(maxsize=64)
def _view(height: int, width: int, size: int) -> _View:
    scale = size / min(height, width)
    rows, columns = (max(size, round(side * scale)) for side in (height, width))
    return _View(rows, columns, (rows - size) // 2, (columns - size) // 2)


def _crop(image: Image.Image, view: _View, size: int) -> Image.Image:
    return image.crop((view.left, view.top, view.left + size, view.top + size))


def _cut(image: Image.Image, view: _View, full: tuple[float, float], size: int) -> Image.Image:
    """What is kept of a picture, without the rest. `full` is the height and width that the picture covers."""
    down, across = full[0] / view.height, full[1] / view.width
    left, top = view.left * across, view.top * down
    box = (left, top, min(image.width, left + size * across), min(image.height, top + size * down))
    return image.resize((size, size), _BILINEAR, box=box)


def to_image(pixels: Pixels, mode: str) -> Image.Image:
    """uint8 [H, W, 1 or 3] as a picture of pillow's, in a mode of its."""
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    return image if image.mode == mode else image.convert(mode)
