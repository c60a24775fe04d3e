"""Packing holds some frames, however long the video is."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from videokit import video

CODE = """
import sys
from fractions import Fraction
from pathlib import Path
from tamis.store.video.opening import length
from tamis.store.video.packing import Packing
from tamis.store.video.sources import Placed, Source
path = sys.argv[1]
placed = [Placed(Source(path, "north"), "0" * 64, Fraction(0), length(path))]
rows = Packing(placed, Path(path).with_suffix(""), None, "jpg", 5000).run().rows
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(sum(len(table) for table in rows.values()), int(status["VmHWM"].split()[0]))
"""


def peak(path: Path, frames: int) -> int:
    """kB that a fresh process holds at most; its own peak, where `ru_maxrss` would begin with its parent's."""
    said = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True)
    count, kilobytes = map(int, said.stdout.split())
    assert count == frames
    return kilobytes


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_is_constant_over_a_video_ten_times_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 and 1,000 frames of 320x240; 1,000 of them held at once would be 230 MB, three times the process."""
    monkeypatch.setattr("videokit.W", 320)
    monkeypatch.setattr("videokit.H", 240)
    noise = np.random.default_rng(0).integers(0, 256, (240, 420, 3), np.uint8)

    def picture(i: int) -> np.ndarray:
        return np.ascontiguousarray(noise[:, i % 100 : i % 100 + 320])

    short = peak(video(tmp_path / "short.mkv", 100, codec="mpeg4", picture=picture), 100)
    long = peak(video(tmp_path / "long.mkv", 1000, codec="mpeg4", picture=picture), 1000)
    assert long < 1.1 * short
