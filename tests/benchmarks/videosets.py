"""Videos for benchmarks: vtest.avi of OpenCV's samples (`--data DIR`, in DIR/vtest), or one that is made here."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tamis.store.video.sources import Placed, Source

RATE = 10  # frames a second of either


def source(path: Path, data: Path | None) -> Path:
    """vtest.avi (795 frames of 768x576, MPEG-4), or 40 frames of noise that moves."""
    found = [] if data is None else sorted((data / "vtest").rglob("vtest.avi"))
    return found[0] if found else _made(path / "made.avi")


def times(path: Path, video: Path, count: int) -> Path:
    """The same packets so many times, one behind the other, as a file of its own."""
    import av

    with av.open(str(video)) as given, av.open(str(path), "w") as into:
        stream: Any = into.add_stream_from_template(given.streams.video[0])
        begun = 0
        for _ in range(count):
            last, shift = 0, begun
            given.seek(0)
            for packet in given.demux(given.streams.video[0]):
                if packet.dts is not None:
                    packet.dts, packet.pts = packet.dts + shift, packet.dts + shift
                    last = max(last, packet.dts + 1)
                    packet.stream = stream
                    into.mux(packet)
            begun = last
    return path


def placed(video: Path) -> list[Placed]:
    """It as what `Packing` takes."""
    from tamis.store.video.opening import length

    return [Placed(Source(str(video), "camera"), "0" * 64, Fraction(0), length(str(video)))]


def _made(path: Path) -> Path:
    import av

    noise = np.random.default_rng(0).integers(0, 256, (96, 200, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[:, i : i + 128]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
