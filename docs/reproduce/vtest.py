"""Frames of OpenCV's vtest.avi, a pedestrian street, with the persons that NanoDet finds as truth.

What: `prepare` makes the datasets vtest-train (the first 70 % of the video) and vtest-val (the rest), and of both the
runs that have their boxes. What the store holds is not made again.
Data: a folder that has vtest.avi and nanodet.pt, in whatever folders below it.
Cost: 795 frames at all ten a second; NanoDet takes .1 to .2 s for one on a core.
"""

import argparse
import importlib
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tamis.flows.configs import DetectConfig, Resources
from tamis.flows.detections.culling import Watcher
from tamis.flows.detections.detecting import detect
from tamis.flows.runners import Direct
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.runs import Run
from tamis.store.video.adding import add_videos
from tamis.store.video.sources import Source
from tamis.training.signals.outputs import load_model
from tamis.training.streaming.stream import SelectionStream
from tamis.training.tasks import DETECTION

NAME, SHARE, PERSON = "vtest", 0.7, 0
_TIMED, _WARM = 30, 3  # images
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))


class Vtest(NamedTuple):
    """What there is to train and to judge on.

    Attributes:
        train, val: the datasets.
        truth: keys of the runs that have their boxes.
    """

    train: Dataset
    val: Dataset
    truth: tuple[str, str]


class Persons(nn.Module):
    """NanoDet, but for what is no person."""

    background = False
    classes = ("person",)

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        found = self.detector(images)
        return [{name: of[one["labels"] == PERSON] for name, of in one.items()} for one in found]


def persons(weights: str) -> nn.Module:
    """The detector, for `vtest:persons`."""
    return Persons(importlib.import_module("nanodet").detector(weights))


def options(description: str, *, fps: str) -> argparse.ArgumentParser:
    """The options that all scripts on these frames have.

    Args:
        description: the script's docstring.
        fps: frames a second by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fps", default=fps, help="frames a second of the video, or all")
    parser.add_argument("--truth-score", type=float, default=0.4)
    parser.add_argument(
        "--weights", type=Path, help="file of weights that detectors begin with: a whole model or a trunk"
    )
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def started(given: argparse.Namespace, weights: Path | None = None) -> dict[str, Any]:
    """How every training run begins and steps: fields of `TrainConfig`.

    Args:
        given: the options.
        weights: in place of those of the options.
    """
    weights = weights or given.weights
    return {"optimizer": given.optimizer, "weights": None if weights is None else str(weights)}


def begin(given: argparse.Namespace) -> tuple[Store, Vtest]:
    """The store, and the frames in it."""
    torch.set_num_threads(given.threads)
    store = Store.open_or_create(given.store)
    data = prepare(store, given.data, given.fps)
    print(f"{data.train.samples} frames to train on, {data.val.samples} to judge on", flush=True)
    return store, data


def watcher(data: Path) -> Watcher:
    """NanoDet with the weights in a folder."""
    return Watcher(model="vtest:persons", weights=found_file(data, "nanodet.pt"), classes=Persons.classes)


def prepare(store: Store, data: Path, fps: str = "all") -> Vtest:
    """The datasets and their truth.

    Args:
        store: the store.
        data: folder with vtest.avi and nanodet.pt.
        fps: frames a second, or "all".
    """
    video, teacher = found_file(data, "vtest.avi"), watcher(data)
    name = NAME if fps == "all" else f"{NAME}-{fps.replace('.', '-')}fps"
    made = add_videos(store.datasets, name, [Source(video, "street")], Path(store.root.url) / "shards" / name, fps=fps)
    train, val = store.datasets.split(made.dataset.ref, {"train": SHARE, "val": 1 - SHARE}, by_time=True)
    keys: list[str] = []
    for part in (train, val):
        asked = DetectConfig(dataset=part.ref, **teacher.model_dump())
        keys.append(detect(Direct(), store.root.url, asked, Resources(device="cpu"))["run"])
    return Vtest(train, val, (keys[0], keys[1]))


def found_file(data: Path, name: str) -> str:
    """A file of a name or pattern, in a folder or below it."""
    found = next(data.rglob(name), None)
    if found is None:
        raise SystemExit(f"There is no {name} in {data} or in a folder below it: give another --data.")
    return str(found)


def ms_an_image(store: Store, run: Run, dataset: Dataset) -> float:
    """Median time that a trained detector takes for one image, decoding not counted."""
    assert run.blob is not None
    model, meta = load_model(store, run.blob)
    stream = SelectionStream(
        store, dataset, batch_size=1, rank=0, world=1, members=(), shuffle=False, image_size=meta.image_size
    )
    took: list[float] = []
    with torch.inference_mode():
        for batch in stream.epoch(0):
            started = perf_counter()
            DETECTION.found(model, batch.images)
            took.append((perf_counter() - started) * 1e3)
            if len(took) == _TIMED:
                break
    return median(took[_WARM:])
