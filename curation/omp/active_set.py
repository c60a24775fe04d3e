"""The rows chosen so far and their best non-negative weights: what `tamis.curation.omp.solver` grows.

What: `Support.add` takes a row in and solves min ||A_S^T w - b||^2 + lam ||w||^2 over w >= 0 anew; `state` and
`restore` take rows back.
How: one growing Cholesky factor of H = A_S A_S^T + lam. A row whose weight would turn negative stays in the factor,
held at weight zero by a Schur complement over the held rows: that is a downdate which costs one forward solve,
disturbs nothing and can be undone when the row is wanted again. With Z the held places, x = H^-1 (h - E_Z y), where y
makes x_Z zero; V = L^-1 E_Z and z = L^-1 h only grow, so a pick costs one forward and one backward pass over L. The
inverse of V^T V, by which y is found, follows a pick by a rank-one update, and is made anew whenever Z changes, and
every so often.
`compact` leaves the held rows out for good, before they are many or where they stand in the way of a row that they
help to span: the factor from the first of them on is made anew, a block of rows at a time.
Source: Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23 (the active-set step, which never raises
the objective).
Legend: N rows, D numbers a row, S rows in the factor, Z of them held.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.curation.omp.cholesky import Floats, GrowingCholesky
from tamis.curation.omp.problem import PIECE, Ints, residual

Rows = NDArray[np.floating]

SOME = 128  # rows of the data that are copied at a time
_ANEW = 64  # picks after which (V^T V)^-1 is made anew, so that rounding does not add up


@dataclass(frozen=True)
class State:
    """What taking rows back needs.

    Attributes:
        size: rows in the factor.
        held: the places of the held ones.
        weights: [size].
    """

    size: int
    held: tuple[int, ...]
    weights: Floats


class Support:
    """Chosen rows and weights.

    Args:
        rows_ND: the data, float32 or float64, which is also what products are computed in.
        target_D: b, float64.
        lam: ridge.
        gram_NN: A A^T where it is there, else None: products are then made from the chosen rows.
        copied: keep a copy of the chosen rows; with neither, products are made with all rows.
        room: how many rows there will be at most in the factor.
        dependent: a row whose own part is less than this part of its square is spanned by the others.

    Attributes:
        weights: float64 [S], zero for held ones.
        gained: ||b||^2 - E(S, w).
    """

    def __init__(
        self,
        rows_ND: Rows,
        target_D: Floats,
        lam: float,
        gram_NN: Rows | None,
        room: int,
        dependent: float,
        *,
        copied: bool,
    ) -> None:
        self._rows, self._target, self._lam, self._gram = rows_ND, target_D, lam, gram_NN
        self._factor, self.weights, self.gained = GrowingCholesky(dependent), np.empty(0), 0.0
        # Valid down to the size, as all of these: rows' numbers, whether they have a weight of their own, h, L^-1 h.
        self._order, self._own = np.empty(room, np.int64), np.zeros(room, bool)
        self._right, self._z = np.empty(room), np.empty(room)
        self._diagonal = np.empty(room)  # of H
        self._place: dict[int, int] = {}
        self._chosen = np.empty((room, rows_ND.shape[1]), rows_ND.dtype) if copied else None
        self._soon: dict[int, Rows] = {}  # some rows' products with all
        self._held: tuple[int, ...] = ()
        self._columns = np.empty((room, 8))  # V = L^-1 E_Z, and room for more
        self._apart, self._outer = np.empty((0, 0)), np.empty(0)  # (V^T V)^-1 and V^T z

    @property
    def size(self) -> int:
        """Rows in the factor."""
        return self._factor.size

    @property
    def free(self) -> Ints:
        """The rows with a weight of their own, as they came."""
        size = self.size
        return self._order[:size][self._own[:size]]

    @property
    def held(self) -> int:
        """How many rows are held."""
        return len(self._held)

    @property
    def count(self) -> int:
        """How many rows have a weight of their own."""
        return self.size - len(self._held)

    def missing(self) -> Rows:
        """What is left of the target: b - A_S^T w, [D] in the data's precision."""
        kind = self._rows.dtype
        if self._chosen is None:
            return self._target.astype(kind) - self.spread() @ self._rows
        return self._target.astype(kind) - self.weights.astype(kind) @ self._chosen[: self.size]

    def spread(self) -> Rows:
        """The weights of all N rows, in the data's precision."""
        out_N = np.zeros(len(self._rows), self._rows.dtype)
        out_N[self._order[: self.size]] = self.weights
        return out_N

    def weight(self, row: int) -> float:
        return float(self.weights[self._place[row]])

    def expect(self, rows: Ints) -> None:
        """Say which rows are likely to be added soon: where products are made with all rows, many at once cost less."""
        if self._gram is None and self._chosen is None:
            self._soon = {}  # so that there is room
            self._soon = dict(zip(rows.tolist(), self._rows[rows] @ self._rows.T, strict=True))

    def add(self, row: int) -> bool:
        """Take a row in and settle the weights; False, and nothing changed, where the rows of the factor span it."""
        if row in self._place:
            self._release(self._place[row])
        elif not self._append(row):
            return False
        self._settle()
        return True

    def state(self) -> State:
        return State(self.size, self._held, self.weights)

    def restore(self, state: State) -> None:
        """Take back what came after a state; no `compact` may lie between."""
        for row in self._order[state.size : self.size].tolist():
            del self._place[row]
        self._factor.cut(state.size)
        if self._held[: len(state.held)] != state.held:
            units = np.zeros((state.size, len(state.held)))
            units[state.held, range(len(state.held))] = 1.0
            self._widen(len(state.held))
            self._columns[: state.size, : len(state.held)] = self._factor.forward(units, min(state.held))
        self._held, self.weights = state.held, state.weights
        self._own[: state.size] = True
        self._own[list(state.held)] = False
        self.gained = float(self._right[: state.size] @ self.weights)
        self._look_inside()

    def compact(self) -> None:
        """Leave the held rows out of the factor. Weights stay as they are, but for rows that rounding refuses."""
        if not self._held:
            return
        self._soon = {}
        own = self._own[: self.size].copy()
        begin = int(np.argmin(own))
        again, weights = self._order[begin : self.size][own[begin:]], self.weights
        squares, right = self._diagonal[begin : self.size][own[begin:]], self._right[begin : self.size][own[begin:]]
        self.restore(State(begin, (), weights[:begin]))
        at, refused = 0, np.zeros(len(again), bool)
        while at < len(again):
            part = slice(at, min(len(again), at + self._factor.room))
            at = part.stop
            if not self._extend(again[part], squares[part], right[part]):
                refused[part] = [not self._append(row) for row in again[part].tolist()]
        self.weights = np.concatenate([weights[:begin], weights[begin:][own[begin:]][~refused]])
        self.gained = float(self._right[: self.size] @ self.weights)
        if refused.any():
            self._settle()

    def refine(self) -> None:
        """Solve again for the error that products in float32 left, with residuals in float64 from the data."""
        own = self._own[: self.size]
        rows, weights, error = self.free, self.weights[own], np.inf
        for _ in range(4):
            gradient = self._gradient(rows, weights)
            if np.abs(gradient).max(initial=0.0) >= error or (weights <= 0).any():
                return
            self.weights = self.weights.copy()
            self.weights[own], error = weights, np.abs(gradient).max(initial=0.0)
            full = np.zeros(self.size)
            full[own] = gradient
            full = self._factor.forward(full)
            weights = weights + self._solve(full, self._held_columns().T @ full)[own]

    def _gradient(self, rows: Ints, weights: Floats) -> Floats:
        """Half of the steepest descent of E in the weights of some rows, in float64."""
        missing = residual(self._rows, self._target, rows, weights)
        pieces = [rows[a : a + PIECE] for a in range(0, len(rows), PIECE)]
        products = [self._rows[piece].astype(np.float64) @ missing for piece in pieces]
        return np.concatenate([np.empty(0), *products]) - self._lam * weights

    def _append(self, row: int) -> bool:
        size, one = self.size, self._rows[row]
        if self._gram is not None:
            products = self._gram[row, self._order[:size]]
        elif self._chosen is not None:
            products = self._chosen[:size] @ one
        else:
            products = (self._soon[row] if row in self._soon else self._rows @ one)[self._order[:size]]
        wide = one.astype(np.float64)
        diagonal = float(wide @ wide) + self._lam
        added = self._factor.append(products.astype(np.float64), diagonal)
        if added is None:
            return False
        last, pivot = added
        self._diagonal[size], self._right[size] = diagonal, wide @ self._target
        self._z[size] = (self._right[size] - last @ self._z[:size]) / pivot
        if self._held:
            columns = self._columns[:size, : len(self._held)]
            self._columns[size, : len(self._held)] = new = -(last @ columns) / pivot
            self._outer = self._outer + new * self._z[size]
            across = self._apart @ new
            self._apart = self._apart - across[:, None] * (across / (1 + new @ across))
        if self._chosen is not None:
            self._chosen[size] = one
        self._place[row], self._order[size], self._own[size] = size, row, True
        if size % _ANEW == 0:
            self._look_inside()
        return True

    def _extend(self, rows: Ints, diagonal: Floats, right: Floats) -> bool:
        """Append some rows at once, while none is held; False, and nothing changed, where one of them is spanned."""
        size = self.size
        end = size + len(rows)
        if self._chosen is not None:
            self._chosen[size:end] = self._rows[rows]
            products = self._chosen[size:end] @ self._chosen[:end].T
        else:
            every = np.append(self._order[:size], rows)
            products = self._products(rows, every) if self._gram is None else self._gram[rows[:, None], every]
        wide = products.astype(np.float64)
        system = wide[:, size:]
        system[np.diag_indices(len(rows))] = diagonal
        added = self._factor.extend(wide[:, :size], system)
        if added is None:
            return False
        last, apart = added
        self._diagonal[size:end], self._right[size:end] = diagonal, right
        self._z[size:end] = apart @ (right - last @ self._z[:size])
        self._order[size:end], self._own[size:end] = rows, True
        self._place |= zip(rows.tolist(), range(size, end), strict=True)
        return True

    def _products(self, rows: Ints, others: Ints) -> Rows:
        """Of some rows with others; not many of these are copied at a time."""
        some, out = self._rows[rows], np.empty((len(rows), len(others)), self._rows.dtype)
        for a in range(0, len(others), SOME):
            np.matmul(some, self._rows[others[a : a + SOME]].T, out=out[:, a : a + SOME])
        return out

    def _settle(self) -> None:
        """Lawson and Hanson's inner loop: go towards the solution, stop where a weight reaches zero, hold it there."""
        size = self.size
        weights = np.zeros(size)
        weights[: len(self.weights)] = self.weights
        while True:
            aim = self._solve(self._z[:size], self._outer)
            low = np.flatnonzero((aim <= 0) & self._own[:size])
            if not len(low):
                self.weights, self.gained = aim, float(self._right[:size] @ aim)
                return
            fall = weights[low] - aim[low]
            room = np.divide(weights[low], fall, out=np.zeros(len(low)), where=fall > 0)
            at = int(np.argmin(room))
            weights = np.maximum(weights + room[at] * (aim - weights), 0.0)
            weights[low[at]] = 0.0
            self._hold(int(low[at]))

    def _solve(self, z: Floats, outer: Floats) -> Floats:
        """H^-1 of what z is L^-1 of, with the held places at zero; `outer` is V^T z."""
        if not self._held:
            return self._factor.backward(z)
        out = self._factor.backward(z - self._held_columns() @ (self._apart @ outer))
        out[list(self._held)] = 0.0
        return out

    def _hold(self, place: int) -> None:
        unit, at = np.zeros(self.size), len(self._held)
        unit[place] = 1.0
        self._widen(at + 1)
        self._columns[: self.size, at] = self._factor.forward(unit, place)
        self._held, self._own[place] = (*self._held, place), False
        self._look_inside()

    def _release(self, place: int) -> None:
        at, columns = self._held.index(place), self._held_columns()
        columns[:, at:-1] = columns[:, at + 1 :].copy()
        self._held, self._own[place] = self._held[:at] + self._held[at + 1 :], True
        self._look_inside()

    def _held_columns(self) -> Floats:
        """V."""
        return self._columns[: self.size, : len(self._held)]

    def _look_inside(self) -> None:
        columns = self._held_columns()
        self._apart, self._outer = np.linalg.inv(columns.T @ columns), columns.T @ self._z[: self.size]

    def _widen(self, count: int) -> None:
        """Room for so many columns."""
        if count > self._columns.shape[1]:
            wider = np.empty((len(self._z), 2 * count))
            wider[:, : self._columns.shape[1]] = self._columns
            self._columns = wider
