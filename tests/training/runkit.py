"""What tests of the runner share: a tiny base, packages of it made by hand, plans, and videos with bright frames.

The base is a preact8 with drawn weights. A candidate has the base's own layers and a head that tells bright images from
dark ones: the line between the mean features of both. So every candidate gives the same answers, whatever it shares.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from videokit import H, W, video

from tamis.store import Store
from tamis.store.keys import key_of
from tamis.store.packages import Base, Candidate, EventFigures, NewPackage
from tamis.training.mainstream.base.splitting import Split, split
from tamis.training.mainstream.scheduling.plan import Plan, checked, write_plan
from tamis.training.mainstream.trainer.bases import pack_state
from tamis.training.models.registry import ImageClassifier, build_model

SIDE, CHANNELS, MODEL = 16, 3, "preact8"
BRIGHT, DARK = 200, 40
App = tuple[str, int, float, int]  # name, branch, fps, votes


@cache
def network() -> ImageClassifier:
    """The base model."""
    return ImageClassifier(
        build_model(MODEL, num_classes=2, in_channels=CHANNELS, seed=3), (0.5,) * 3, (0.25,) * 3
    ).eval()


@cache
def parts() -> Split:
    """It, split."""
    return split(network(), (CHANNELS, SIDE, SIDE))


@cache
def head() -> tuple[Tensor, Tensor]:
    """Weights [2, features] and bias [2] that tell bright images (class 1) from dark ones."""
    images = torch.stack([torch.full((CHANNELS, SIDE, SIDE), level, dtype=torch.uint8) for level in (DARK, BRIGHT)])
    with torch.inference_mode():
        dark, bright = parts().segment(0, parts().segments)(images)
        dark, bright = dark.flatten(), bright.flatten()
        way = 20 * (bright - dark) / (bright - dark).square().sum()
        middle = way @ (dark + bright) / 2
        return torch.stack([-way, way]), torch.stack([middle, -middle])


def keep_base(store: Store) -> Base:
    """The base in a store."""
    return store.packages.bases.put(
        pack_state(network().network.state_dict()), model=MODEL, outputs=2, channels=CHANNELS, image_size=SIDE,
        mean=(0.5,) * 3, std=(0.25,) * 3, source="drawn",
    )  # fmt: skip


def package(
    store: Store, name: str, branches: Sequence[int] | None = None, dataset: str = "none@1",
    claims: Mapping[int, float] | None = None, fit: str | None = None,
) -> str:  # fmt: skip
    """A published package with candidates at some branchpoints, whose accuracies are claimed so; name@version."""
    base, cut, made = keep_base(store), parts(), list[Candidate]()
    for branch in range(cut.segments + 1) if branches is None else branches:
        weights = network().state_dict()
        state = {entry: weights[entry] for entry in cut.rest_names(branch)}
        state[f"{cut.head}.weight"], state[f"{cut.head}.bias"] = head()
        at, claim = cut.branchpoints[branch], (claims or {}).get(branch, 0.9)
        one = Candidate(
            key=key_of("candidate", {"name": name, "branch": branch}), base=base.key, branch=branch,
            branchpoint=at.name, frozen=at.layers, parameters=at.parameters, accuracy=claim, tpr=claim, fpr=1 - claim,
        )  # fmt: skip
        made.append(store.packages.finish_candidate(one, pack_state(state)))
    figures = EventFigures(1.0, 0.5, 0.3, 0.0)
    config = {} if fit is None else {"fit": fit}
    new = NewPackage(name, base.key, dataset, None, ("dark", "bright"), "bright", figures, SIDE, 0, config)
    return store.packages.publish(new, [one.key for one in made]).package.ref


def plan(
    store: Store, applications: Sequence[App], *, shared: bool = True, packages: dict[str, str] | None = None
) -> Plan:
    """A plan of applications, each of a package of its name unless told otherwise."""
    base, known = keep_base(store), packages or {}
    planned = [
        {
            "name": name, "package": known.get(name) or package(store, name, [branch]), "base": base.key,
            "branch": branch, "branchpoint": parts().branchpoints[branch].name, "fps": float(fps), "votes": votes,
            "f1": 0.8, "recall": 0.8, "precision": 0.8,
        }
        for name, branch, fps, votes in applications
    ]  # fmt: skip
    none = {"f1": None, "cost": None, "needed": 1.0}
    return checked(
        {
            "version": 1, "mode": "mainstream" if shared else "no-sharing", "shared": shared, "budget": 1.0,
            "cost": 0.5, "f1": 0.8, "applications": planned, "moves": [],
            "baselines": {"no-sharing": none, "max-sharing": none},
            "bases": {base.key: [0.001] * parts().segments}, "profiles": {},
        }
    )  # fmt: skip


def planned(store: Store, path: Path, applications: Sequence[App], **more: Any) -> Path:
    """The file of a plan."""
    write_plan(path, plan(store, applications, **more))
    return path


def lit(*stretches: tuple[int, int]) -> Callable[[int], Any]:
    """Pictures that are bright in some stretches of frames, [first, after)."""

    def picture(i: int) -> Any:
        return np.full((H, W, 3), BRIGHT if any(a <= i < b for a, b in stretches) else DARK, np.uint8)

    return picture


def film(path: Path, frames: int, *stretches: tuple[int, int], rate: int = 10) -> Path:
    """A video that is bright in some stretches."""
    return video(path, frames, rate=rate, picture=lit(*stretches))
