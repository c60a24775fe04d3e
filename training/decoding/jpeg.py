"""JPEG: what its header says, and its pixels at the whole, a half, a quarter or an eighth of its size.

What: `read_frame` finds the size without decoding; `pick_scale` says at what part of its size a picture is decoded that
is going to be scaled; `decode` decodes.
How: libjpeg-turbo by way of simplejpeg, which writes pixels as numpy and torch want them: .75 ms for 500 x 375 where
pillow takes .95 (54 kB, one core); by way of pillow where simplejpeg is not installed, with the same pixels.
simplejpeg is told to stop at whatever is odd in a file. Then pillow has the last word: it refuses what it always
refused and lets pass what it always let pass.
Decoding at a part costs the entropy decoder's time and little more, 2,000 x 1,500 (400 kB) a quarter of what pillow's
decoding and resizing take. The scale leaves `_SPARE` times the pixels a side that are wanted: photographs of that size
then come out 13 levels from the whole way in their worst pixel, where nothing to spare would make it 40. Edges a pixel
wide, which only pictures have that were made smaller before, come to 20.
Refused: more scans than `_SCANS`, each of which costs a pass over the whole picture and may be a few bytes long.
"""

import struct
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    import simplejpeg
except ImportError:  # no wheel for this platform, and no compiler
    simplejpeg = None

Pixels = NDArray[np.uint8]

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_SCAN = 0xDA
_MARKER = struct.Struct(">BBH").unpack_from  # 0xFF, the kind, and the length that most kinds have
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD8), 0xFF))
_COLOURS = {1: "L", 3: "RGB"}
_SCANS = 500  # where libjpeg-turbo's own fuzzers stop; a progressive file of usual tools has 10
_SPARE = 1.65
_KEPT = 1 << 22
_LOCAL = threading.local()


class Frame(NamedTuple):
    """A JPEG of 8 bits: its size, and "L" (grey) or "RGB"."""

    height: int
    width: int
    mode: str

    @property
    def channels(self) -> int:
        return len(self.mode)


def read_frame(data: bytes) -> Frame | None:
    """The size of a usual JPEG; None for others (CMYK, 12 bits, odd markers), which are pillow's matter.

    Raises:
        struct.error: the header is cut off.
        ValueError: it has too many scans.
    """
    at, kind = _find(data, 2, _START_OF_FRAME)
    if not kind:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
    mode = _COLOURS.get(components)
    if mode is None or bits != 8 or not data.startswith(b"\xff\xd8"):
        return None
    if kind in _PROGRESSIVE or not _has_one_scan(data, at, components):
        check_scans(data)
    return Frame(height, width, mode)


def check_scans(data: bytes) -> None:
    """Refuse a file whose scans would be passed over the picture again and again.

    Raises:
        ValueError: it has too many.
    """
    if (scans := data.count(b"\xff\xda")) > _SCANS:
        raise ValueError(f"it has {scans} scans, more than {_SCANS}")


def _has_one_scan(data: bytes, frame: int, components: int) -> bool:
    """Whether the first scan has all components: then libjpeg takes it for the only one, if not progressive."""
    at, kind = _find(data, frame + 2 + int.from_bytes(data[frame + 2 : frame + 4], "big"), frozenset((_SCAN,)))
    return bool(kind) and data[at + 4 : at + 5] == bytes((components,))


def _find(data: bytes, at: int, kinds: frozenset[int]) -> tuple[int, int]:
    """Where the first marker of these kinds lies, from a marker on, and its kind; kind 0 where odd ones come first."""
    while True:
        mark, kind, length = _MARKER(data, at)
        if mark != 0xFF or kind in _WITHOUT_LENGTH:
            return at, 0
        if kind in kinds:
            return at, kind
        at += 2 + length


def pick_scale(frame: Frame, size: int) -> int:
    """1, 2, 4 or 8: the part at which a picture is decoded that is then scaled to `size`."""
    spare = min(frame.height, frame.width) / (_SPARE * size)
    return next((scale for scale in (8, 4, 2) if scale <= spare), 1)


def decode(data: bytes, frame: Frame, scale: int = 1) -> Pixels:
    """uint8 [H / scale, W / scale, 1 or 3], sides rounded up. The next call in this thread may write over it.

    Raises:
        OSError, ValueError: the file is damaged.
    """
    height, width = -(-frame.height // scale), -(-frame.width // scale)
    if simplejpeg is not None:
        try:
            # The header it goes by is its own reading: a buffer of the right size holds it to ours.
            found = simplejpeg.decode_jpeg(
                data,
                "GRAY" if frame.mode == "L" else "RGB",
                min_height=height,
                min_width=width,
                min_factor=scale,
                buffer=_scratch(height * width * frame.channels),
            )
        except ValueError:
            pass
        else:
            if found.shape[:2] == (height, width):
                return found
    image = Image.frombytes(frame.mode, (width, height), data, "jpeg", frame.mode, "", scale, 0)
    return np.frombuffer(bytearray(image.tobytes()), np.uint8).reshape(height, width, -1)


def _scratch(size: int) -> Pixels:
    """uint8 [size], the same memory again where it is small: fresh pages cost a tenth of the decoding."""
    if size > _KEPT:
        return np.empty(size, np.uint8)
    there: Pixels | None = getattr(_LOCAL, "scratch", None)
    if there is None or len(there) < size:
        there = _LOCAL.scratch = np.empty(size, np.uint8)
    return there[:size]
