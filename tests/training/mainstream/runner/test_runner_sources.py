"""Sources: pixels are those of training, clocks are right, damage and silence are told."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from videokit import H, W, video

from tamis.store import Store
from tamis.store.errors import ShardError
from tamis.store.video import Source as VideoSource
from tamis.store.video.adding import add_videos
from tamis.training.decoding.whole import How
from tamis.training.errors import RunnerError, SourceStalled
from tamis.training.mainstream.runner.pictures import Fit, Frame
from tamis.training.mainstream.runner.queue import FrameQueue
from tamis.training.mainstream.runner.rates import Member, Rates
from tamis.training.mainstream.runner.reading import Reading, Wanted
from tamis.training.mainstream.runner.sources import Live, Source, Video, open_source
from tamis.training.mainstream.trainer.sources import Source as Samples
from tamis.training.mainstream.trainer.sources import in_order
from tamis.training.streaming.batches import Images


def noisy(i: int) -> Any:
    draws = np.random.default_rng(i)
    return draws.integers(0, 256, (H // 8, W // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize(("channels", "how"), [(1, "crop"), (3, "crop"), (1, "pad"), (3, "stretch")])
def test_pixels_are_those_of_the_training_stream(
    store: Store, tmp_path: Path, kind: str, channels: int, how: How
) -> None:
    """To the bit: the frames that a dataset of 5 frames a second has, decoded and scaled by a training stream."""
    path = video(tmp_path / "a.mp4", 20, picture=noisy)
    dataset = add_videos(
        store.datasets, "site", [VideoSource(str(path), "c")], tmp_path / "s", fps="5", kind=kind
    ).dataset
    images = Images(channels, 24, how)
    samples = Samples(store, dataset, np.arange(10), np.ones(10, np.float32), images)
    (batch,) = samples.batches(in_order(10, 10))
    fit, rates = Fit(24, channels, kind == "jpg", how), Rates([Member("a", "t", 0, 5.0)])
    mine = [frame.fitted(fit) for frame in Video(str(path)).frames() if rates.due(frame.seconds)]
    assert torch.equal(torch.cat(mine), batch.images)
    other = torch.cat([frame.fitted(fit._replace(jpeg=kind == "png")) for frame in Video(str(path)).frames()])
    assert other.shape == (20, channels, 24, 24)


def images(folder: Path, names: dict[str, int]) -> Path:
    folder.mkdir()
    for name, level in names.items():
        Image.fromarray(np.full((H, W, 3), level, np.uint8)).save(folder / name)
    return folder


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    folder = images(tmp_path / "f", {"i10.png": 30, "i9.png": 20, "i1.jpg": 10})
    (folder / "notes.txt").write_text("no image")
    source = open_source(str(folder), rate="2")
    found = [(frame.seconds, int(frame.fitted(Fit(8, 1, True)).float().mean())) for frame in source.frames()]
    assert found == [(Fraction(0), 10), (Fraction(1, 2), 20), (Fraction(1), 30)]
    assert source.total() == 1


def test_names_may_be_times(tmp_path: Path) -> None:
    folder = images(tmp_path / "f", {"100.5.png": 10, "99.25.png": 20, "103.png": 30})
    assert [float(frame.seconds) for frame in open_source(str(folder), rate="names").frames()] == [0, 1.25, 3.75]
    (folder / "late.png").write_bytes(b"")
    with pytest.raises(RunnerError, match=r"late\.png is no time"):
        open_source(str(folder), rate="names")


def read(source: Source, fps: float = 10.0) -> tuple[list[Frame], FrameQueue[Frame]]:
    """What the reading thread hands over."""
    queue = FrameQueue[Frame](4, drops=False)
    wanted = Wanted(Rates([Member("a", "t", 0, fps)]), {"a": Fit(8, 3, False)})
    reading, found = Reading(source, queue, wanted, real=False), list[Frame]()
    reading.start()
    while not queue.over:
        frame = queue.get(0.5, 60)
        if frame is not None:
            found.append(frame)
    reading.stop(10)
    return found, queue


def test_damaged_images_are_told_and_passed_over(tmp_path: Path) -> None:
    folder = images(tmp_path / "f", {f"{i}.png": i for i in range(4)})
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    source = open_source(str(folder), rate="10")
    found, _ = read(source)
    assert [frame.number for frame in found] == [0, 1, 3]
    assert len(source.told.damage) == 1
    assert source.told.damage[0].startswith("at 0.200 s: 2.png")


def test_frames_that_nobody_wants_are_not_handed_over(tmp_path: Path) -> None:
    found, _ = read(Video(str(video(tmp_path / "a.mp4", 50))), 2.5)
    assert [frame.number for frame in found] == list(range(0, 50, 4))


def test_a_damaged_tail_is_told(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi", 50, codec="mpeg4", picture=noisy)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = Video(str(path))
    found, _ = read(source)
    assert 0 < len(found) < 45
    assert source.told.damage[-1].startswith(f"ends at {len(found) / 10:.1f}")
    assert source.told.damage[-1].endswith(" s")


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    folder, path = images(tmp_path / "f", {"a.png": 1}), video(tmp_path / "a.mp4", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    for text, rate, said in (
        (tmp_path / "gone.mp4", None, "There is no"),
        (tmp_path / "empty", "5", "has no images"),
        (folder, None, "which has no clock"),
        (folder, "often", "no rate of images"),
        (folder, "0", "no rate of images"),
        (path, "5", "a clock of its own"),
        ("file:///etc/passwd", None, "give its path"),
        ("\0", None, "There is no"),
    ):
        with pytest.raises(RunnerError, match=said):
            open_source(str(text), rate=rate)
    with pytest.raises(ShardError, match="cannot be read as a video"):
        open_source(str(tmp_path / "text.mp4"))


@pytest.fixture
def camera() -> Iterator[Callable[[bytes, bool], str]]:
    """Serves bytes over TCP on loopback, and then ends or falls silent."""
    listening, over = socket.create_server(("127.0.0.1", 0)), threading.Event()
    threads = list[threading.Thread]()

    def serve(data: bytes, silent: bool) -> str:
        def send() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.sendall(data)
                if silent:
                    over.wait(60)

        threads.append(threading.Thread(target=send, daemon=True))
        threads[-1].start()
        return f"tcp://user:secret@127.0.0.1:{listening.getsockname()[1]}"

    yield serve
    over.set()
    listening.close()
    for one in threads:
        one.join(10)


def stream(frames: int) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        made = container.add_stream("libx264", rate=10)
        made.width, made.height, made.pix_fmt, made.gop_size = W, H, "yuv420p", 5
        for i in range(frames):
            for packet in made.encode(av.VideoFrame.from_ndarray(noisy(i), format="rgb24")):
                container.mux(packet)
        for packet in made.encode():
            container.mux(packet)
    return file.getvalue()


def test_a_live_source_that_ends_ends_cleanly(camera: Callable[[bytes, bool], str]) -> None:
    source = open_source(camera(stream(30), False), stall=20)
    assert (source.live, source.total(), "secret" in source.name) == (True, None, False)
    found, _ = read(source)
    assert len(found) == 30
    assert [round(float(b.seconds - a.seconds), 3) for a, b in pairwise(found)] == [0.1] * 29


def test_a_live_source_that_falls_silent_has_stalled(camera: Callable[[bytes, bool], str]) -> None:
    source = open_source(camera(stream(30), True), stall=1)
    queue = FrameQueue[Frame](4, drops=True)
    wanted = Wanted(Rates([Member("a", "t", 0, 10.0)]), {"a": Fit(8, 3, False)})
    reading = Reading(source, queue, wanted, real=False)
    reading.start()
    with pytest.raises(SourceStalled):
        [queue.get(0.1, 1) for _ in range(600)]
    assert reading.read > 0
    reading.stop(0.1)


def test_a_camera_that_is_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ShardError, match=r"tcp://127\.0\.0\.1:\d+ cannot be opened as a live source") as refused:
        next(Live(f"tcp://user:secret@127.0.0.1:{port}", 1).frames())
    assert "secret" not in str(refused.value)
