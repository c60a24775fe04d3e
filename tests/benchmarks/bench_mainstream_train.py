"""Training the candidates of a package with stem features that are computed once, against each by itself.

Both train the same candidates for the same epochs from the same decoded images; by itself each runs its whole stem in
every epoch. Pictures are CIFAR-10's with --data, else digits; the base is untrained, which changes no time.
"""

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from benchlib import Result, folder

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_digits
from tamis.store.selections import Request, RoundData
from tamis.training.mainstream.trainer.building import Build
from tamis.training.mainstream.trainer.candidates import fine_tune
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.features import IMAGES, Features
from tamis.training.models.registry import build_model

CANDIDATES, EPOCHS = 8, 8


def run(quick: bool, data: Path | None) -> list[Result]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with folder() as path:
            return _measured(path, quick, data)
    finally:
        torch.set_num_threads(threads)


def _measured(path: Path, quick: bool, data: Path | None) -> list[Result]:
    store = Store.create(path / "store")
    dataset, base, count = _dataset(store, path, quick, data)
    made = Build(store, _config(store, dataset, path, base, count, 2 if quick else EPOCHS))
    source, stem = made.data.train, made._features("cpu", 256)[0].stem
    alone, cached = Features(source, stem, "alone", (IMAGES,)), Features(source, stem, "cached", made.branches)
    alone.fill()  # images are decoded once for both
    started = perf_counter()
    cached.fill()
    filled = perf_counter() - started
    seconds = [(_tuned(made, branch, cached), _tuned(made, branch, alone)) for branch in made.branches]
    ours, theirs = (sum(each) for each in zip(*seconds, strict=True))
    note = f"{base}, {count} images, {len(made.branches)} candidates of {made.config.epochs} epochs, one thread"
    return [
        Result("candidates, cached features", filled + ours, "s", "each by itself", theirs, 0.5, note),
        Result("of these, computing features", filled, "s", "all", filled + ours),
    ]


def _tuned(made: Build, branch: int, features: Features) -> float:
    """Wall seconds of one candidate."""
    rest, started = made.split.specialised(branch, len(made.data.classes), seed=0), perf_counter()
    fine_tune(rest, branch, features, made.data.fit, made.data.validation, made.config)
    return perf_counter() - started


def _dataset(store: Store, path: Path, quick: bool, data: Path | None) -> tuple[Dataset, str, int]:
    """The pictures, the base that suits them, and how many are trained on."""
    tars = [] if data is None else sorted(data.glob("train-*.tar"))
    if tars:
        return store.datasets.add("pictures", tars[:1]), "mobilenet_v2-cifar", 100 if quick else 1000
    return store.datasets.add("pictures", pack_digits(path / "digits")), "preact8" if quick else "preact20", 200


def _config(store: Store, dataset: Dataset, path: Path, base: str, count: int, epochs: int) -> PackageConfig:
    """A package of some of the pictures."""
    labels = dataset.labels()
    some = np.sort(np.concatenate([np.flatnonzero(labels == c)[: count // 10] for c in range(10)]))
    data = RoundData(samples=some, weights=np.ones(len(some)), first_epoch=0)
    store.selections.publish(Request(dataset, "some", 1, {"count": count}), "some", [data], seconds=0.0)
    torch.save(build_model(base, num_classes=10).state_dict(), path / "base.pth")
    given: dict[str, Any] = {"average": 4.0, "minimum": 1.0, "frequency": 0.1, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return PackageConfig(
        name="some", dataset=dataset.ref, selection="some", base=base, weights=str(path / "base.pth"), event="3",
        branchpoints=str(min(CANDIDATES, 3 if base == "preact8" else CANDIDATES)), epochs=epochs, patience=epochs,
        batch_size=50, **given,
    )  # fmt: skip
