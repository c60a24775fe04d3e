"""Frames out of a video: sampling against a bare PyAV loop, packing against decoding and encoding, memory by length.

The bare loop decodes every frame and has one `VideoReformatter` make an array of it. Its peer for packing encodes the
same arrays with simplejpeg as well and writes nothing. Seconds of CPU tell what the work costs whatever else the
machine does. Memory is that of fresh processes, of which one packs the video and one ten of it, one behind the other.
"""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import simplejpeg
from benchlib import Result, cpu_seconds, folder, medians, peak
from videosets import RATE, placed, source, times

from tamis.store.video.encoding import QUALITY
from tamis.store.video.packing import Packing
from tamis.store.video.sampling import Told, pictures


def run(quick: bool, data: Path | None) -> list[Result]:
    with folder() as path:
        video = source(path, None if quick else data)
        turns, note = 1 if quick else 5, video.name
        results = list[Result]()
        for clock in ({"clock": cpu_seconds}, {}):
            unit = "s" if not clock else "s CPU"
            work = (
                lambda: _sampled(video),
                lambda: _bare(video),
                lambda: _packed(path, video),
                lambda: _encoded(video),
            )
            ours, bare, packing, encoding = medians(turns, *work, **clock)
            results += [
                Result(f"sampling every frame, {unit}", ours, "s", "decode and reformat", bare, 1.11, note),
                Result(f"packing every frame, {unit}", packing, "s", "decode, reformat, JPEG", encoding, 1.11, note),
            ]
        some, every = medians(turns, lambda: _sampled(video, Fraction(1, 5)), lambda: _bare(video))
        results.append(Result("sampling a frame each 5 s", some, "s", "decode and reformat all", every, 1.11, note))
        short, long = (_peak(path, times(path / f"{n}.avi", video, n), turns) for n in (1, 10))
        return [
            *results,
            Result("peak memory, ten times as long", long, "MB", "once", short, 1.10, "2 frames a second"),
        ]


def _sampled(video: Path, fps: Fraction | None = None) -> int:
    return sum(1 for _ in pictures(str(video), fps, Told()))


def _arrays(video: Path) -> Any:
    import av
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()


def _bare(video: Path) -> int:
    return sum(1 for _ in _arrays(video))


def _encoded(video: Path) -> int:
    made = (
        simplejpeg.encode_jpeg(a, quality=QUALITY, colorspace="RGB", colorsubsampling="420") for a in _arrays(video)
    )
    return sum(map(len, made))


def _packed(path: Path, video: Path, fps: Fraction | None = None) -> None:
    for shard in path.glob("packed-*"):
        shard.unlink()
    Packing(placed(video), path / "packed", fps, "jpg", 5000).run()


def _peak(path: Path, video: Path, turns: int) -> float:
    """Megabytes at most of a process that packs a video: the least of some."""
    command = [sys.executable, __file__, str(path), str(video)]
    peaks = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(min(turns, 2))
    ]
    return min(peaks)


if __name__ == "__main__":
    _packed(Path(sys.argv[1]), Path(sys.argv[2]), Fraction(RATE, 5))
    print(peak())
