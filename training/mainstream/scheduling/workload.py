"""What is to be scheduled: applications with their candidates, base models with their latencies, rates and votes.

What: a `Workload`, and `tabulate`, which gives every choice of every application its event F1: the best over the votes.
How: one call of the event model for all applications; options are padded to the longest list.
Cost: N O R V evaluations of the event model.

Segments lie between the branchpoints of a base: segment s before branchpoint s + 1. An option that branches at b shares
the first b segments; b = 0 shares nothing, b = S everything but what comes last.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tamis.training.mainstream.events.model import Events, Scores, event_scores
from tamis.training.mainstream.scheduling.errors import WorkloadError
from tamis.training.mainstream.scheduling.table import Floats, Ints, Table


@dataclass(frozen=True)
class Option:
    """One candidate of an application.

    Attributes:
        branch: how many segments of the base it shares.
        tpr: true positive rate of single frames.
        fpr: false positive rate of single frames.
        accuracy: of single frames.
        seconds: measured seconds a frame of its own layers; None: those of the base after the branch.
        name: of the branchpoint.
    """

    branch: int
    tpr: float
    fpr: float
    accuracy: float
    seconds: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Application:
    """What one application can run as.

    Attributes:
        name: unlike any other's.
        base: key of its base model.
        events: what it looks for.
        options: its candidates.
        package: name@version of its M-Package.
    """

    name: str
    base: str
    events: Events
    options: tuple[Option, ...]
    package: str = ""


@dataclass(frozen=True)
class Workload:
    """Applications that share a device.

    Attributes:
        applications: none, one or more.
        bases: seconds a frame of each base's segments, by key.
        rates: frames a second that may be chosen, rising.
        votes: numbers of consecutive hits that may be chosen, rising.

    Raises:
        WorkloadError: names twice, options beyond their base, numbers out of range.
    """

    applications: tuple[Application, ...]
    bases: Mapping[str, Sequence[float]]
    rates: tuple[float, ...]
    votes: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        _rising("rates", self.rates, "frames a second above 0")
        _rising("votes", self.votes, "whole numbers from 1")
        if any(v != int(v) for v in self.votes):
            raise WorkloadError(f"Votes are {list(self.votes)}; expected whole numbers.")
        for base, segments in self.bases.items():
            if not np.all(np.isfinite(segments)) or any(s < 0 for s in segments):
                raise WorkloadError(f"Base {base} has latencies {list(segments)}; expected seconds of 0 or more.")
        names = Counter(a.name for a in self.applications)
        if twice := [name for name, count in names.items() if count > 1]:
            raise WorkloadError(f"Application {twice[0]} is there {names[twice[0]]} times; expected a name for each.")
        for application in self.applications:
            self._check(application)

    def _check(self, application: Application) -> None:
        name = application.name
        if application.base not in self.bases:
            raise WorkloadError(
                f"Application {name} is of base {application.base}, which has no latencies; there are: "
                f"{', '.join(self.bases) or 'none'}. Profile the base first."
            )
        if not application.options:
            raise WorkloadError(f"Application {name} has no candidates; expected at least one.")
        depth = len(self.bases[application.base])
        for option in application.options:
            if not 0 <= option.branch <= depth:
                raise WorkloadError(
                    f"Application {name} branches at {option.branch}; its base has branchpoints 0 to {depth}."
                )
            if option.seconds is not None and not 0 <= option.seconds < np.inf:
                raise WorkloadError(
                    f"Application {name} has a candidate of {option.seconds} s a frame; expected 0 s or more."
                )
            if not all(0 <= rate <= 1 for rate in (option.tpr, option.fpr, option.accuracy)):
                raise WorkloadError(
                    f"Application {name} has a candidate with tpr {option.tpr}, fpr {option.fpr} and accuracy "
                    f"{option.accuracy}; expected 0 to 1."
                )


def _rising(what: str, numbers: Sequence[float], expected: str) -> None:
    if not numbers or not np.all(np.isfinite(numbers)) or numbers[0] <= 0 or not np.all(np.diff(numbers) > 0):
        raise WorkloadError(f"The {what} are {list(numbers)}; expected at least one, rising, {expected}.")


def tabulate(workload: Workload, model: Callable[..., Scores] = event_scores) -> Table:
    """Every choice with its F1 and its own seconds.

    Args:
        workload: N applications of up to O options.
        model: the event model, or one of its named options bound to it.

    Returns:
        The table; where votes are equally good, the fewest.
    """
    apps, keys = workload.applications, list(workload.bases)
    width = max((len(a.options) for a in apps), default=1)
    tails = {key: np.append(np.cumsum(np.asarray(s, float)[::-1])[::-1], 0.0) for key, s in workload.bases.items()}
    branch_NO = np.zeros((len(apps), width), np.int64)
    seconds_NO, tpr_NO, fpr_NO = np.zeros((3, len(apps), width))
    real_NO = np.zeros((len(apps), width), bool)
    for n, application in enumerate(apps):
        for o, option in enumerate(application.options):
            rest = tails[application.base][option.branch] if option.seconds is None else option.seconds
            branch_NO[n, o], seconds_NO[n, o], real_NO[n, o] = option.branch, rest, True
            tpr_NO[n, o], fpr_NO[n, o] = option.tpr, option.fpr
    rates, votes = np.array(workload.rates, float), np.array(workload.votes, np.int64)
    f1, recall, precision, best = _scores(model, [a.events for a in apps], tpr_NO, fpr_NO, rates, votes)
    segments = [np.asarray(workload.bases[key], float) for key in keys]
    return Table(
        rates_R=rates,
        segments_T=np.concatenate([*segments, np.zeros(0)]),
        starts_B=np.cumsum([0, *map(len, segments)])[: len(keys)].astype(np.int64),
        tree_N=np.array([keys.index(a.base) for a in apps], np.int64),
        branch_NO=branch_NO,
        seconds_NO=seconds_NO,
        f1_NOR=np.where(real_NO[:, :, None], f1, -np.inf),
        recall_NOR=recall,
        precision_NOR=precision,
        votes_NOR=votes[best],
    )


def _scores(
    model: Callable[..., Scores], events: list[Events], tpr_NO: Floats, fpr_NO: Floats, rates_R: Floats, votes_V: Ints
) -> tuple[Floats, Floats, Floats, Ints]:
    """F1, recall, precision [N, O, R] with the best votes, and their indices."""
    shape = (*tpr_NO.shape, len(rates_R))
    if not tpr_NO.size:
        return np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    found = model(
        events, tpr_NO[:, :, None, None], fpr_NO[:, :, None, None], rates_R[:, None], votes_V[None, None, None]
    )
    best = found.f1.argmax(axis=3)
    f1, recall, precision = (
        np.take_along_axis(column, best[..., None], axis=3)[..., 0]
        for column in (found.f1, found.recall, found.precision)
    )
    return f1, recall, precision, best
