"""Frames as members of shards, and what their bytes depend on.

JPEG of quality 95 with halved colour, as videos have it; PNG where no loss is wanted (four times the bytes).
Cost: 2.4 ms for a JPEG of 768x576, 73 ms for a PNG (one core).
"""

import io
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from tamis.store.video.opening import pyav

Pixels = npt.NDArray[np.uint8]
QUALITY = 95


def jpg(pixels: Pixels) -> bytes:
    """A JPEG of uint8 [H, W, 3]."""
    import simplejpeg

    return simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorspace="RGB", colorsubsampling="420")


def png(pixels: Pixels) -> bytes:
    """A PNG of uint8 [H, W, 3]."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


ENCODERS: dict[str, Callable[[Pixels], bytes]] = {"jpg": jpg, "png": png}
_LIBRARIES = {"jpg": "simplejpeg", "png": "pillow"}


def build(kind: str) -> dict[str, str]:
    """What pixels and bytes of frames depend on beside the video: decoder, conversion, encoder."""
    av = pyav()
    libraries = {
        name: ".".join(map(str, av.library_versions[name])) for name in ("libavformat", "libavcodec", "libswscale")
    }
    encoder = f"{_LIBRARIES[kind]} {version(_LIBRARIES[kind])}" + (f" quality {QUALITY} 420" if kind == "jpg" else "")
    return {"av": av.__version__, **libraries, "conversion": "rgb24 bilinear", "encoder": encoder}
