"""A schedule of eight applications run on video: what the runner takes beside the layers that it runs.

EfficientNet-Lite0, 224 pixels, Max-Sharing at every frame of vtest.avi (`--data DIR`, in DIR/vtest) or of a video that
is made here. The thread that computes, from taking a frame to lines and rows of the store, is held against the same
segments and rests called in a bare loop on the same pixels: seconds of CPU of that thread, one thread of torch, in
turn frame by frame. The frames were decoded and scaled before; with another thread at that, which shares caches and
cores, the same figure is for information. What a run takes once, to begin and to end, is left out. Weights are drawn.
"""

import io
import itertools
import statistics
import uuid
from collections.abc import Iterator
from pathlib import Path
from time import thread_time

import torch
from benchlib import Result, folder
from torch import Tensor
from videosets import source

from tamis.store import Store
from tamis.store.keys import key_of
from tamis.store.packages import Base, Candidate, EventFigures, NewPackage
from tamis.training.mainstream.base.splitting import Split, split
from tamis.training.mainstream.runner.deploying import Deployer, Schedule
from tamis.training.mainstream.runner.pictures import Fit, Frame
from tamis.training.mainstream.runner.results import Lines, Recorder
from tamis.training.mainstream.runner.running import Options, Runner
from tamis.training.mainstream.runner.sources import Video
from tamis.training.mainstream.scheduling.plan import Plan, checked
from tamis.training.mainstream.trainer.bases import pack_state
from tamis.training.models.efficientnet_lite import MEAN, STD
from tamis.training.models.registry import ImageClassifier, build_model

APPLICATIONS = 8
MODEL = "efficientnet-lite0"


class Start(Video):
    """The first frames of a video."""

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(str(path))
        self._count = count

    def frames(self) -> Iterator[Frame]:
        return itertools.islice(super().frames(), self._count)


def run(quick: bool, data: Path | None) -> list[Result]:
    pixels, count = (32, 5) if quick else (224, 400)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with folder() as path:
            video = source(path, None if quick else data)
            store = Store.create(path / "store")
            schedule = Deployer(store, torch.device("cpu")).deploy(_plan(store, pixels))
            kept = _kept(schedule, video, count)
            ours, bare = _run(store, schedule, kept, kept)
            both, beside = _run(store, schedule, Start(video, count), kept)
    finally:
        torch.set_num_threads(threads)
    note = f"{APPLICATIONS} applications, {pixels} pixels, {count} frames of {video.name}, 1 thread"
    against = "its parts in a bare loop"
    return [
        Result("frame, by the runner, CPU", ours, "s", against, bare, 1.05, note),
        Result("frame, decoding beside it, CPU", both, "s", against, beside, None, note),
    ]


class Kept(Start):
    """Them, read and fitted before."""

    def __init__(self, path: Path, count: int, fit: Fit) -> None:
        super().__init__(path, count)
        self.kept = list(super().frames())
        self.fitted = [frame.fitted(fit) for frame in self.kept]

    def frames(self) -> Iterator[Frame]:
        return iter(self.kept)


def _run(store: Store, schedule: Schedule, frames: Start, kept: Kept) -> tuple[float, float]:
    """Median seconds of CPU a frame of the computing thread: of the runner, and of the layers alone, frame by frame."""
    times, fitted = list[tuple[float, float]](), iter(kept.fitted)

    def progress(_: float) -> None:
        began = thread_time()
        _bare(schedule, next(fitted))
        times.append((began, thread_time()))

    recorder = Recorder(store, uuid.uuid4().hex, source="a video", dataset="", config={})
    lines = Lines(io.StringIO(), "looks")
    Runner(schedule, frames, Options(), lines=lines, recorder=recorder, progress=progress).run()
    ours = [began - ended for (_, ended), (began, _) in itertools.pairwise(times)]
    return statistics.median(ours), statistics.median(ended - began for began, ended in times[1:])


@torch.inference_mode()
def _bare(schedule: Schedule, values: Tensor) -> None:
    (tree,) = schedule.trees.values()
    for segment in tree.module.segments:
        values = segment(values)
    for rest in tree.module.rests:
        rest(values)


def _kept(schedule: Schedule, video: Path, count: int) -> Kept:
    (tree,) = schedule.trees.values()
    return Kept(video, count, tree.fit)


def _plan(store: Store, pixels: int) -> Plan:
    network = build_model(MODEL, num_classes=1000, in_channels=3, seed=0)
    base = store.packages.bases.put(
        pack_state(network.state_dict()), model=MODEL, outputs=1000, channels=3, image_size=pixels, mean=MEAN, std=STD
    )
    cut = split(ImageClassifier(network, MEAN, STD).eval(), (3, pixels, pixels))
    none = {"f1": None, "cost": None, "needed": 1.0}
    return checked(
        {
            "version": 1, "mode": "max-sharing", "shared": True, "budget": 1.0, "cost": 1.0, "f1": 0.0,
            "applications": [_application(store, base, cut, f"app{i}") for i in range(APPLICATIONS)], "moves": [],
            "baselines": {"no-sharing": none, "max-sharing": none}, "bases": {base.key: [0.0] * cut.segments},
            "profiles": {},
        }
    )  # fmt: skip


def _application(store: Store, base: Base, cut: Split, name: str) -> dict[str, object]:
    at = cut.branchpoints[-1]
    one = Candidate(
        key=key_of("candidate", {"name": name}), base=base.key, branch=at.index, branchpoint=at.name, frozen=at.layers,
        parameters=at.parameters, accuracy=0.5, tpr=0.5, fpr=0.5,
    )  # fmt: skip
    rest = cut.specialised(at.index, 2, seed=int(name.removeprefix("app")))
    done = store.packages.finish_candidate(one, pack_state(rest.state_dict()))
    new = NewPackage(
        name, base.key, "none@1", None, ("no", "yes"), "yes", EventFigures(1, 1, 0.5, 0), base.image_size, 0
    )
    ref = store.packages.publish(new, [done]).package.ref
    return {
        "name": name, "package": ref, "base": base.key, "branch": at.index, "branchpoint": at.name, "fps": 100.0,
        "votes": 1, "f1": 0.0, "recall": 0.0, "precision": 0.0,
    }  # fmt: skip
