"""Converting: the pixels of PyAV's own reformatter, for any format and tags, also where they change on the way."""

import itertools
from typing import Any

import numpy as np
from videokit import av

from tamis.store.video.converting import Converter

FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "nv12", "gray", "gbrp", "yuva420p", "rgb24")


def reformatted(frame: Any) -> Any:
    from av.video.reformatter import VideoReformatter

    return VideoReformatter().reformat(frame, format="rgb24", threads=1).to_ndarray()


def test_pixels_are_those_of_a_reformatter() -> None:
    noise, converter = np.random.default_rng(0), Converter()
    spaces, ranges = (2, 1, 5, 9), (0, 1, 2)  # untagged, BT.709, BT.601, BT.2020; untagged, limited, full
    for name, (w, h) in itertools.product(FORMATS, ((64, 48), (67, 51))):
        base = av.VideoFrame.from_ndarray(noise.integers(0, 256, (h, w, 3), np.uint8), format="rgb24")
        frame = base.reformat(format=name)
        for frame.colorspace, frame.color_range in itertools.product(spaces, ranges):
            assert np.array_equal(converter.rgb(frame), reformatted(frame)), (name, frame.colorspace, w)


def test_a_picture_that_is_held_is_not_used_again() -> None:
    converter, held = Converter(), []
    frames = [av.VideoFrame.from_ndarray(np.full((48, 64, 3), i, np.uint8), format="rgb24") for i in range(20)]
    for frame in frames:
        held.append(converter.rgb(frame))
    assert [int(one.mean()) for one in held] == list(range(20))
    del converter
    assert [(int(one.min()), int(one.max())) for one in held] == [(i, i) for i in range(20)]
