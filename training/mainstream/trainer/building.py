"""Building a package: its base into the store, its candidates found by key or trained, the package published.

What: a `Build` is a config whose names are resolved. `prepare` computes the stem features of all candidates that are
missing, `train` makes one candidate, `finish` publishes the package. `build` does all of it in this process; the flow
`package_build` (`tamis.flows.mainstream.building`) has `train` as tasks.
How: every candidate has a key of what decides its weights and figures, and is in the store as soon as it is finished;
one under way has a checkpoint. So a build that was killed and is asked again trains what is left, and one that asks for
other branchpoints, other events or another name begins with the candidates that are there. The package itself is a row
that names them.
All candidates are in it with their figures; those that specialise more without being more accurate are marked as not on
the Pareto frontier, and no plan takes them.
Cost: one pass of the stem over the data, and of each candidate its epochs behind the branchpoint.
Source: A. Jiang, thesis, 2021, section 5.3.1.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import PackageError
from tamis.store.keys import key_of
from tamis.store.packages import Candidate, NewPackage, Published
from tamis.training.devices import describe, pick_device
from tamis.training.mainstream.base.branchpoints import Branchpoint
from tamis.training.mainstream.base.splitting import Split, split
from tamis.training.mainstream.events.measuring import discordance
from tamis.training.mainstream.trainer.bases import keep_base, open_base, pack_state
from tamis.training.mainstream.trainer.candidates import Tuned, fine_tune, predict
from tamis.training.mainstream.trainer.checkpoints import Saved
from tamis.training.mainstream.trainer.config import DIGEST, PackageConfig
from tamis.training.mainstream.trainer.data import Data, data_of
from tamis.training.mainstream.trainer.evaluating import doubts, judge, pack_hits, unpack_hits
from tamis.training.mainstream.trainer.features import IMAGES, Features, Stem, fitting, folder_of, make_room
from tamis.training.mainstream.trainer.sources import Source
from tamis.training.mainstream.trainer.timeline import figures_of, pieces_of
from tamis.training.planning import model_code

VERSION = 1  # of what a candidate is: raise it when the same question comes to have other weights or figures
KIND = "candidate"


class Build:
    """A package that is to be built.

    Args:
        store: the store.
        config: what is to be built.

    Attributes:
        config: with its names resolved to versions, and weights to their digest.
        base: the base model, in the store from here on.
        data: what is trained and measured on.
        branches: branchpoints of the candidates, rising.

    Raises:
        PackageError, BaseModelError, CheckpointError, DatasetNotFound, ...: naming what is wrong, before any training.
    """

    def __init__(self, store: Store, config: PackageConfig) -> None:
        self.store = store
        self.data: Data = data_of(store, config)
        self.base = keep_base(store, config, self.data.side)
        self.config = _pinned(config, self.data, self.base.source)
        self.branches = chosen(self.split.branchpoints, config.branchpoints)
        figures_of(config, self.data.dataset, self.data.event)  # is refused now, if it must be

    @cached_property
    def split(self) -> Split:
        """Of the base, on the CPU."""
        side, channels = self.data.side, self.config.channels
        return split(open_base(self.store, self.base), (channels, side, side))

    def key(self, branch: int) -> str:
        """Of a candidate: what decides its weights and figures."""
        payload: dict[str, Any] = {
            "version": VERSION, "base": self.base.key, "branch": self.split.branchpoints[branch].name, "at": branch,
            "data": self.data.what, "code": model_code(self.config.base), "event": self.data.event,
        }  # fmt: skip
        return key_of(KIND, payload | {"config": self.config.deciding()})

    def candidates(self) -> list[Candidate]:
        """Those that are finished, by branchpoint."""
        found = (self.store.packages.candidate(self.key(branch)) for branch in self.branches)
        return [one for one in found if one is not None]

    def missing(self) -> list[int]:
        """Branchpoints whose candidates are not finished."""
        return [branch for branch in self.branches if self.store.packages.candidate(self.key(branch)) is None]

    def prepare(
        self, *, device: str = "auto", rows: int = 256, progress: Callable[[int], None] | None = None
    ) -> list[int]:
        """Compute the stem features of the candidates that are missing, as far as the disk's limit allows.

        Args:
            device: "auto", "cpu", "cuda", ...
            rows: samples of a forward pass, at most.
            progress: called with the number of samples just done.

        Returns:
            The branchpoints whose features are kept.
        """
        opened, limit = self._features(device, rows), self.config.cache_gb * 1e9
        ours = {one.path(branch): one.bytes_of(branch) for one in opened for branch in one.keep}
        make_room(folder_of(self.data.train), limit - sum(ours.values()), ours)
        for features in opened:
            features.fill(progress)
        return [*opened[0].keep]

    def train(
        self, branch: int, *, device: str = "auto", rows: int = 256, progress: Callable[[int, int], None] | None = None
    ) -> Candidate:
        """Make a candidate, or find the one that is finished.

        Args:
            branch: index of its branchpoint.
            device: "auto", "cpu", "cuda", ...
            rows: samples of a forward pass of the stem, at most.
            progress: called with (epochs done, epochs at most).

        Raises:
            NonFiniteLoss: training diverged.
        """
        there = self.store.packages.candidate(self.key(branch))
        if there is not None:
            return there
        train, held = self._features(device, rows)
        rest = self.split.specialised(branch, len(self.data.classes), seed=self.config.seed).to(train.stem.device)
        saved, data = Saved(self.store.root, self.key(branch)), self.data
        tuned = fine_tune(rest, branch, train, data.fit, data.validation, self.config, progress, saved=saved)
        made = self._judged(branch, rest, held, tuned)
        finished = self.store.packages.finish_candidate(made, pack_state(rest.state_dict()))
        saved.forget()
        return finished

    def finish(self) -> Published:
        """Publish the package of the candidates, or find the one that is there.

        Raises:
            PackageError: a candidate is missing; the events' figures are neither given nor to be measured.
        """
        there = self.candidates()
        left = self.missing()
        if left:
            raise PackageError(f"Candidates at branchpoints {', '.join(map(str, left))} are missing: build them first.")
        data, config = self.data, self.config
        hits = [unpack_hits(one.metrics["hits"], one.metrics["held"]) for one in there]
        package = NewPackage(
            name=config.name, base=self.base.key, dataset=data.dataset.ref,
            selection=None if data.selection is None else data.selection.ref, classes=data.classes,
            event_class=data.classes[data.event], events=figures_of(config, data.dataset, data.event, there),
            image_size=data.side, seed=config.seed, config=config.recorded(),
            lineage={
                "evaluate_on": data.judged.ref, "held": len(data.held.samples_N), "fit": len(data.fit),
                "validation": len(data.validation), "branches": [one.branch for one in there],
                "discordance": [[discordance(one, other) for other in hits] for one in hits], "base": self.base.source,
            },
        )  # fmt: skip
        return self.store.packages.publish(package, [one.key for one in there])

    def _judged(self, branch: int, rest: torch.nn.Module, held: Features, tuned: Tuned) -> Candidate:
        """A trained candidate with its figures."""
        data, at = self.data, self.split.branchpoints[branch]
        labels, frames = held.source.labels_N, data.judged.frames()
        predicted = predict(rest, branch, held).numpy()
        pieces = [] if frames is None else pieces_of(frames, held.source.samples_N)
        found = judge(predicted, labels, data.event, pieces)
        metrics: dict[str, Any] = {
            "epoch": tuned.epoch, "epochs": tuned.epochs, "loss": tuned.loss, "history": list(tuned.history),
            "held": len(labels), "held_events": found.events, "misses": found.misses,
            "miss_after_miss": found.miss_after_miss, "hits": pack_hits(predicted == data.event),
            "doubts": doubts(found),
        }  # fmt: skip
        return Candidate(
            key=self.key(branch), base=self.base.key, branch=branch, branchpoint=at.name, frozen=at.layers,
            parameters=sum(one.numel() for one in rest.parameters()), accuracy=found.accuracy, tpr=found.tpr,
            fpr=found.fpr, correlation=found.correlation, metrics=metrics, seconds=tuned.seconds,
        )  # fmt: skip

    def _features(self, device: str, rows: int) -> tuple[Features, Features]:
        """Of the training and the held-out samples."""
        place = pick_device(device)
        key = describe(place)
        if key not in self._opened:
            model = open_base(self.store, self.base).to(place)
            side, channels = self.data.side, self.config.channels
            stem = Stem(model, split(model, (channels, side, side)))
            samples = len(self.data.train.samples_N) + len(self.data.held.samples_N)
            sizes = {branch: samples * stem.bytes_of(branch) for branch in {IMAGES, *self.missing()}}
            keep = fitting(sizes, self.config.cache_gb * 1e9)
            both: tuple[Source, Source] = (self.data.train, self.data.held)
            first, second = (Features(one, stem, self.base.key, keep, rows=rows) for one in both)
            self._opened[key] = first, second
        return self._opened[key]

    @cached_property
    def _opened(self) -> dict[str, tuple[Features, Features]]:
        return {}


def build(
    store: Store, config: PackageConfig, *, device: str = "auto", progress: Callable[[int, int], None] | None = None
) -> Published:
    """Build a package in this process, one candidate after the other, or find the one that is there.

    Args:
        store: the store.
        config: what is to be built.
        device: "auto", "cpu", "cuda", ...
        progress: called with (candidates done, candidates in all).
    """
    made = Build(store, config)
    left = made.missing()
    if left:
        made.prepare(device=device)
    for number, branch in enumerate(left, 1):
        made.train(branch, device=device)
        if progress is not None:
            progress(number, len(left))
    return made.finish()


def chosen(points: Sequence[Branchpoint], asked: str) -> tuple[int, ...]:
    """The branchpoints that are asked for, rising.

    Args:
        points: of the base.
        asked: "all", a number of them, or numbers or names with commas.

    Raises:
        PackageError: there is no such branchpoint, or not so many.
    """
    last, names = len(points) - 1, {one.name: one.index for one in points if one.name}
    parts = [part.strip() for part in asked.split(",")]
    if parts == ["all"]:
        return tuple(range(last + 1))
    if len(parts) == 1 and parts[0].isdecimal():
        count = int(parts[0])
        if not 1 <= count <= last + 1:
            raise PackageError(f"The base has {last + 1} branchpoints, not {count}: ask for 1 to {last + 1} of them.")
        return (last,) if count == 1 else tuple(round(i * last / (count - 1)) for i in range(count))
    found = {names[part] if part in names else int(part) if part.isdecimal() else -1 for part in parts}
    if not all(0 <= one <= last for one in found):
        wrong = next(p for p in parts if p not in names and not (p.isdecimal() and int(p) <= last))
        raise PackageError(
            f"The base has no branchpoint {wrong!r}: they are 0 to {last}, by name {', '.join([*names][:4])}, ...; "
            "`tamis package branchpoints` shows them."
        )
    return tuple(sorted(found))


def _pinned(config: PackageConfig, data: Data, source: str) -> PackageConfig:
    """A config whose names are those of contents, so that tasks and later builds mean the same."""

    def ref(one: Dataset | None) -> str | None:
        return None if one is None else one.ref

    weights = f"{DIGEST}{source.partition(DIGEST)[2]}" if config.weights is not None else None
    changed = {
        "dataset": data.dataset.ref, "weights": weights,
        "evaluate_on": ref(data.judged) if config.evaluate_on is not None else None,
        "selection": None if data.selection is None else data.selection.ref,
    }  # fmt: skip
    return config.model_copy(update=changed)
