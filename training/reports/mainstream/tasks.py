"""What applications are drawn from: tasks, each an accuracy curve over one base model.

What: `stored` takes the packages of a store, with the latencies of a stored profile; `published` a JSON file of curves.
Either way a task has true and false positive rate of its candidate at each branchpoint, and a base its latencies.
File: a JSON object with `layer_latencies`, a number a layer; and `frozen_accuracy_falsepositive`, by task a list of
[frozen layers, accuracy, false positive rate]. Accuracy stands for the true positive rate. All tasks have the same
frozen layers, rising. Other members are ignored.
How: candidates that no plan takes (not on the Pareto frontier) are left out. Of a file's curves, accuracy never falls
as sharing does: a candidate that specialises more can do what one that specialises less does (as the authors make it).
Cost: none to speak of.
Source: A. H. Jiang, thesis, section 5.5.1.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tamis.store import Store
from tamis.store.packages import Package
from tamis.store.packages.profiles import Profile
from tamis.training.errors import ReportError
from tamis.training.mainstream.events.model import Events
from tamis.training.mainstream.scheduling.workload import Application, Option

_LARGEST = 1 << 22  # bytes of a file of curves
_Share = Annotated[float, Field(ge=0, le=1)]
_Layers = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Task:
    """What one application may be.

    Attributes:
        name: of it: a package's name@version, or a file's.
        base: key of its base model.
        options: its candidates, by branch.
        events: what it was built for; None where that is not known.
        package: name@version, "" for none.
    """

    name: str
    base: str
    options: tuple[Option, ...]
    events: Events | None = None
    package: str = ""


@dataclass(frozen=True)
class Tasks:
    """Tasks with the latencies of their bases.

    Attributes:
        tasks: one or more.
        bases: latency of each segment of each base, by its key.
        unit: of latencies and budgets: "s" or "units".
        source: where the curves are from, for titles.
    """

    tasks: tuple[Task, ...]
    bases: Mapping[str, tuple[float, ...]]
    unit: str
    source: str

    def whole(self) -> float:
        """Latency of a whole model, the mean over the tasks."""
        return float(np.mean([whole_of(task, self.bases[task.base]) for task in self.tasks]))


def whole_of(task: Task, segments: Sequence[float]) -> float:
    """Latency of a task's whole model: its stem and its own layers."""
    deepest = task.options[-1]
    return sum(segments[: deepest.branch]) + own_of(deepest, segments)


def own_of(option: Option, segments: Sequence[float]) -> float:
    """Latency of a candidate's own layers."""
    return sum(segments[option.branch :]) if option.seconds is None else option.seconds


def task_of(package: Package, segments: Sequence[float], head: float) -> Task:
    """A package as a task.

    Args:
        package: with one candidate or more.
        segments: seconds a frame of each segment of its base.
        head: seconds a frame of what follows the last branchpoint.

    Raises:
        ReportError: a candidate branches off behind the last segment that was measured.
    """
    best = [one for one in package.candidates if one.pareto]
    deepest = max(one.branch for one in best)
    if deepest > len(segments):
        raise ReportError(
            f"Package {package.ref} has a candidate at branchpoint {deepest}, the profile of its base {len(segments)} "
            "segments: measure the base again."
        )
    options = [
        Option(one.branch, one.tpr, one.fpr, one.accuracy, sum(segments[one.branch :]) + head, one.branchpoint)
        for one in best
    ]
    figures = package.events
    events = (
        None if figures is None else Events(figures.average, figures.minimum, figures.frequency, figures.correlation)
    )
    return Task(package.ref, package.base, _one_a_branch(options), events, package.ref)


def application(task: Task, name: str, events: Events | None = None) -> Application:
    """A task as an application to be scheduled.

    Args:
        task: the task.
        name: of the application.
        events: in place of the task's own.

    Raises:
        ReportError: there are no events.
    """
    told = task.events if events is None else events
    if told is None:
        raise ReportError(f"Package {task.name} does not say what its events are like: build it with their figures.")
    return Application(name, task.base, told, task.options, task.package)


