"""What the tests of packages share: a tiny base model, candidates of it, and a package of them in one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tamis.store import Store
from tamis.store.keys import key_of
from tamis.store.packages import Base, Candidate, EventFigures, NewPackage, Published
from tamis.store.packages.manifest import _digest

EVENTS = EventFigures(2.5, 1.0, 0.25, 0.125, measured=("frequency", "correlation"))
ACCURACY = (0.875, 0.9375, 0.75)  # by branch: 0 is beaten by 1, 2 shares most


def weights(number: int, size: int = 4) -> bytes:
    """safetensors of one layer; the header is text in it."""
    return save({"head.weight": np.full((2, size), number, np.float32), "head.bias": np.arange(2, dtype=np.float32)})


def base(store: Store, number: int = 0) -> Base:
    """A base model whose weights depend on a number."""
    return store.packages.bases.put(
        save({"stem.weight": np.full((3, 3), number, np.float32)}), model="tiny", outputs=10, channels=3, image_size=16,
        mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], source="made by hand",
    )  # fmt: skip


def candidate(of: Base, branch: int, seed: int = 0) -> Candidate:
    """A candidate that is not finished yet."""
    return Candidate(
        key=key_of("candidate", {"base": of.key, "branch": branch, "seed": seed}), base=of.key, branch=branch,
        branchpoint=f"block{branch}" if branch else "", frozen=3 * branch, parameters=1000 - 100 * branch,
        accuracy=ACCURACY[branch], tpr=0.75, fpr=0.0625, correlation=None if branch else 0.5,
        metrics={"epochs": branch}, seconds=1.5,
    )  # fmt: skip


def package(of: Base, name: str = "trains", seed: int = 0, **more: Any) -> NewPackage:
    """All of a package but its candidates."""
    new = NewPackage(
        name, of.key, "street@1", None, ("no train", "train"), "train", EVENTS, 16, seed, {"optimizer": "adam"},
        {"by": "hand"},
    )  # fmt: skip
    return replace(new, **more)


def publish(store: Store, name: str = "trains", seed: int = 0, branches: int = 3, **more: Any) -> Published:
    """A package of `branches` candidates on the tiny base."""
    of = base(store)
    done = [store.packages.finish_candidate(candidate(of, i, seed), weights(10 * seed + i)) for i in range(branches)]
    return store.packages.publish(package(of, name, seed, **more), [one.key for one in done])


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object], *, signed: bool = True) -> None:
    """Change a manifest, as somebody would who also makes its digest fit."""
    file = folder / "manifest.json"
    body = json.loads(file.read_text())
    change(body)
    if signed:
        body["digest"] = _digest({k: v for k, v in body.items() if k != "digest"})
    file.write_text(json.dumps(body))
