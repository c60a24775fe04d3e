"""The rows chosen so far and their best non-negative weights: what `tamis.curation.pursuit` grows.

What: `Support.add` takes a row in and solves min ||A_S^T w - b||^2 + lam ||w||^2 over w >= 0 anew; `state` and
`restore` take rows back.
How: one growing Cholesky factor of H = A_S A_S^T + lam. A row whose weight would turn negative stays in the factor,
held at weight zero by a Schur complement over the held rows: that is a downdate which costs one forward solve,
disturbs nothing and can be undone when the row is wanted again. With Z the held places, x = H^-1 (h - E_Z y), where y
makes x_Z zero; V = L^-1 E_Z and z = L^-1 h only grow, so a pick costs one forward and one backward pass over L.
`compact` leaves the held rows out for good, before they are many or where they stand in the way of a row that they
help to span.
Source: Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23 (the active-set step, which never raises
the objective).
Legend: N rows, D numbers a row, S rows in the factor, Z of them held.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.curation.cholesky import Floats, GrowingCholesky
from tamis.curation.pursued import PIECE, Ints, residual

Rows = NDArray[np.floating]


@dataclass(frozen=True)
class State:
    """What taking rows back needs."""

    size: int
    held: tuple[int, ...]
    each: tuple[Floats, ...]
    weights: Floats


class Support:
    """Chosen rows and weights.

    Args:
        rows_ND: the data, float32 or float64, which is also what products are computed in.
        target_D: b, float64.
        lam: ridge.
        gram_NN: A A^T where it is there, else None: products are then made from the chosen rows.
        room: how many rows there will be at most in the factor.
        dependent: a row whose own part is less than this part of its square is spanned by the others.

    Attributes:
        order: the rows in the factor, as they came.
        weights: float64 [S], zero for held ones.
    """

    def __init__(
        self, rows_ND: Rows, target_D: Floats, lam: float, gram_NN: Rows | None, room: int, dependent: float
    ) -> None:
        self._rows, self._target, self._lam, self._gram = rows_ND, target_D, lam, gram_NN
        self._factor, self.order, self.weights = GrowingCholesky(dependent), list[int](), np.empty(0)
        self._place: dict[int, int] = {}
        self._right, self._z = np.empty(room), np.empty(room)  # h and L^-1 h, valid down to the size, as all of these
        self._chosen = np.empty((0 if gram_NN is not None else room, rows_ND.shape[1]), rows_ND.dtype)
        self._held: tuple[int, ...] = ()
        self._each = tuple[Floats, ...]()  # the columns of V = L^-1 E_Z, shared with states
        self._columns = np.empty((room, 0))  # and V
        self._inner, self._outer = np.empty((0, 0)), np.empty(0)  # V^T V and V^T z

    @property
    def free(self) -> list[int]:
        """The rows with a weight of their own, as they came."""
        held = set(self._held)
        return [row for place, row in enumerate(self.order) if place not in held]

    @property
    def held(self) -> int:
        """How many rows are held."""
        return len(self._held)

    @property
    def count(self) -> int:
        """How many rows have a weight of their own."""
        return len(self.order) - len(self._held)

    @property
    def gained(self) -> float:
        """||b||^2 - E(S, w)."""
        return float(self._right[: len(self.order)] @ self.weights)

    def missing(self) -> Rows:
        """What is left of the target: b - A_S^T w, [D] in the data's precision."""
        kind, size = self._rows.dtype, len(self.order)
        return self._target.astype(kind) - self.weights.astype(kind) @ self._chosen[:size]

    def spread(self) -> Rows:
        """The weights of all N rows, in the data's precision."""
        out_N = np.zeros(len(self._rows), self._rows.dtype)
        out_N[self.order] = self.weights
        return out_N

    def weight(self, row: int) -> float:
        return float(self.weights[self._place[row]])

    def add(self, row: int) -> bool:
        """Take a row in and settle the weights; False, and nothing changed, where the rows of the factor span it."""
        if row in self._place:
            self._release(self._place[row])
        elif not self._append(row):
            return False
        self._settle()
        return True

    def state(self) -> State:
        return State(len(self.order), self._held, self._each, self.weights)

    def restore(self, state: State) -> None:
        """Take back what came after a state; no `compact` may lie between."""
        for row in self.order[state.size :]:
            del self._place[row]
        del self.order[state.size :]
        self._factor.cut(state.size)
        self.weights = state.weights
        self._hold_these(state.held, state.each)

    def compact(self) -> None:
        """Leave the held rows out of the factor. Weights stay as they are, but for rows that rounding refuses."""
        again = self.free[min(self._held) :]
        weights = dict(zip(self.order, self.weights.tolist(), strict=True))
        self.restore(State(min(self._held), (), (), self.weights[: min(self._held)]))
        refused = [row for row in again if not self._append(row)]
        self.weights = np.array([weights[row] for row in self.order])
        if refused:
            self._settle()

    def refine(self) -> None:
        """Solve again for the error that products in float32 left, with residuals in float64 from the data."""
        free = np.setdiff1d(np.arange(len(self.order)), self._held)
        rows = np.array(self.order, np.int64)[free]
        weights, error = self.weights[free], np.inf
        for _ in range(4):
            gradient = self._gradient(rows, weights)
            if np.abs(gradient).max(initial=0.0) >= error or (weights <= 0).any():
                return
            self.weights = self.weights.copy()
            self.weights[free], error = weights, np.abs(gradient).max(initial=0.0)
            full = np.zeros(len(self.order))
            full[free] = gradient
            weights = weights + self._solve(self._factor.forward(full))[free]

    def _gradient(self, rows: Ints, weights: Floats) -> Floats:
        """Half of the steepest descent of E in the weights of some rows, in float64."""
        missing = residual(self._rows, self._target, rows, weights)
        pieces = [rows[a : a + PIECE] for a in range(0, len(rows), PIECE)]
        products = [self._rows[piece].astype(np.float64) @ missing for piece in pieces]
        return np.concatenate([np.empty(0), *products]) - self._lam * weights

    def _append(self, row: int) -> bool:
        size, one = len(self.order), self._rows[row]
        products = self._gram[row, self.order] if self._gram is not None else self._chosen[:size] @ one
        wide = one.astype(np.float64)
        added = self._factor.append(products.astype(np.float64), float(wide @ wide) + self._lam)
        if added is None:
            return False
        last, pivot = added
        self._right[size] = wide @ self._target
        self._z[size] = (self._right[size] - last @ self._z[:size]) / pivot
        if self._held:
            self._columns[size] = new = -(last @ self._columns[:size]) / pivot
            for column, number in zip(self._each, new.tolist(), strict=True):
                column[size] = number
            self._inner = self._inner + np.outer(new, new)
            self._outer = self._outer + new * self._z[size]
        if self._gram is None:
            self._chosen[size] = one
        self._place[row] = size
        self.order.append(row)
        self.weights = np.append(self.weights, 0.0)
        return True

    def _settle(self) -> None:
        """Lawson and Hanson's inner loop: go towards the solution, stop where a weight reaches zero, hold it there."""
        while True:
            aim = self._solve(self._z[: len(self.order)], self._outer)
            negative = aim <= 0
            negative[list(self._held)] = False
            low = np.flatnonzero(negative)
            if not len(low):
                self.weights = aim
                return
            fall = self.weights[low] - aim[low]
            room = np.divide(self.weights[low], fall, out=np.zeros(len(low)), where=fall > 0)
            at = int(np.argmin(room))
            self.weights = np.maximum(self.weights + room[at] * (aim - self.weights), 0.0)
            self._hold(int(low[at]))

    def _solve(self, z: Floats, outer: Floats | None = None) -> Floats:
        """H^-1 of what z is L^-1 of, with the held places at zero; `outer` is V^T z where it is known."""
        if not self._held:
            return self._factor.backward(z)
        columns = self._columns[: len(z)]
        outer = columns.T @ z if outer is None else outer
        out = self._factor.backward(z - columns @ np.linalg.solve(self._inner, outer))
        out[list(self._held)] = 0.0
        return out

    def _hold(self, place: int) -> None:
        unit, column = np.zeros(len(self.order)), np.empty(len(self._z))
        unit[place] = 1.0
        column[: len(unit)] = self._factor.forward(unit, place)
        self.weights[place] = 0.0
        self._hold_these((*self._held, place), (*self._each, column))

    def _release(self, place: int) -> None:
        at = self._held.index(place)
        self._hold_these(self._held[:at] + self._held[at + 1 :], self._each[:at] + self._each[at + 1 :])

    def _hold_these(self, places: tuple[int, ...], columns: tuple[Floats, ...]) -> None:
        if places != self._held:
            self._columns = np.empty((len(self._z), len(places)))
            self._columns[:] = np.stack(columns, axis=1) if places else 0.0
        self._held, self._each = places, columns
        size = len(self.order)
        self._inner = self._columns[:size].T @ self._columns[:size]
        self._outer = self._columns[:size].T @ self._z[:size]
