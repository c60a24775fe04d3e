"""Videos for tests: generated frames, encoded by PyAV, each of which tells its number by its grey."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av: Any = pytest.importorskip("av")

W, H = 64, 48


def video(
    path: Path,
    frames: int = 50,
    *,
    rate: int = 10,
    codec: str = "libx264",
    gop: int = 10,
    times: Sequence[float] | None = None,
    rotation: int | None = None,
    form: str | None = None,
    picture: Callable[[int], Any] | None = None,
) -> Path:
    """A video of `frames` frames, frame i grey of 4 i (mod 200) + 20, at i / rate or at `times` (seconds)."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = W, H, "yuv420p", gop
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip(f"PyAV {av.__version__} writes no rotations, which this test needs: 18 does")
            stream.set_display_rotation(rotation)
        for i in range(frames):
            pixels = np.full((H, W, 3), grey(i), np.uint8) if picture is None else picture(i)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[i] * 1000), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def grey(number: int) -> int:
    """Of a frame."""
    return 4 * number % 200 + 20
