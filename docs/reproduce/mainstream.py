"""Mainstream's whole chain on OpenCV's vtest.avi: zone events, packages, plans at several budgets, F1 of events.

What: an application watches for one event in the street (three persons or more in a strip of it, ...), told by the
boxes that NanoDet finds and smoothed over a second. Its package is built on EfficientNet-Lite0 from the first part of
the video. Mainstream, No-Sharing and Max-Sharing are planned at several budgets, and their schedules replayed
on the rest of the video, which no candidate was trained on.
Replay: the answers of a candidate to all held-out frames are in the store; of these a schedule looks at every so many,
from each frame that it can begin with. A run of as many hits as there are votes is a report. An event with a report is
found; a gap with one is a false event. F1 is of the sums over all beginnings.
Run: Mainstream's plans are also executed on the held-out frames as `tamis package run` does, once each.
Data: a folder that has vtest.avi, nanodet.pt and efficientnet-lite0*.pth, in whatever folders below it.
Cost: about ten minutes a core for two applications with two candidates each, half of it for the boxes. What the store
has is not made again.
"""

import argparse
import itertools
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import vtest
from numpy.typing import NDArray

from tamis.flows.configs import DetectConfig, Resources
from tamis.flows.detections.detecting import detect
from tamis.flows.runners import Direct
from tamis.store import Store
from tamis.store.packages import Package
from tamis.store.relabelling import relabel
from tamis.store.video.adding import add_videos
from tamis.store.video.sources import Source
from tamis.training.devices import describe
from tamis.training.mainstream.runner.deploying import Deployer
from tamis.training.mainstream.runner.judging import Labels, Stretch
from tamis.training.mainstream.runner.running import Options, Runner
from tamis.training.mainstream.runner.sources import open_source
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall
from tamis.training.mainstream.scheduling.plan import Mode, Plan, plan
from tamis.training.mainstream.scheduling.workload import Workload
from tamis.training.mainstream.trainer.building import build
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.evaluating import unpack_hits
from tamis.training.mainstream.trainer.profiles import profile_base
from tamis.training.reports.mainstream.tasks import application, task_of

Bools = NDArray[np.bool_]

SITE, TRAIN = "vtest-all", 0.6
STRIP = "count(case when (b.x1 + b.x2) / 2 between {} and {} then 1 end) >= 3"
EVENTS = {  # of a frame's boxes b; the picture is 768 x 576, of which models see the middle 576 x 576
    "centre": STRIP.format(300, 500),
    "east": STRIP.format(500, 672),
    "near": "coalesce(bool_or(b.y2 > 400), false)",
    "crowd": "count(b.sample) >= 8",
    "few": "count(b.sample) <= 3",
}
QUERY = """
with frame as (
  select f.sample, f.seconds, {inside} as inside
  from frames f left join boxes b on b.run = '{run}' and b.sample = f.sample and b.score >= {score}
  where f.dataset = '{dataset}' group by all)
select sample, avg(inside::int) over (order by seconds rows between 5 preceding and 5 following) >= .5 as label
from frame
"""
CAMERA = 10.0  # frames a second
RATES, VOTES = (1.0, 2.0, 5.0, 10.0), (1, 2, 3)
MODES: tuple[Mode, ...] = ("mainstream", "no-sharing", "max-sharing")


class App(NamedTuple):
    """An application: its package, the labels of the held-out frames, and every candidate's hits on them."""

    package: Package
    inside: Bools
    hits: dict[int, Bools]


class Counted(NamedTuple):
    """What a schedule of one application came to, over all beginnings."""

    found: int
    events: int
    false: int

    @property
    def f1(self) -> float:
        """Of events."""
        return 2 * self.found / (self.events + self.found + self.false) if self.found else 0.0


