"""What `tamis.curation.gradmatch.matching` gives: the samples, their weights, and how well each problem was solved.

Legend: k chosen samples; E, A, S, w, b as in `tamis.curation.gradmatch.matching`.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.curation.contract import Choice
from tamis.curation.gradmatch.gradients import Ints, Rows

Stopped = Literal["budget", "optimal", "tolerance", "nothing"]


@dataclass(frozen=True)
class Problem:
    """One problem and how well it was solved. All numbers are float64 and finite.

    Attributes:
        label: its class; None for the kind "batch".
        samples: how many could be chosen.
        budget: how many were to be chosen.
        filled: how many of them were chosen by the rule for the rest, not by the pursuit.
        objective: E(S, w) of what the pursuit chose; ||b||^2 where it chose nothing.
        trained: E of all `budget` samples with their weights: with the filled ones, and with a batch that was cut as it
            was cut. Equal to `objective`, up to rounding, where there are none.
        missing: ||A_S^T w - b||^2 of the same samples.
        target: ||b||^2.
        stopped: why the pursuit ended: "budget", "optimal" (no further row lowers E), "tolerance", or "nothing" (the
            class has no share of the budget).
    """

    label: int | None
    samples: int
    budget: int
    filled: int
    objective: float
    trained: float
    missing: float
    target: float
    stopped: Stopped


@dataclass(frozen=True, eq=False)
class Matched:
    """What was chosen.

    Attributes:
        samples: int64 [k], each once. By classes: every class's first pick, in the order of the classes, then every
            class's second, and so on; by batches: batch after batch, as they were picked. Filled ones come last.
        weights: float32 [k], positive and finite.
        filled: bool [k], which samples the rule for the rest chose.
        excluded: int64, the samples that were left out because their gradient is NaN or infinite, ascending.
        excluded_target: how many validation samples were left out for that.
        problems: one a class that has samples, ascending; or one in all.
    """

    samples: Ints
    weights: Rows
    filled: NDArray[np.bool_]
    excluded: Ints
    excluded_target: int
    problems: tuple[Problem, ...]

    @property
    def objective(self) -> float:
        """The sum of E over the problems, as the pursuits left it."""
        return math.fsum(problem.objective for problem in self.problems)

    @property
    def error(self) -> float:
        """The distance of the weighted gradient of all k samples from the target, as a fraction of the target.

        Over all problems together; 0 where the targets are zero.
        """
        target = math.fsum(problem.target for problem in self.problems)
        return math.sqrt(math.fsum(problem.missing for problem in self.problems) / target) if target > 0 else 0.0

    def choice(self) -> Choice:
        """The choice, as methods give it."""
        notes = {"error": self.error, "filled": int(self.filled.sum())}
        return Choice(self.samples, self.weights, None, len(self.excluded), self.objective, notes)

    def stats(self) -> dict[str, Any]:
        """What is worth recording with a round: plain JSON."""
        return {
            "objective": self.objective,
            "trained_objective": math.fsum(problem.trained for problem in self.problems),
            "error": self.error,
            "filled": int(self.filled.sum()),
            "excluded": len(self.excluded),
            "excluded_target": self.excluded_target,
            "problems": [asdict(problem) for problem in self.problems],
        }
