"""What a pursuit takes and gives: its checks, its answer, its objective, and what its numbers can tell apart.

`tamis.curation.omp.solver` (one problem, NumPy), `tamis.curation.omp.processes` (many, in processes) and
`tamis.curation.omp.batched` (many, torch) share these.

Legend: N rows, D numbers a row, S chosen rows.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.budget import check_count
from tamis.curation.errors import CurationError, NonFiniteError

PIECE = 64  # rows taken to float64 at a time
_NAMED = 5  # how many of the rows with unusable values an error lists
_THINNING = 256 << 20  # bytes that thinning may take at least, where nothing is said
_LARGEST = 1e150  # of the target: its square is a float64

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Stopped = Literal["budget", "optimal", "tolerance"]


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem of many.

    Attributes:
        rows_ND: floats [N, D].
        target_D: [D].
        k: 1 to N.
    """

    rows_ND: NDArray[np.floating]
    target_D: NDArray[np.floating]
    k: int


class Pursue(Protocol):
    """Solves problems: one by one, in processes, or as a batch on a GPU; the answers are the same.

    Problems are asked for as they are needed. Answers come in their order. The keywords are those of
    `tamis.curation.omp.solver.pursue`, but that `memory` is for a problem beside its rows on a CPU, and for a batch
    with its rows on a GPU.
    """

    def __call__(
        self, problems: Iterable[Problem], *, lam: float, tolerance: float, spare: float, memory: int | None
    ) -> Iterable["Pursued"]: ...


@dataclass(frozen=True, eq=False)
class Pursued:
    """The answer.

    Attributes:
        rows: int64 [s], the chosen rows in the order in which they were picked (for the last time), s <= k, each once.
        weights: float64 [s], all positive.
        objective: E(S, w), computed in float64 from the data.
        objectives: float64 [picks], E after each pick, exact to a millionth of ||b||^2; it never rises, and its last
            entry is `objective`. A pick after which another row's weight fell to zero leaves s as it was, so there
            can be more picks than chosen rows.
        stopped: "budget" (s = k), "optimal" (no further row lowers E) or "tolerance" (E is below the one asked for).
    """

    rows: Ints
    weights: Floats
    objective: float
    objectives: Floats
    stopped: Stopped


@dataclass(frozen=True)
class Precision:
    """What products in a type of numbers can tell apart.

    Attributes:
        dtype: the type.
        nothing: a row a helps no more where its correlation is at most this part of (||a||^2 + lam)^.5 ||b||: alone it
            would lower E by at most the square of this part of ||b||^2.
        tie: correlations that differ by less than this part of them, or a quarter of what is nothing, are equal.
        dependent: a row is spanned by the others where less than this part of its square is its own.
    """

    dtype: type[np.float32 | np.float64]
    nothing: float
    tie: float
    dependent: float


SINGLE = Precision(np.float32, 1e-6, 1e-5, 1e-6)
DOUBLE = Precision(np.float64, 1e-11, 1e-10, 1e-11)


def precision(numbers: int) -> Precision:
    """Float64 where the data are so few numbers that it costs nothing, else float32."""
    return DOUBLE if numbers <= DOUBLE_UP_TO else SINGLE


DOUBLE_UP_TO = 1 << 21


def objective(rows_ND: NDArray[np.floating], target_D: Floats, rows: Ints, weights: Floats, lam: float) -> float:
    """Return E(S, w) = ||A_S^T w - b||^2 + lam ||w||^2, in float64 from the data (GRAD-MATCH, equation 3)."""
    missing = residual(rows_ND, target_D, rows, weights)
    return float(missing @ missing + lam * (weights @ weights))


def residual(rows_ND: NDArray[np.floating], target_D: Floats, rows: Ints, weights: Floats) -> Floats:
    """Return b - A_S^T w, [D], in float64."""
    missing_D = target_D.astype(np.float64)
    for a in range(0, len(rows), PIECE):
        missing_D -= weights[a : a + PIECE] @ rows_ND[rows[a : a + PIECE]].astype(np.float64)
    return missing_D


def check_problem(rows_ND: ArrayLike, target_D: ArrayLike, k: int) -> tuple[NDArray[np.float32], Floats, int]:
    """Return rows, target and k as they are worked on, or say what is wrong with them."""
    given, target = np.asarray(rows_ND), np.asarray(target_D)
    if given.ndim != 2 or target.shape != given.shape[1:] or given.dtype.kind != "f" or target.dtype.kind not in "fiu":
        raise CurationError(
            f"rows are {given.dtype} {list(given.shape)} and the target {target.dtype} {list(target.shape)}; expected "
            "floats [N, D] and [D]"
        )
    k = check_count(k, len(given))
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(given, np.float32)
    step = max(1, (1 << 20) // max(1, rows.shape[1]))
    good = np.concatenate([np.isfinite(rows[a : a + step]).all(axis=1) for a in range(0, len(rows), step)])
    if not good.all():
        bad = np.flatnonzero(~good)
        raise NonFiniteError("rows", len(bad), len(good), bad[:_NAMED].tolist())
    target = target.astype(np.float64)
    if not (np.abs(target) <= _LARGEST).all():
        raise CurationError(
            f"{np.count_nonzero(~(np.abs(target) <= _LARGEST))} of {len(target)} numbers of the target are NaN, "
            f"infinite or beyond {_LARGEST:g}; expected finite numbers: compute it again from rows that are finite"
        )
    return rows, target, k


def check_settings(lam: float, tolerance: float, spare: float) -> None:
    """Refuse a ridge, a tolerance or a share of spare picks that cannot be."""
    if not 0 <= lam < np.inf or not 0 <= tolerance < 1:
        raise CurationError(
            f"lam is {lam} and tolerance {tolerance}; expected lam of 0 or more and tolerance in [0, 1)"
        )
    if not 0 <= spare <= 1:
        raise CurationError(f"spare is {spare}; expected a fraction of k, 0 to 1")


def with_spare(n: int, d: int, k: int, spare: float, memory: int | None) -> int:
    """How many of n rows to pick where k are wanted: none to spare where there is no memory for thinning."""
    more = min(n, k + math.ceil(spare * k))
    return more if 24 * more**2 <= (max(8 * n * d, _THINNING) if memory is None else memory) else k


def unit(largest: float) -> float:
    """The power of two near a number: dividing by it is exact. 1 for zero."""
    return 2.0 ** round(np.log2(largest)) if largest else 1.0