def main() -> None:
    given = options()
    torch.set_num_threads(given.threads)
    store = Store.open_or_create(given.store)
    run = boxes(store, given.data)
    apps = {name: made(store, name, run, given) for name in given.events.split(",")}
    for name, app in apps.items():
        print(json.dumps(about(name, app)), flush=True)
    segments, head = profile(store, next(iter(apps.values())).package, given.threads)
    print(json.dumps({"ms a frame": round(1e3 * (sum(segments) + head), 2), "head": round(1e3 * head, 3)}), flush=True)
    work = workload(store, apps, segments, head)
    later = pictures(store, len(next(iter(apps.values())).inside))
    for share in map(float, given.budgets.split(",")):
        budget = share * len(apps) * (sum(segments) + head) * CAMERA
        for mode in MODES:
            print(json.dumps(row(share, mode, work, budget, apps)), flush=True)
        with suppress(BudgetTooSmall):
            print(json.dumps({"budget": share} | executed(store, plan(work, budget), later, apps)), flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--events", default="centre,east", help=f"some of {', '.join(EVENTS)}")
    parser.add_argument("--branchpoints", default="14,16", help="of candidates, as in `tamis package build`")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--decay", type=float, default=0.0)
    parser.add_argument("--truth-score", type=float, default=0.4)
    parser.add_argument("--budgets", default="0.06,0.12,0.25,0.5,1", help="in parts of what all whole models take")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def boxes(store: Store, data: Path) -> str:
    """The frames as a dataset, and the run that has NanoDet's boxes of all of them."""
    video, teacher = vtest.found_file(data, "vtest.avi"), vtest.watcher(data)
    add_videos(store.datasets, SITE, [Source(video, "street")], Path(store.root.url) / "shards" / SITE, fps="all")
    asked = DetectConfig(dataset=SITE, **teacher.model_dump())
    return detect(Direct(), store.root.url, asked, Resources(device="cpu"))["run"]


def made(store: Store, name: str, run: str, given: argparse.Namespace) -> App:
    """The labels, the parts by time and the package of one event."""
    sql = QUERY.format(inside=EVENTS[name], run=run, score=given.truth_score, dataset=SITE)
    labelled = relabel(store, SITE, sql=sql, classes=["no", "yes"], name=f"vtest-{name}")
    parts = store.datasets.split(labelled.ref, {"train": TRAIN, "later": 1 - TRAIN}, by_time=True)
    config = PackageConfig(
        name=name, dataset=parts[0].ref, evaluate_on=parts[1].ref, base="efficientnet-lite0",
        weights=vtest.found_file(given.data, "efficientnet-lite0*.pth"), event="yes", image_size=given.image_size,
        branchpoints=given.branchpoints, epochs=given.epochs, patience=given.patience, lr=given.lr, decay=given.decay,
    )  # fmt: skip
    package = build(store, config, device="cpu").package
    hits = {one.branch: unpack_hits(one.metrics["hits"], one.metrics["held"]) for one in package.candidates}
    return App(package, parts[1].labels() == 1, hits)


def about(name: str, app: App) -> dict[str, Any]:
    assert app.package.events is not None
    figures = app.package.events
    rates = [{"branch": c.branch, "accuracy": round(c.accuracy, 3), "tpr": round(c.tpr, 3), "fpr": round(c.fpr, 3),
              "epochs": c.metrics["epochs"], "seconds": round(c.seconds)} for c in app.package.candidates]  # fmt: skip
    return {
        "application": name, "average": round(figures.average, 2), "minimum": round(figures.minimum, 2),
        "frequency": round(figures.frequency, 3), "correlation": round(figures.correlation, 3),
        "held-out frames": len(app.inside), "held-out events": len(stretches(app.inside)[0]), "candidates": rates,
    }  # fmt: skip


def profile(store: Store, package: Package, threads: int) -> tuple[tuple[float, ...], float]:
    """Seconds a frame of the base's segments and of what follows them, measured once and kept."""
    device = describe(torch.device("cpu"))
    found = store.packages.profiles.get(package.base, device=device, threads=threads)
    if found is None:
        base = store.packages.bases.get(package.base)
        found = profile_base(store, base, device="cpu", threads=threads)
    return found.segments, found.rest or 0.0


def workload(store: Store, apps: dict[str, App], segments: tuple[float, ...], head: float) -> Workload:
    """The packages as applications to be scheduled."""
    tasks = {name: task_of(app.package, segments, head) for name, app in apps.items()}
    listed = tuple(application(task, name) for name, task in tasks.items())
    base = next(iter(apps.values())).package.base
    return Workload(listed, {base: segments}, RATES, VOTES)


def row(share: float, mode: Mode, work: Workload, budget: float, apps: dict[str, App]) -> dict[str, Any]:
    """A plan, what it expects, and what the held-out video says."""
    said: dict[str, Any] = {"budget": share, "mode": mode}
    try:
        found = plan(work, budget, mode)
    except BudgetTooSmall:
        return said | {"f1": None}
    counted = {one.name: count(apps[one.name], one.branch, one.fps, one.votes) for one in found.applications}
    chosen = {one.name: f"{one.branch} at {one.fps:g} fps, {one.votes} votes" for one in found.applications}
    held = sum(one.f1 for one in counted.values()) / len(counted)
    return said | {"planned f1": round(found.f1, 3), "held-out f1": round(held, 3), "used": used(found)} | chosen


def pictures(store: Store, count: int) -> Path:
    """A folder of the last so many frames, as they are in the dataset's shards."""
    folder = Path(store.root.url) / "later"
    folder.mkdir(exist_ok=True)
    if len(list(folder.iterdir())) < count:
        frames = list[bytes]()
        for shard in store.datasets.get(SITE).shards:
            with tarfile.open(shard.uri) as tar:
                members = [tar.extractfile(one) for one in tar if one.name.endswith(".jpg")]
                frames += [one.read() for one in members if one is not None]
        for number, data in enumerate(frames[-count:]):
            (folder / f"{number:06}.jpg").write_bytes(data)
    return folder


def executed(store: Store, found: Plan, folder: Path, apps: dict[str, App]) -> dict[str, Any]:
    """F1 of each application when a plan is run on the held-out frames."""
    labels = Labels("", {name: timed(app.inside) for name, app in apps.items()})
    schedule = Deployer(store, torch.device("cpu")).deploy(found)
    summary = Runner(schedule, open_source(str(folder), rate=f"{CAMERA:g}"), Options(), labels=labels).run()
    return {one["application"]: {name: one[name] for name in ("labelled", "found", "false", "f1")}
            for one in summary["applications"]} | {"speed": round(summary["speed"], 1)}  # fmt: skip


def timed(inside: Bools) -> list[Stretch]:
    """Events and gaps in seconds."""
    events, gaps = stretches(inside)
    both = [(a, b, True) for a, b in events] + [(a, b, False) for a, b in gaps]
    return [Stretch(a / CAMERA, b / CAMERA, event) for a, b, event in sorted(both)]


def used(found: Plan) -> float:
    return round(found.cost / found.budget, 2)


def count(app: App, branch: int, fps: float, votes: int) -> Counted:
    """Replay a schedule from each beginning."""
    stride = round(CAMERA / fps)
    return Counted(*np.sum([one(app.inside, app.hits[branch], range(a, len(app.inside), stride), votes)
                            for a in range(stride)], axis=0).tolist())  # fmt: skip


def one(inside: Bools, hits: Bools, looks: range, votes: int) -> Counted:
    """Events found, events, and gaps with a false one, where these frames are looked at."""
    events, gaps = stretches(inside)
    run, reports = 0, np.zeros(len(inside), bool)
    for frame in looks:
        run = run + 1 if hits[frame] else 0
        reports[frame] = run == votes
    found, false = (sum(bool(reports[a:b].any()) for a, b in some) for some in (events, gaps))
    return Counted(found, len(events), false)


def stretches(inside: Bools) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Where events begin and end, and where gaps do."""
    cuts = [0, *(np.flatnonzero(np.diff(inside)) + 1).tolist(), len(inside)]
    both = list(itertools.pairwise(cuts))
    return [at for at in both if inside[at[0]]], [at for at in both if not inside[at[0]]]


if __name__ == "__main__":
    main()
