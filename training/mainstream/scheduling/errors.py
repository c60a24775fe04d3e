"""What can go wrong while scheduling."""

from tamis.store.errors import TamisError


class WorkloadError(TamisError, ValueError):
    """Applications, bases, rates or votes that no schedule can be made from."""


class BudgetTooSmall(TamisError, ValueError):
    """A budget below the cheapest schedule, which is Max-Sharing at the lowest rate.

    Attributes:
        needed: the least budget that some schedule keeps to, in the unit of the profile.
    """

    def __init__(self, message: str, needed: float = float("nan")) -> None:
        self.needed = needed
        super().__init__(message, needed)


class PlanError(TamisError, ValueError):
    """A plan that cannot be read: damaged, incomplete, or of a format this version does not know."""
