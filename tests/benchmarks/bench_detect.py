"""A detector's pass over frames of a video, against the bare loop: decode each JPEG, run the model.

Both load the model (NanoDet, from DIR/nanodet; without it torchvision's SSDlite, untrained), decode the same JPEG files
and give it the same frames, on one thread; the pass also reads shards, keeps what is found, and makes a run of it. That
decoding goes on while the model is at work shows with one that only waits, as for a device, as long as decoding takes.
Memory is that of fresh processes over a dataset, and over one of ten times as many frames, with a detector
that costs next to nothing.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from benchlib import Result, cpu_seconds, folder, medians, peak
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from videosets import source, times

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.video import Source
from tamis.store.video.adding import add_videos
from tamis.training.detection.detecting import Cost, Question, compute, finish
from tamis.training.detection.detector import find_detector

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
_pause = [0.0]  # seconds for a frame of `waiting`


def run(quick: bool, data: Path | None) -> list[Result]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path[:0] = [str(EXAMPLES), str(Path(__file__).parent)]
    try:
        with folder() as path:
            return _measured(path, 1 if quick else 3, None if quick else data)
    finally:
        torch.set_num_threads(threads)
        sys.path[:2] = []


def _measured(path: Path, turns: int, data: Path | None) -> list[Result]:
    found = [] if data is None else sorted((data / "nanodet").rglob("nanodet.pt"))
    name, weights = ("nanodet:detector", str(found[0])) if found else ("bench_detect:untrained", None)
    video = source(path, data)
    store = Store.create(path / "store")
    frames = add_videos(
        store.datasets, "once", [Source(str(video), "a")], path / "once", fps="1/2" if data else "1"
    ).dataset
    note, results = f"{name.partition(':')[0]}, {frames.samples} frames", list[Result]()
    for clock in ({"clock": cpu_seconds}, {}):
        ours, bare = medians(
            turns, lambda: _pass(store, frames, name, weights), lambda: _bare(frames, name, weights), **clock
        )
        unit = "s CPU" if clock else "s"
        results.append(Result(f"boxes of frames, {unit}", ours, "s", "decode JPEG, run the model", bare, 1.11, note))
    every = "2" if data else "10"
    for count in (1, 10):
        long = str(times(path / f"{count}.avi", video, count))
        add_videos(store.datasets, f"long{count}", [Source(long, "a")], path / "long", fps=every)
    results.append(_overlap(store, store.datasets.get("long10"), turns))
    once, ten = (_peak(path / "store", f"long{count}") for count in (1, 10))
    sizes = " and ".join(f"{store.datasets.get(f'long{count}').samples:,}" for count in (1, 10))
    return [*results, Result("peak memory, ten times as long", ten, "MB", "once", once, 1.10, f"{sizes} frames")]


def _pass(store: Store, dataset: Dataset, name: str, weights: str | None, *, whole: bool = True) -> None:
    """A pass from nothing; `whole` with the run that is made of it."""
    for part, _ in store.root.list("parts"):
        store.root.delete(part)
    classes = [str(time.monotonic_ns())]  # of another run each time
    asked = Question(store, dataset, find_detector(store, name, weights=weights, classes=classes))
    compute(asked, range(len(dataset.shards)), device="cpu")
    if whole:
        finish(asked, classes, Cost(0, 0), device="cpu")


def _jpegs(dataset: Dataset) -> list[bytes]:
    where = dataset.locations()
    files = [Path(shard.uri).read_bytes() for shard in dataset.shards]
    shards = np.repeat(np.arange(len(files)), [shard.count for shard in dataset.shards])
    return [files[n][a : a + size] for n, a, size in zip(shards, where.offset, where.size, strict=True)]


@torch.inference_mode()
def _bare(dataset: Dataset, name: str, weights: str | None) -> int:
    import nanodet

    model = (nanodet.detector(weights) if weights else untrained(None)).eval()
    found = list[Any]()
    for data in _jpegs(dataset):
        image = torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1).contiguous()
        found += model([image.float() / 255])
    return len(found)


def _overlap(store: Store, dataset: Dataset, turns: int) -> Result:
    """A model that waits as long as decoding takes: half of the time is saved where the two go on side by side."""
    (seconds,) = medians(1, lambda: _decoded(dataset))
    _pause[0] = seconds / dataset.samples

    def apart() -> None:
        _decoded(dataset)
        time.sleep(seconds)

    ours, other = medians(turns, lambda: _pass(store, dataset, "bench_detect:waiting", None, whole=False), apart)
    note = f"{dataset.samples} frames, {_pause[0] * 1e3:.1f} ms each"
    return Result("a model that waits as long as decoding", ours, "s", "one after the other", other, 0.75, note)


def _decoded(dataset: Dataset) -> None:
    for data in _jpegs(dataset):
        torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1).contiguous()


def _peak(store: Path, name: str) -> float:
    """Megabytes at most of a process that looks at a dataset: the least of two."""
    command = [sys.executable, __file__, str(store), name]
    return min(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(2))


class _Waiting(nn.Module):
    """One box a frame, when the time is up."""

    takes_bytes = True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        time.sleep(self.seconds * len(images))
        one = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
        return [one for _ in images]


def waiting(weights: str | None) -> nn.Module:
    return _Waiting(_pause[0])


def instant(weights: str | None) -> nn.Module:
    return _Waiting(0)


def untrained(weights: str | None) -> nn.Module:
    torch.manual_seed(0)
    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)


if __name__ == "__main__":
    opened = Store.open(sys.argv[1])
    _pass(opened, opened.datasets.get(sys.argv[2]), "bench_detect:instant", None)
    print(peak())
