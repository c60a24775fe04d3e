"""Eight applications over one EfficientNet-Lite0: what sharing saves (figure 5.4a), and what the tree itself costs.

Frames come one at a time, 224 pixels, from vtest.avi (`--data DIR`, in DIR/vtest) or a video that is made here. Each
application has its own copies of the layers behind a branchpoint; No-Sharing is branchpoint 0, Max-Sharing the last, at
which an application has its classifier only. The tree is held against its own segments and rests called in a bare loop,
in seconds of CPU. All of it takes turns in one process, on the same cores. Weights are drawn: they change no speed.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchlib import Result, cpu_seconds, folder, medians
from torch import Tensor
from videosets import source

from tamis.training.mainstream.base.splitting import Split, split
from tamis.training.mainstream.base.tree import SharedTree, Specialised
from tamis.training.models.efficientnet_lite import MEAN, STD
from tamis.training.models.registry import ImageClassifier, build_model

APPLICATIONS = 8


def run(quick: bool, data: Path | None) -> list[Result]:
    pixels, turns = (32, 1) if quick else (224, 9)
    base = split(ImageClassifier(build_model("efficientnet-lite0", num_classes=1000), MEAN, STD), (3, pixels, pixels))
    with folder() as path:
        frames = _frames(source(path, None if quick else data), pixels, 2)
    some = sorted({0, *(() if quick else (4, 8, 12, base.segments - 1)), base.segments})
    trees = [_tree(base, branch) for branch in some]
    seconds = [taken / len(frames) for taken in medians(turns, *(partial(_each, tree, frames) for tree in trees))]
    whole, bare = (
        taken / len(frames)
        for taken in medians(
            4 * turns, partial(_each, trees[-1], frames), partial(_bare, trees[-1], frames), clock=cpu_seconds
        )
    )
    note = f"{APPLICATIONS} applications, {pixels} pixels, {torch.get_num_threads()} threads"
    results = [
        Result(
            f"frame, shared up to {base.branchpoints[branch].name}", ours, "s", "No-Sharing", seconds[0],
            0.2 if branch == base.segments else None, note,
        )
        for branch, ours in zip(some[1:], seconds[1:], strict=True)
    ]  # fmt: skip
    return [*results, Result("frame, Max-Sharing, CPU", whole, "s", "its parts in a bare loop", bare, 1.05, note)]


def _tree(base: Split, branch: int) -> SharedTree:
    apps = [Specialised(f"app{i}", branch, base.specialised(branch, 2, seed=i)) for i in range(APPLICATIONS)]
    return SharedTree(base, apps)


def _each(tree: Callable[[Tensor], object], frames: list[Tensor]) -> None:
    for frame in frames:
        tree(frame)


@torch.inference_mode()
def _bare(tree: SharedTree, frames: list[Tensor]) -> None:
    for values in frames:
        for segment in tree.segments:
            values = segment(values)
        for rest in tree.rests:
            rest(values)


def _frames(video: Path, pixels: int, count: int) -> list[Tensor]:
    """The first frames of a video: uint8 [1, 3, H, W] each."""
    import av

    found = list[Tensor]()
    with av.open(str(video)) as container:
        for frame in container.decode(container.streams.video[0]):
            picture: Any = frame.reformat(width=pixels, height=pixels, format="rgb24").to_ndarray()
            found.append(torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous())
            if len(found) == count:
                return found
    return found
