"""A Cholesky factor that grows by a row at a time, in float64, for systems whose columns come one by one.

What: `GrowingCholesky` holds L with L L^T = H for a symmetric positive definite H; `append` adds a row and column of
H, `extend` some at once.
When: inside `tamis.curation.omp.solver`, where the next column depends on the solution so far.
How: L is kept in row blocks of `BLOCK`, each as wide as it has to be. The blocks on the diagonal are kept as their
inverses, which is all that solving needs: one matrix-vector product a block row.
Cost: S^2 / 2 multiplications to go forward or backward, at the speed at which memory is read; memory 4 S (S + BLOCK)
bytes, half of a full float64 matrix.
Source: Golub and Van Loan, Matrix Computations, 4th edition, section 4.2 (the bordered Cholesky factorization).
Legend: S rows in the factor, T more that come together.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK = 128

Floats = NDArray[np.float64]


class GrowingCholesky:
    """L of a growing system. `size` is its number of rows.

    Args:
        dependent: a column depends on the others where less than this part of its diagonal entry is its own.
    """

    def __init__(self, dependent: float) -> None:
        self.size = 0
        self._dependent = dependent
        self._rows: list[Floats] = []  # [BLOCK, (i + 1) * BLOCK], the last BLOCK columns inverted

    def append(self, column_S: Floats, diagonal: float) -> tuple[Floats, float] | None:
        """Add a row and a column.

        Args:
            column_S: the new column of H above the diagonal, [size].
            diagonal: its diagonal entry.

        Returns:
            The new row of L, [size], and its diagonal entry; None, and nothing added, where the column depends on the
            others.
        """
        row_S = self.forward(column_S)
        rest = diagonal - float(row_S @ row_S)
        if not rest > self._dependent * diagonal:
            return None
        pivot = rest**0.5
        block, row = divmod(self.size, BLOCK)
        first = block * BLOCK
        if block == len(self._rows):
            self._rows.append(np.zeros((BLOCK, first + BLOCK)))
        rows = self._rows[block]
        inverse = rows[:, first:]
        rows[row, :first] = row_S[:first]
        inverse[row, :row] = -(row_S[first:] @ inverse[:row, :row]) / pivot
        inverse[row, row] = 1 / pivot
        self.size += 1
        return row_S, pivot

    @property
    def room(self) -> int:
        """How many rows `extend` takes now, at most."""
        return BLOCK - self.size % BLOCK

    def extend(self, columns_TS: Floats, system_TT: Floats) -> tuple[Floats, Floats] | None:
        """Add up to `room` rows and columns at once, at the speed of matrix products.

        Args:
            columns_TS: the new rows of H, up to the diagonal part, [T, size].
            system_TT: their own part of H.

        Returns:
            The new rows of L, [T, size], and the inverse of their own part, [T, T]; None, and nothing added, where one
            of the columns depends on the others.
        """
        rows_TS = self.forward(columns_TS.T).T
        try:
            own_TT = np.linalg.cholesky(system_TT - rows_TS @ rows_TS.T)
        except np.linalg.LinAlgError:
            return None
        if not (np.diag(own_TT) ** 2 > self._dependent * np.diag(system_TT)).all():
            return None
        block, row = divmod(self.size, BLOCK)
        first, end = block * BLOCK, row + len(own_TT)
        if block == len(self._rows):
            self._rows.append(np.zeros((BLOCK, first + BLOCK)))
        rows = self._rows[block]
        apart_TT = np.tril(np.linalg.inv(own_TT)).astype(np.float64)
        inverse = rows[:, first:]
        rows[row:end, :first] = rows_TS[:, :first]
        inverse[row:end, :row] = -apart_TT @ rows_TS[:, first:] @ inverse[:row, :row]
        inverse[row:end, row:end] = apart_TT
        self.size += len(own_TT)
        return rows_TS, apart_TT

    def forward(self, right_S: Floats, begin: int = 0) -> Floats:
        """Return L^-1 right, [size] or [size, T]; the first `begin` entries of `right_S` must be zero."""
        size, first = len(right_S), begin // BLOCK
        out_S = np.zeros(right_S.shape)
        for block in range(first, -(-size // BLOCK)):
            a, b = block * BLOCK, min((block + 1) * BLOCK, size)
            part = right_S[a:b]
            if block > first:
                part = part - self._rows[block][: b - a, first * BLOCK : a] @ out_S[first * BLOCK : a]
            out_S[a:b] = self._rows[block][: b - a, a:b] @ part
        return out_S

    def backward(self, right_S: Floats) -> Floats:
        """Return L^-T right, [size]."""
        size = len(right_S)
        left_S, out_S = right_S.copy(), np.empty(size)
        for block in range(-(-size // BLOCK) - 1, -1, -1):
            a, b = block * BLOCK, min((block + 1) * BLOCK, size)
            out_S[a:b] = left_S[a:b] @ self._rows[block][: b - a, a:b]
            if a:
                left_S[:a] -= out_S[a:b] @ self._rows[block][: b - a, :a]
        return out_S

    def cut(self, size: int) -> None:
        """Take rows back, down to a size. Their memory is kept, for later rows to be written over them."""
        self.size = size
