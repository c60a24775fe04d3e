"""Numbers within their ranges, or a line that says which is not."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.training.errors import EventsError

MOST_VOTES = 100  # tables of runs grow with it

Floats = NDArray[np.float64]


def shares(name: str, values: ArrayLike) -> Floats:
    """Rates and the like, 0 to 1."""
    array = np.asarray(values, np.float64)
    return _within(name, array, (array >= 0) & (array <= 1), "0 to 1")


def frame_rates(values: ArrayLike) -> Floats:
    """Looks a second."""
    array = np.asarray(values, np.float64)
    return _within("frame rate", array, (array > 0) & (array < np.inf), "looks a second, above 0")


def votes(values: ArrayLike) -> Floats:
    """Numbers of consecutive hits."""
    array = np.asarray(values, np.float64)
    whole = (array >= 1) & (array <= MOST_VOTES) & (np.floor(array) == array)
    return _within("votes", array, whole, f"a whole number of hits, 1 to {MOST_VOTES}")


def counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers from 0."""
    array = np.asarray(values, np.float64)
    fine = (array >= 0) & (array <= 2.0**52) & (np.floor(array) == array)
    return _within(name, array, fine, "a whole number from 0").astype(np.int64)


def _within(name: str, values: Floats, fine: NDArray[np.bool_], expected: str) -> Floats:
    """The values, if all are fine; else the first that is not is refused."""
    if not np.all(fine):
        raise EventsError(f"{name} is {values[~fine].flat[0]}; expected {expected}")
    return values
