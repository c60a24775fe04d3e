"""Sampling: the first frame at or after each point, the same with and without leaps, damage and rotation told."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from videokit import H, W, av, grey, video

from tamis.store.errors import ShardError
from tamis.store.video import opening
from tamis.store.video.opening import length, opened
from tamis.store.video.sampling import Told, pictures


def times(path: Path, fps: str | None, told: Told | None = None, **more: Any) -> list[float]:
    found = pictures(str(path), None if fps is None else Fraction(fps), told or Told(), **more)
    return [float(seconds) for seconds, _ in found]


def test_each_point_has_the_first_frame_at_or_after_it(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4")  # 50 frames at 10 a second
    assert times(path, "2") == [i / 2 for i in range(10)]
    assert times(path, "3") == pytest.approx([0, 0.4, 0.7, 1, 1.4, 1.7, 2, 2.4, 2.7, 3, 3.4, 3.7, 4, 4.4, 4.7])
    assert times(path, None) == pytest.approx([i / 10 for i in range(50)])
    assert len(times(path, "1000")) == 50, "each frame once, however dense the points"
    assert times(path, "2", after=Fraction(2)) == [2.5, 3, 3.5, 4, 4.5]


def test_variable_frame_rates_go_by_their_time_stamps(tmp_path: Path) -> None:
    stamps = [0, 0.04, 0.08, 1.5, 1.54, 3.02, 3.9]
    path = video(tmp_path / "a.mkv", len(stamps), rate=25, times=stamps)
    assert times(path, "1") == pytest.approx([0, 1.5, 3.02])
    assert times(path, "2") == pytest.approx([0, 1.5, 3.02, 3.9])
    assert times(path, None) == pytest.approx(stamps)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mp4", "mpeg4")]
)
@pytest.mark.parametrize("fps", ["1/3", "1", "7/10"])
def test_leaps_give_the_frames_of_decoding_all_and_decode_fewer(
    tmp_path: Path, name: str, codec: str, fps: str
) -> None:
    path = video(tmp_path / name, 300, codec=codec, gop=10 if fps != "1" else 4, rate=30)
    leaping, plodding = Told(), Told()
    some = list(pictures(str(path), Fraction(fps), leaping))
    every = list(pictures(str(path), Fraction(fps), plodding, seeking=False))
    assert [s for s, _ in some] == [s for s, _ in every]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(some, every, strict=True))
    assert leaping.decoded < plodding.decoded / 2
    assert [round(float(p.mean())) for _, p in every] == pytest.approx([grey(round(s * 30)) for s, _ in every], abs=4)
    assert not leaping.damage


def test_a_video_without_time_stamps_goes_by_number_and_rate(tmp_path: Path) -> None:
    told = Told()
    path = video(tmp_path / "a.h264", 50, rate=25, form="h264")
    assert times(path, "5", told) == pytest.approx([i / 5 for i in range(10)])
    assert told.untimed
    assert length(str(path)) == 2


def test_time_begins_at_the_first_time_stamp(tmp_path: Path) -> None:
    path = video(tmp_path / "a.ts", form="mpegts")
    with opened(str(path)) as one:
        assert one.origin != 0
    assert times(path, "1") == pytest.approx([0, 1, 2, 3, 4])
    assert float(length(str(path))) == pytest.approx(5)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_pictures_are_turned_as_the_stream_says(tmp_path: Path, rotation: int) -> None:
    def corner(_: int) -> Any:  # white at the top left
        pixels = np.zeros((H, W, 3), np.uint8)
        pixels[: H // 2, : W // 2] = 255
        return pixels

    path = video(tmp_path / "a.mp4", 3, rotation=rotation, picture=corner)
    _, turned = next(pictures(str(path), None, Told()))
    wanted = np.rot90(corner(0), rotation // 90)
    assert turned.shape == wanted.shape
    assert np.abs(turned.astype(int) - wanted).mean() < 8


def test_a_truncated_video_is_read_up_to_there(tmp_path: Path) -> None:
    whole = video(tmp_path / "whole.mkv", 100, codec="mpeg4")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    told = Told()
    some, every = list(pictures(str(cut), None, told)), list(pictures(str(whole), None, Told()))
    assert 10 < len(some) < 100
    assert all(a == b and np.array_equal(p, q) for (a, p), (b, q) in zip(some[:-1], every, strict=False))
    assert told.end < length(str(cut)), "the container still says how long it was"


@pytest.mark.real
def test_damage_in_the_middle_is_told_and_left_out(tmp_path: Path, real: Any) -> None:
    """200 bytes of noise, which the decoder conceals: it is told, and no picture differs from that of the whole."""
    source = next(real("vtest").rglob("vtest.avi"))
    whole, data, at = dict(itertools.islice(pictures(str(source), None, Told()), 200)), source.read_bytes(), 1_200_000
    for seed in range(3):
        noise = np.random.default_rng(seed).bytes(200)
        (tmp_path / "a.avi").write_bytes(data[:at] + noise + data[at + 200 :])
        told = Told()
        some = [one for one in itertools.islice(pictures(str(tmp_path / "a.avi"), None, told), 200) if one[0] in whole]
        assert told.damage
        assert len(some) < len(whole)
        assert all(np.array_equal(pixels, whole[seconds]) for seconds, pixels in some)


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = video(tmp_path / "good.ts", form="mpegts")
    files = {
        "empty.mp4": b"",
        "noise.mp4": bytes(range(256)) * 40,
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{good}\n#EXT-X-ENDLIST\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile {good}\n".encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for path in (*(tmp_path / name for name in files), tmp_path, tmp_path / "none.mp4"):
        with pytest.raises(ShardError, match=r"^[^\n]*$") as said:
            times(path, "1")
        assert str(path) in str(said.value)
    monkeypatch.setattr(opening, "MAX_PIXELS", W * H - 1)
    with pytest.raises(ShardError, match="claims frames of 64x48"):
        times(good, "1")


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        for packet in itertools.chain(stream.encode(frame), stream.encode()):
            container.mux(packet)
    with pytest.raises(ShardError, match="has no pictures"):
        times(tmp_path / "a.mp4", "1")
