"""Applications come, go, and claim more than is so.

What: `add` and `remove` give the workload to plan anew; `suspicions` and `corrected` hold an application's claims
against how often its candidates disagree.
How: two candidates whose answers differ on a share d of frames cannot differ in accuracy by more than d, on whichever
frames: |acc_a - acc_b| <= d. Disagreement needs no labels, so it is measured where the application runs. A candidate
that claims more than another's accuracy and their disagreement allow is named, and its claims are lowered until no pair
contradicts: an accuracy that is e too high has its true positive rate lowered by e and its false positive rate raised
by e, which is e of accuracy whatever the share of events. Claims that are all too high by the same amount pass.
Cost: O^3 for O candidates.
Source: the threat and the idea: Jiang, thesis, section 5.3.3, "Potential Threat Model"; the bound is the triangle
inequality of the share of frames on which two functions differ, the truth being a third.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tamis.training.mainstream.scheduling.errors import WorkloadError
from tamis.training.mainstream.scheduling.table import Floats, Ints
from tamis.training.mainstream.scheduling.workload import Application, Workload


class Suspicion(NamedTuple):
    """A claim that the measured disagreement contradicts.

    Attributes:
        option: index of the candidate.
        against: index of the one that its claim is too far above.
        claimed: difference of their accuracies.
        allowed: share of frames on which they disagree.
    """

    option: int
    against: int
    claimed: float
    allowed: float


@dataclass
class Agreement:
    """On how many frames the candidates of a package agreed.

    Attributes:
        branches: of the candidates, rising.
        frames: on which all of them answered.
        differ_OO: int64, frames on which two of them differed.
    """

    branches: tuple[int, ...]
    frames: int = 0
    differ_OO: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def __post_init__(self) -> None:
        if not self.differ_OO.size:
            self.differ_OO = np.zeros((len(self.branches),) * 2, np.int64)

    def add(self, hits: Mapping[int, bool]) -> None:
        """Count a frame: hit or miss by branch."""
        answers = np.array([hits[branch] for branch in self.branches])
        self.frames, self.differ_OO = self.frames + 1, self.differ_OO + (answers[:, None] != answers)

    def plus(self, other: "Agreement") -> "Agreement":
        """Both together; the newer one alone where they are of other candidates."""
        if self.branches != other.branches:
            return other
        return Agreement(self.branches, self.frames + other.frames, self.differ_OO + other.differ_OO)

    def discordance(self) -> Floats:
        """Share of frames on which two candidates differed [O, O]."""
        return self.differ_OO / max(1, self.frames)

    def slack(self) -> float:
        """What chance makes of so many frames: a share's true value is above what was counted by less, 95 times of 100.

        sqrt(ln(20) / (2 frames)), W. Hoeffding, "Probability Inequalities for Sums of Bounded Random Variables", 1963,
        theorem 1, of frames that are independent: let checks be further apart than events last.
        """
        return math.sqrt(math.log(20) / (2 * self.frames)) if self.frames else 1.0


def add(workload: Workload, application: Application) -> Workload:
    """The workload with one application more.

    Raises:
        WorkloadError: its name is taken, or its base has no latencies.
    """
    return replace(workload, applications=(*workload.applications, application))


def remove(workload: Workload, name: str) -> Workload:
    """The workload without an application.

    Raises:
        WorkloadError: there is none of that name.
    """
    find(workload, name)
    return replace(workload, applications=tuple(a for a in workload.applications if a.name != name))


def find(workload: Workload, name: str) -> Application:
    """An application by name.

    Raises:
        WorkloadError: there is none of that name.
    """
    for application in workload.applications:
        if application.name == name:
            return application
    there = ", ".join(a.name for a in workload.applications) or "none"
    raise WorkloadError(f"No application {name}; there are: {there}.")


def discordance(answers_OF: ArrayLike) -> Floats:
    """Share of frames on which two candidates give different answers [O, O].

    Args:
        answers_OF: hit or miss of O candidates on the same F frames.
    """
    answers = np.asarray(answers_OF, bool)
    return (answers[:, None] != answers[None]).mean(axis=2)


def suspicions(application: Application, discordance_OO: ArrayLike, *, slack: float = 0.0) -> list[Suspicion]:
    """Claims that the disagreement contradicts; one a candidate, the worst.

    Args:
        application: with the accuracies that it claims.
        discordance_OO: share of frames on which two candidates disagree.
        slack: what an accuracy may be above the bound, for the noise of both measurements.

    Raises:
        WorkloadError: the shares are not one a pair of candidates, or no shares.
    """
    apart, claims = _checked(application, discordance_OO), _accuracies(application)
    over = claims[:, None] - claims - apart
    worst = over.argmax(axis=1)
    return [
        Suspicion(o, int(a), float(claims[o] - claims[a]), float(apart[o, a]))
        for o, a in enumerate(worst)
        if over[o, a] > slack + 1e-12
    ]


def corrected(workload: Workload, name: str, discordance_OO: ArrayLike, *, slack: float = 0.0) -> Workload:
    """The workload with an application's claims lowered to what the disagreement allows.

    Args:
        workload: with the application.
        name: of the application.
        discordance_OO: share of frames on which two candidates disagree.
        slack: see `suspicions`.

    Raises:
        WorkloadError: no such application, or no such shares.
    """
    application = find(workload, name)
    claims, apart = _accuracies(application), _checked(application, discordance_OO) + slack
    np.fill_diagonal(apart, 0.0)
    allowed = claims
    for _ in claims:  # as shortest paths: what one is lowered to may lower another
        allowed = np.minimum(allowed, (allowed + apart).min(axis=1))
    lowered = claims - allowed
    options = tuple(
        replace(o, accuracy=float(a), tpr=max(0.0, o.tpr - float(e)), fpr=min(1.0, o.fpr + float(e)))
        if e > 1e-12
        else o
        for o, a, e in zip(application.options, allowed, lowered, strict=True)
    )
    fixed = replace(application, options=options)
    return replace(workload, applications=tuple(fixed if a.name == name else a for a in workload.applications))


def _accuracies(application: Application) -> Floats:
    return np.array([option.accuracy for option in application.options])


def _checked(application: Application, discordance_OO: ArrayLike) -> Floats:
    apart, count = np.array(discordance_OO, float), len(application.options)
    if apart.shape != (count, count) or not np.all((apart >= 0) & (apart <= 1)) or not np.allclose(apart, apart.T):
        raise WorkloadError(
            f"Discordance of application {application.name} is of shape {apart.shape}; expected {count} x {count} "
            "shares of frames from 0 to 1, the same both ways."
        )
    return apart
