"""The functions that a search can propose, as points of a unit cube.

What: `Shape.priority` makes a `Priority` of a proposal, V numbers in [0, 1]. linear and cubic have four (the values at
the shares 0, .5, .8 and 1), steps ten, beta two: a and b = 10^u, so 1 to 10, and a alone where it is to be monotone.
How: values are first moved to the nearest that do not fall, then divided by their maximum, then moved to levels; each
where it was asked for. So values at levels stay there, and the maximum stays 1.
Source: A. Jiang, thesis, 2021, sections 4.2.2 and 4.5.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tamis.curation.selective.priority import POINTS, STEPS, Priority, quantised
from tamis.training.adapting.config import AdaptOptions, FormName

_DIMENSIONS: dict[FormName, int] = {"linear": len(POINTS), "cubic": len(POINTS), "steps": STEPS, "beta": 2}


@dataclass(frozen=True)
class Shape:
    """What is searched for; the fields are those of `tamis.training.adapting.config.AdaptOptions`."""

    form: FormName
    normalise: bool = False
    levels: int | None = None
    monotone: bool = False

    @classmethod
    def of(cls, options: AdaptOptions) -> "Shape":
        """That of a search."""
        return cls(options.form, options.normalise, options.levels, options.monotone)

    @property
    def dimensions(self) -> int:
        """V, the numbers of a proposal."""
        return 1 if self.form == "beta" and self.monotone else _DIMENSIONS[self.form]

    def priority(self, proposal_V: Sequence[float]) -> Priority:
        """The function of a proposal.

        Args:
            proposal_V: numbers in [0, 1].

        Raises:
            CurationError: it is 0 everywhere.
        """
        values = proposal_V if self.levels is None else quantised(proposal_V, self.levels)
        if self.form == "beta":
            a, *b = (10.0**value for value in values)
            return Priority.beta(a, *(b or (1.0,)))
        make = {"linear": Priority.linear, "cubic": Priority.cubic, "steps": Priority.steps}[self.form]
        made = make(values, normalise=self.normalise, monotone="isotonic" if self.monotone else None)
        return made if self.levels is None else make(quantised(made.values, self.levels))
