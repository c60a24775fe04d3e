"""What a package is made of, as plain data: a base model, candidates, event figures.

Each has a key of its content. A base's covers its weights; a candidate's `content` covers its weights and figures,
while its `key` is that of what was asked; a package's covers all that is in it but its name and its lineage.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from tamis.store.keys import key_of


@dataclass(frozen=True)
class Base:
    """A base model. Equal weights used alike are one base, whatever they are called elsewhere.

    Attributes:
        model: its name in the registry of models.
        outputs: numbers that it answers with, for one image.
        channels: of an image.
        image_size: side of an image, pixels.
        mean, std: [channels] what images are normalised by, of 0 ... 1.
        blob: sha256 of its weights (safetensors).
        bytes: of them.
        source: where the weights are from, for people; no part of the key.
    """

    model: str
    outputs: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blob: str
    bytes: int
    source: str = field(default="", compare=False)

    @cached_property
    def key(self) -> str:
        """32 hex characters."""
        said = asdict(self)
        del said["source"]
        return key_of("base", said | {"mean": _reals(self.mean), "std": _reals(self.std)})


@dataclass(frozen=True)
class Candidate:
    """A fine-tuned model: a branchpoint of a base, and the layers behind it.

    Attributes:
        key: of what was asked (base, branch, data, selection, config, seed); says nothing of the answer.
        base: key of its base.
        branch: index of the branchpoint: segments that are frozen, 0 for none.
        branchpoint: name of the last frozen block, "" for none.
        frozen: layers that are frozen.
        parameters: numbers in the specialised layers.
        accuracy, tpr, fpr: shares of held-out frames: right; hit among those of events; hit among the others.
        correlation: of misses in successive frames of an event, 0 ... 1; None where it was not measured.
        metrics: anything else worth knowing, plain JSON.
        seconds: that training it took; no part of the content.
        blob: sha256 of the specialised layers (safetensors, the new head included); given when it is stored.
        bytes: of them.
        pareto: in a package, whether no other candidate shares as much at a higher accuracy (`pareto_of`).
    """

    key: str
    base: str
    branch: int
    branchpoint: str
    frozen: int
    parameters: int
    accuracy: float
    tpr: float
    fpr: float
    correlation: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = field(default=0.0, compare=False)
    blob: str = ""
    bytes: int = 0
    pareto: bool = field(default=False, compare=False)

    @cached_property
    def content(self) -> str:
        """32 hex characters over its weights and figures."""
        said = asdict(self)
        del said["seconds"], said["pareto"]
        figures = ("accuracy", "tpr", "fpr", "correlation")
        return key_of("candidate", said | {name: _real(said[name]) for name in figures})


@dataclass(frozen=True)
class EventFigures:
    """The events that an application looks for.

    Attributes:
        average, minimum: length, s.
        frequency: share of the time inside events, above 0 and at most 1.
        correlation: of misses in successive frames of an event, 0 ... 1.
        measured: which of the four were measured in labelled video; the others were given.
    """

    average: float
    minimum: float
    frequency: float
    correlation: float
    measured: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewPackage:
    """A package that is to be published.

    Attributes:
        name: its name.
        base: key of the base.
        dataset: name@version that the candidates were trained on.
        selection: name@version, or key, of the selection that they were trained on; None for all samples.
        classes: names of what a candidate tells apart, in order.
        event_class: the one of them that is the event.
        events: its figures; None where they are not known.
        image_size: side of an image, pixels.
        seed: of the training.
        config: how the candidates were trained, plain JSON.
        lineage: what else is worth knowing of its making, plain JSON; no part of the key.
    """

    name: str
    base: str
    dataset: str
    selection: str | None
    classes: tuple[str, ...]
    event_class: str | None
    events: EventFigures | None
    image_size: int
    seed: int
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    lineage: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Package(NewPackage):
    """A published package.

    Attributes:
        key: of its content.
        version: of its name: 1, 2, ...
        created: when it was published.
        candidates: by branch, then key.
    """

    key: str = ""
    version: int = 0
    created: dt.datetime | None = field(default=None, compare=False)
    candidates: tuple[Candidate, ...] = ()

    @property
    def ref(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def fit(self) -> str:
        """How it takes pictures: "crop", "stretch" or "pad"."""
        return str(self.config.get("fit", "crop"))

    @property
    def tree(self) -> str:
        """What it can share layers with: its base's key, and how it takes pictures where that is not by cropping."""
        return self.base if self.fit == "crop" else f"{self.base}+{self.fit}"


def package_key(package: NewPackage, candidates: Iterable[Candidate]) -> str:
    """32 hex characters over all of a package but its name, its lineage and times."""
    said = asdict(package)
    for name in ("name", "lineage", "key", "version", "created", "candidates"):
        said.pop(name, None)
    if package.events is not None:  # which of them were measured is how they came about, and no other question
        figures = (package.events.average, package.events.minimum, package.events.frequency, package.events.correlation)
        said["events"] = _reals(figures)
    return key_of("package", said | {"candidates": sorted(one.content for one in candidates)})


def pareto_of(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Candidates with `pareto` set, by branch and key.

    A candidate is on the Pareto frontier of (shared layers, accuracy) if no other is at least as good in both and
    better in one (A. Jiang, thesis, 2020, chapter 5: the M-Trainer hands on the frontier of each application).
    """
    given = sorted(candidates, key=lambda one: (one.branch, one.key))

    def beaten(one: Candidate) -> bool:
        return any(
            other.branch >= one.branch
            and other.accuracy >= one.accuracy
            and (other.branch, other.accuracy) != (one.branch, one.accuracy)
            for other in given
        )

    return tuple(replace(one, pareto=not beaten(one)) for one in given)


def _reals(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values]  # 1 and 1.0 are one number, and two texts


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)
