"""Budgets: how many samples a selection may hold, as people write them, and how classes share them.

A budget is a percentage ("40%"), a fraction (0.4, "1/300") or a count (1000). Part of a sample is rounded half up,
from the digits as written, so that 0.35 and "35%" of ten samples are both four. A budget is never
rounded down to nothing: the smallest one is a single sample.
"""

import math
import operator
import re
from fractions import Fraction
from numbers import Integral, Real
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import BudgetError

_ALLOWED = "a percentage ('40%'), a fraction up to 1.0 (0.4 or '1/300'), or a count of samples (1000)"
_NUMBER = re.compile(
    r"(?P<number>[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:(?P<percent>\s*%)|/(?P<parts>[1-9][0-9]{0,17}))?"
)


def resolve_budget(budget: str | int | float, n: int) -> int:
    """Turn a budget into a number of samples.

    Args:
        budget: "40%" or "40 %" or 0.4 or "1/300" (a fraction of `n`; 1.0 is all of it), or 1000 or "1000" (a count).
            Text with a decimal point and no percent sign is a fraction, as a float is.
        n: how many candidates there are, at least 1.

    Returns:
        k, between 1 and `n`. Fractions are rounded half up, and up to 1 where they would come to nothing.

    Raises:
        BudgetError: zero, negative, more than there is, NaN, a bool, or no number at all.
    """
    if n < 1:
        raise BudgetError(f"there are {n} candidates; expected at least 1")
    amount, is_share = _parse(budget)
    if amount <= 0:
        raise BudgetError(f"budget {budget!r} selects nothing; expected {_ALLOWED} above zero")
    if not is_share:
        return check_count(int(amount), n)
    if amount > 1:
        raise BudgetError(f"budget {budget!r} is more than all {n} candidates; expected {_ALLOWED}")
    return max(1, math.floor(amount * n + Fraction(1, 2)))


def check_count(k: SupportsIndex, n: int) -> int:
    """Return `k` as an int if it is a number of samples between 1 and `n`.

    Raises:
        BudgetError: it is not.
    """
    if isinstance(k, bool | np.bool_):  # an index for Python, and for NumPy before 2.0
        raise BudgetError(f"k is {k!r}; expected a whole number of samples, not a bool")
    try:
        count = operator.index(k)
    except TypeError:
        raise BudgetError(f"k is {k!r}; expected a whole number of samples: see resolve_budget") from None
    if not 1 <= count <= n:
        raise BudgetError(f"{count} samples asked for; expected between 1 and the {n} candidates there are")
    return count


def proportional_quotas(sizes_C: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Share `k` samples among classes in proportion to their sizes, by largest remainder.

    Each class gets its share rounded down; what is left goes, one each, to the largest remainders, the
    earlier class first among equals. No class is given more than it has.

    Args:
        sizes_C: the size of each class, int64 [C], each at least 1.
        k: how many to share out, between 1 and the sum of the sizes.

    Returns:
        The quota of each class, int64 [C], which sum to exactly `k`.
    """
    total = int(sizes_C.sum())
    # Whole numbers throughout: exact, and k * size stays inside int64 up to 3 * 10^9 samples.
    quotas_C, remainders_C = np.divmod(sizes_C * check_count(k, total), total)
    left = k - int(quotas_C.sum())
    quotas_C[np.argsort(-remainders_C, kind="stable")[:left]] += 1
    return quotas_C


def _parse(budget: object) -> tuple[Fraction, bool]:
    """Read a budget as (amount, whether the amount is a share of all candidates)."""
    if isinstance(budget, str):
        match = _NUMBER.fullmatch(budget.strip())
        if match is None:
            raise BudgetError(f"budget {budget!r} cannot be read; expected {_ALLOWED}")
        number = Fraction(match["number"].rstrip("."))
        if match["parts"]:
            return number / int(match["parts"]), True
        if match["percent"]:
            return number / 100, True
        return number, "." in match["number"]
    if not isinstance(budget, bool):
        if isinstance(budget, Integral):
            return Fraction(int(budget)), False
        if isinstance(budget, Real) and math.isfinite(budget):
            return Fraction(str(budget)), True  # through the digits it prints: 0.35 is 35/100, not 0.34999...
    raise BudgetError(f"budget {budget!r} of type {type(budget).__name__} is refused; expected {_ALLOWED}")
