"""Training the candidates of a package with stem features that are computed once, against each by itself.

By itself a candidate decodes its images and runs the frozen stem in every epoch, and trains the layers behind it; with
features kept, one pass over the images serves all candidates. Steps and epochs are the same. What can be saved depends
on where candidates branch off: with the share x of a network's time before the branchpoint, and a backward pass of
twice a forward pass, an epoch by itself costs x + 3 (1 - x), with features 3 (1 - x): half where x is 3/4 on average,
as at the last eight branchpoints, where the schedules of many applications lie. Eight that are spread over a base, x
about 1/2, cost three quarters at best: they are shown beside.
Pictures are CIFAR-10's with --data, else digits; the base is untrained, which changes no time.
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
from tamis.training.mainstream.trainer.building import Build, chosen
from tamis.training.mainstream.trainer.candidates import fine_tune
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.features import IMAGES, Features
from tamis.training.models.registry import build_model

CANDIDATES = 8


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
    dataset, about, count = _dataset(store, path, quick, data)
    made = Build(store, _config(store, dataset, path, about, count, epochs=1 if quick else 8))
    last = made.split.segments
    several = min(CANDIDATES, last + 1)
    spread, late = chosen(made.split.branchpoints, str(several)), tuple(range(last + 1 - several, last + 1))
    used = sorted({*spread[:2], last} if quick else {*spread, *late})
    source, stem = made.data.train, made._features("cpu", 256)[0].stem
    alone, cached = Features(source, stem, "alone", ()), Features(source, stem, "cached", (IMAGES, *used))
    _tuned(made, last, alone)  # warms up
    started = perf_counter()
    cached.fill()
    filled = perf_counter() - started
    seconds = {
        branch: (_tuned(made, branch, cached), _tuned(made, branch, alone))
        for branch in used
    }  # fmt: skip
    note = f"{about['base']}, {count} images, {made.config.epochs} epochs, one thread"
    results = list[Result]()
    for name, branches, target in (("the last branchpoints", late, 0.5), ("spread over the base", spread, None)):
        there = [branch for branch in branches if branch in seconds]
        ours, theirs = (sum(seconds[branch][which] for branch in there) for which in (0, 1))
        what, said = f"{len(there)} candidates, {name}", f"{note}, {filled:.1f} s of it features"
        results.append(Result(what, filled + ours, "s", "each by itself", theirs, target, said))
    return results


def _tuned(made: Build, branch: int, features: Features) -> float:
    """Wall seconds of one candidate."""
    rest, started = made.split.specialised(branch, len(made.data.classes), seed=0), perf_counter()
    fine_tune(rest, branch, features, made.data.fit, made.data.validation, made.config)
    return perf_counter() - started


def _dataset(store: Store, path: Path, quick: bool, data: Path | None) -> tuple[Dataset, dict[str, Any], int]:
    """The pictures, the base that suits them, and how many are trained on."""
    tars = [] if data is None else sorted(data.glob("train-*.tar"))
    if tars:
        lite = {"base": "efficientnet-lite0", "image_size": 64}
        return store.datasets.add("pictures", tars[:1]), lite, 120 if quick else 200
    base = "preact8" if quick else "preact56"
    return store.datasets.add("pictures", pack_digits(path / "digits")), {"base": base}, 120 if quick else 300


def _config(
    store: Store, dataset: Dataset, path: Path, about: dict[str, Any], count: int, epochs: int
) -> PackageConfig:
    """A package of some of the pictures."""
    labels = dataset.labels()
    some = np.sort(np.concatenate([np.flatnonzero(labels == c)[: count // 10] for c in range(10)]))
    data = RoundData(samples=some, weights=np.ones(len(some)), first_epoch=0)
    store.selections.publish(Request(dataset, "some", 1, {"count": count}), "some", [data], seconds=0.0)
    torch.save(build_model(about["base"], num_classes=10).state_dict(), path / "base.pth")
    given: dict[str, Any] = {"average": 4.0, "minimum": 1.0, "frequency": 0.1, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return PackageConfig(
        name="some", dataset=dataset.ref, selection="some", weights=str(path / "base.pth"), event="3",
        epochs=epochs, patience=epochs, batch_size=50, **about, **given,
    )  # fmt: skip
