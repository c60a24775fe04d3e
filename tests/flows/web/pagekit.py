"""A small store with everything that pages show, names that are hostile to HTML among it, and a server over it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image
from safetensors.numpy import save

from tamis.flows.web.app import application
from tamis.flows.web.serving import Place, take
from tamis.store import Store
from tamis.store.boxes import Frames
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_samples
from tamis.store.keys import key_of
from tamis.store.packages import Candidate, EventFigures, NewPackage
from tamis.store.selections import Request, RoundData

CLASSES = ["<script>alert(1)</script>", 'it\'s "quoted"', "a/b", "naïve 猫 \N{SNOWMAN}"]
SCORED, TRAINED, FULL, FAILED, DETECTED, ANNOTATED = (f"{i}a" * 16 for i in range(1, 7))
HOSTILE_ERROR = "<img src=x onerror=alert(2)> failed"


@dataclass(frozen=True)
class Served:
    """A store and the page over it.

    Attributes:
        store: the store.
        url: the page's, without a slash at the end.
        get: asks for a page.
    """

    store: Store
    url: str
    get: Callable[..., httpx.Response]


def make(folder: Path, digits: list[Path]) -> Store:
    """The store."""
    store = Store.create(folder / "store")
    dataset = store.datasets.add("digits", digits)
    store.datasets.add("odd.name_1-2", _pictures(folder))
    odd = store.datasets.rename_classes("odd.name_1-2", CLASSES)
    _selections(store, dataset, odd)
    _runs(store, dataset, odd)
    _package(store)
    return store


@contextmanager
def serving(store: Store, token: str | None = None, **more: Any) -> Iterator[Served]:
    """Serve a store in a thread, and end."""
    place: Place = take("127.0.0.1", 0, token)
    app = application(store, token=place.token, hosts=place.hosts, **more)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([place.listening],))
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    url = f"http://127.0.0.1:{place.port}"
    with httpx.Client(base_url=url, timeout=60) as client:
        yield Served(store, url, client.get)
    server.should_exit = True
    thread.join(20)
    place.listening.close()
    assert not thread.is_alive()


def _pictures(folder: Path) -> list[Path]:
    """Eight photographs of 128 x 96, keys with quotes, letters of many kinds and HTML in them."""

    def encoded(i: int) -> bytes:
        path = folder / f"{i}.jpg"
        pixels = np.random.default_rng(i).integers(0, 255, (96, 128, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path.read_bytes()

    keys = ["a'b", 'c"d', "<b>bold<", "猫", "e&amp;f", "g%20h", "i j", "k"]
    made = ((key, {"jpg": encoded(i), "cls": str(i % 4).encode()}) for i, key in enumerate(keys))
    return pack_samples(made, folder / "odd")


def _selections(store: Store, dataset: Dataset, odd: Dataset) -> None:
    rng = np.random.default_rng(0)
    for seed in range(3):
        chosen = rng.permutation(dataset.samples)[:400]
        asked = Request(dataset, "random", 1, {"k": 400, "note": CLASSES[0]}, seed=seed, inputs=(SCORED,))
        rounds = [RoundData(chosen, rng.random(400)), RoundData(chosen[::-1], first_epoch=2)]
        store.selections.publish(asked, f"some-{seed}", rounds, seconds=1.5 + seed, stats={"seconds": {"score": 1.0}})
    store.selections.publish(Request(odd, "random", 1), "odd", [RoundData([3, 1])], seconds=0.1)


def _runs(store: Store, dataset: Dataset, odd: Dataset) -> None:
    runs, key = store.runs, store.selections.get("some-0").key
    runs.begin(kind="score", key=SCORED, dataset=dataset.ref, model="preact8", config={"hard": "higher"})
    numbers = np.arange(dataset.samples)
    runs.put_scores(SCORED, {"entropy": np.sin(numbers), "margin": np.where(numbers < 9, np.nan, numbers)}, numbers)
    runs.finish(SCORED, seconds={"total": 2.0})
    for run, selection, speed in ((FULL, None, 10.0), (TRAINED, key, 2.0)):
        config = {"model": "preact8", "epochs": 3, "seed": 0, "lr": 0.1, "optimizer": "sgd", "dataset": dataset.name}
        runs.begin(kind="train", key=run, dataset=dataset.ref, model="preact8", config=config, selection=selection)
        history = [
            {
                "epoch": i,
                "seconds": speed * i,
                "selecting": 0.0,
                "accuracy": 0.3 * i,
                "loss": 3.0 / i,
                "train_loss": 2 / i,
            }
            for i in (1, 2, 3)
        ]
        for epoch in range(3):
            losses = np.exp(-epoch) * (1 + numbers / dataset.samples)
            runs.put_losses(run, epoch, numbers, losses, epoch, correct=losses < 1)
        seconds = {"total": speed * 3, "backward": speed, "training_forward": speed * 2}
        runs.finish(run, metrics={"accuracy": 0.9, "history": history}, seconds=seconds)
    runs.begin(kind="train", key=FAILED, dataset=dataset.ref, model=CLASSES[0])
    runs.fail(FAILED, HOSTILE_ERROR)
    for run, kind, shift in ((DETECTED, "detect", 0.0), (ANNOTATED, "annotations", 4.0)):
        runs.begin(kind=kind, key=run, dataset=odd.ref, model="m:f", config={"classes": CLASSES[:2]})
        runs.put_boxes(run, iter([_boxes(odd.samples, shift)]))
        runs.finish(run, metrics={"boxes": 2 * odd.samples, "frames": odd.samples})


def _boxes(count: int, shift: float) -> Frames:
    corners = np.asarray([[10 + shift, 10, 60, 50], [70, 20, 110, 80 - shift]] * count, np.float32)
    return Frames(
        np.arange(count), np.arange(count + 1) * 2, np.asarray([0, 1] * count, np.int32),
        np.asarray([0.9, 0.4] * count, np.float32), corners, np.full((count, 2), (128, 96), np.int32), [None] * count,
    )  # fmt: skip


def _package(store: Store) -> None:
    data = save({"head.weight": np.ones((2, 4), np.float32)})
    given: dict[str, Any] = {"model": "tiny", "outputs": 10, "channels": 3, "image_size": 8}
    of = store.packages.bases.put(data, **given, mean=[0.5] * 3, std=[0.25] * 3)
    for branch, accuracy in enumerate((0.875, 0.9375, 0.75)):  # the second beats the first
        key = key_of("candidate", {"branch": branch})
        figures: dict[str, Any] = {"parameters": 1000 - branch, "accuracy": accuracy, "tpr": 0.75, "fpr": 0.0625}
        store.packages.finish_candidate(Candidate(key, of.key, branch, f"b{branch}", 3 * branch, **figures), data)
    events, keys = EventFigures(4.0, 1.0, 0.1, 0.2), [key_of("candidate", {"branch": branch}) for branch in range(3)]
    new = NewPackage("doors", of.key, "digits@1", None, ("shut", "open"), "open", events, 8, 0)
    store.packages.publish(new, keys)
    store.packages.profiles.put(of.key, [0.001, 0.002, 0.004], device="a<b>c", threads=1, rest=0.001)
