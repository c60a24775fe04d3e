"""A file of curves small enough to work out by hand, and a package with the same latencies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tamis.store import Store
from tamis.store.packages import Candidate, EventFigures, NewPackage, Package

LAYERS = [4.0, 2.0, 1.0, 1.0]  # segments of 4 and 3 units, and a head of 1
CURVES: dict[str, Any] = {
    "layer_latencies": LAYERS,
    "frozen_accuracy_falsepositive": {
        "cats": [[0, 0.9, 0.05], [1, 0.95, 0.1], [3, 0.6, 0.2]],
        "buses": [[0, 0.8, 0.1], [1, 0.7, 0.1], [3, 0.5, 0.4]],
    },
    "source": "made up",
}


def written(folder: Path, **changed: Any) -> Path:
    """The file, with some members exchanged."""
    file = folder / "curves.json"
    file.write_text(json.dumps(CURVES | changed))
    return file


def people(store: Store, *, profile: bool = True, **changed: Any) -> Package:
    """A package people@1 of three candidates, one of them beaten; its base takes 4 and 3 s, and 1 s for the head."""
    packages = store.packages
    base = packages.bases.put(
        save({"stem": np.zeros(4, np.float32)}), model="mobilenet_v2", outputs=1000, channels=3, image_size=224,
        mean=[0.5] * 3, std=[0.5] * 3,
    )  # fmt: skip
    rows = ((0, 0.75, 0.9, 0.05), (1, 0.875, 0.95, 0.1), (2, 0.625, 0.6, 0.2))
    for branch, accuracy, tpr, fpr in rows:
        one = Candidate(f"{branch:032x}", base.key, branch, f"features.{branch}", branch, 5, accuracy, tpr, fpr)
        packages.finish_candidate(one, save({"head": np.full(3, branch, np.float32)}))
    if profile:
        packages.profiles.put(base.key, [4.0, 3.0], device="slow board", threads=1, rest=1.0)
    new = NewPackage(
        "people", base.key, "street@1", None, ("no", "yes"), "yes", EventFigures(2.5, 1.0, 0.125, 0.25), 224, 0,
        **changed,
    )  # fmt: skip
    return packages.publish(new, [f"{branch:032x}" for branch, *_ in rows]).package
