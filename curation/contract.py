"""What every method takes and gives: `Inputs` and `Choice`.

Legend: N candidates, M models, k chosen samples.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError

_Array = TypeVar("_Array", bound=NDArray[Any])


@dataclass(frozen=True, eq=False)
class Inputs:
    """What there is to choose from. The candidates are the samples 0 to n - 1.

    Attributes:
        n: how many candidates there are, at least 1.
        labels_N: the class of each candidate, integers [n], or None.
        scores_MN: a score of each candidate by each model, floats [M, n], higher is chosen first; or None.
            NaN and infinities may occur: methods leave such candidates out and count them.
        correct_MN: whether each model predicted each candidate's class, bool [M, n], or None.

    Raises:
        CurationError: a shape or type other than these.
    """

    n: int
    labels_N: NDArray[np.int64] | None = None
    scores_MN: NDArray[np.float64] | None = None
    correct_MN: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise CurationError(f"n is {self.n}; expected at least one candidate to choose from")
        _check("labels", self.labels_N, "iu", [self.n], f"integers [{self.n}]")
        _check_rows("scores", self.scores_MN, "f", self.n, "floats")
        _check_rows("correct", self.correct_MN, "b", self.n, "truth values")

    def labels(self, reason: str) -> NDArray[np.int64]:
        """Return the labels, or say that `reason` needs them."""
        return _present(self.labels_N, "labels", reason)

    def scores(self, reason: str) -> NDArray[np.float64]:
        """Return the scores [M, n], or say that `reason` needs them."""
        return _present(self.scores_MN, "scores", reason)

    def correct(self, reason: str) -> NDArray[np.bool_]:
        """Return the correctness [M, n], or say that `reason` needs it."""
        return _present(self.correct_MN, "correctness of the predictions", reason)


@dataclass(frozen=True, eq=False)
class Choice:
    """What a method chose.

    Attributes:
        samples: the chosen samples, int64 [k], each once, the best first.
        weights: the weight of each in training, float32 [k], finite; 1 where a method does not weigh.
        scores: the number each was ranked by, float64 [k], or None where a method does not rank.
        excluded: how many candidates were left out of the ranking because a score of theirs is NaN or
            infinite.
    """

    samples: NDArray[np.int64]
    weights: NDArray[np.float32]
    scores: NDArray[np.float64] | None = None
    excluded: int = 0


def _check(name: str, array: NDArray[np.generic] | None, kinds: str, shape: list[int], expected: str) -> None:
    if array is not None and (array.dtype.kind not in kinds or list(array.shape) != shape):
        raise CurationError(f"{name} are {array.dtype} {list(array.shape)}; expected {expected}")


def _check_rows(name: str, array: NDArray[np.generic] | None, kinds: str, n: int, values: str) -> None:
    models = 1 if array is None or array.ndim == 0 else max(1, len(array))
    _check(name, array, kinds, [models, n], f"{values} [M, {n}], a row for each of M models")


def _present(array: _Array | None, what: str, reason: str) -> _Array:
    if array is None:
        raise CurationError(f"{reason} needs the {what} of the candidates, and there are none: pass them in Inputs")
    return array