def stored(store: Store, refs: Sequence[str], device: str | None = None) -> Tasks:
    """Packages of a store with the newest profiles of their bases.

    Args:
        store: the store.
        refs: name or name@version, one or more, each once.
        device: name of the device whose profile is taken; None for the newest, whatever its device.

    Raises:
        PackageNotFound: there is no such package.
        ReportError: a package is named twice, or its base was not measured.
    """
    packages = [store.packages.get(ref) for ref in refs]
    if len({one.key for one in packages}) < len(packages):
        raise ReportError("A package is named twice: name each once.")
    profiles = {key: profile_of(store, key, device) for key in dict.fromkeys(one.base for one in packages)}
    tasks = tuple(task_of(one, profiles[one.base].segments, profiles[one.base].rest or 0.0) for one in packages)
    where = ", ".join(dict.fromkeys(one.device for one in profiles.values()))
    bases = {key: one.segments for key, one in profiles.items()}
    return Tasks(tasks, bases, "s", f"{', '.join(one.ref for one in packages)}; {where}")


def profile_of(store: Store, base: str, device: str | None = None) -> Profile:
    """The newest profile of a base that takes a frame at a time, or several if there is no such.

    Raises:
        ReportError: there is none.
    """
    found = [one for one in store.packages.profiles.all() if one.base == base and device in (None, one.device)]
    if not found:
        model = store.packages.bases.get(base).model
        there = [one.device for one in store.packages.profiles.all() if one.base == base]
        on = "" if device is None else f" on {device!r}"
        have = f"; measured on: {', '.join(there)}" if there else ""
        raise ReportError(
            f"Base model {model} ({base[:12]}) has no latency profile{on}{have}: `tamis package profile` measures it."
        )
    return max(found, key=lambda one: (one.batch == 1, str(one.created)))


class _Curves(BaseModel):
    """A file of curves."""

    model_config = ConfigDict(frozen=True)

    layer_latencies: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(min_length=1)
    frozen_accuracy_falsepositive: dict[str, tuple[tuple[_Layers, _Share, _Share], ...]] = Field(min_length=1)

    @model_validator(mode="after")
    def _alike(self) -> "_Curves":
        if not sum(self.layer_latencies):
            raise ValueError("there is no latency above 0")
        layers = [[row[0] for row in rows] for rows in self.frozen_accuracy_falsepositive.values()]
        if any(other != layers[0] for other in layers):
            raise ValueError("tasks have different numbers of frozen layers")
        if not layers[0] or any(b <= a for a, b in itertools.pairwise(layers[0])):
            raise ValueError("frozen layers do not rise")
        if layers[0][0] != 0 or layers[0][-1] >= len(self.layer_latencies):
            raise ValueError(f"frozen layers go from 0 to fewer than the {len(self.layer_latencies)} latencies")
        return self


def published(path: str | os.PathLike[str]) -> Tasks:
    """Curves of a file, see above; latencies and budgets are in its units.

    Raises:
        ReportError: it cannot be read, or is not of that form; the first thing that is wrong.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _LARGEST:
            raise ReportError(f"{file} has more than {_LARGEST:,} bytes: expected a JSON file of curves.")
        given = _Curves.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ReportError(f"Curves {file} cannot be read ({error.strerror}): give a file that is here.") from error
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "file"
        raise ReportError(
            f"{file} has no curves: {at}: {first['msg']} (docs/how-to/mainstream.md says what it has)."
        ) from None
    curves = given.frozen_accuracy_falsepositive
    layers = [row[0] for row in next(iter(curves.values()))]
    lasting = np.asarray(given.layer_latencies)
    segments = tuple(float(lasting[a:b].sum()) for a, b in itertools.pairwise(layers))
    head = float(lasting[layers[-1] :].sum())
    tasks = tuple(_published(name, rows, segments, head) for name, rows in curves.items())
    return Tasks(tasks, {"base": segments}, "units", file.name)


def _published(name: str, rows: Sequence[tuple[int, float, float]], segments: Sequence[float], head: float) -> Task:
    accuracy = np.maximum.accumulate([row[1] for row in rows][::-1])[::-1].tolist()
    options = (
        Option(b, right, row[2], right, sum(segments[b:]) + head, f"{row[0]} layers")
        for b, (right, row) in enumerate(zip(accuracy, rows, strict=True))
    )
    return Task(name, "base", tuple(options))


def _one_a_branch(options: Sequence[Option]) -> tuple[Option, ...]:
    """By branch; of several candidates at one the most accurate."""
    best: dict[int, Option] = {}
    for one in sorted(options, key=lambda option: (option.branch, option.accuracy)):
        best[one.branch] = one
    return tuple(best.values())
