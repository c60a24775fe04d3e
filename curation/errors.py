"""The errors of `tamis.curation`.

Every one of them is a `CurationError`, which is a `ValueError`. A message says which value was refused, what
was expected and what to do about it. All of them survive pickling, because they cross process boundaries.
"""

import difflib
from collections.abc import Iterable


class CurationError(ValueError):
    """Something given to a curation function cannot be used: a wrong shape, a missing input, a bad value."""


class BudgetError(CurationError):
    """A budget that is no number of samples between one and the number of candidates."""


class ContractError(CurationError):
    """A method that does not do what `tamis.curation.contract` asks of every method."""


class NonFiniteError(CurationError):
    """NaN or infinite values where a ranking or a correlation needs finite ones.

    Args:
        what: what holds the values, as the message should name it ("scores").
        count: how many values are not finite.
        total: how many values there are.
        samples: the first few of the samples with such a value.
    """

    def __init__(self, what: str, count: int, total: int, samples: Iterable[int]) -> None:
        self.what, self.count, self.total = what, count, total
        self.samples = tuple(samples)
        super().__init__(what, count, total, self.samples)  # the same arguments again: what pickle hands back

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.samples)) + (", ..." if self.count > len(self.samples) else "")
        return (
            f"{self.count} of {self.total} {self.what} are NaN or infinite (samples {listed}); "
            "expected finite numbers: leave these samples out, or score them again"
        )


class UnknownMethodError(CurationError, KeyError):
    """A method's name that `tamis.curation.METHODS` does not have.

    Args:
        name: the name asked for.
        known: the names there are.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(name, self.known)

    def __str__(self) -> str:  # KeyError's own would print the arguments
        near = difflib.get_close_matches(self.name, self.known, 1)
        meant = f"did you mean {near[0]}? There are" if near else "there are"
        return f"unknown method {self.name!r}; {meant}: {', '.join(self.known)}"
