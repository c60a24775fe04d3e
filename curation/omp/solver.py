"""Orthogonal matching pursuit with non-negative weights and a ridge: few rows whose weighted sum is a target.

What: `pursue` minimises E(S, w) = ||A_S^T w - b||^2 + lam ||w||^2 over w >= 0 and |S| <= k, greedily: the row that
correlates most with what is missing comes next, then all weights are solved for again.
When: to match a gradient with the gradients of few samples (`tamis.curation.gradmatch.method`).
How: the system of the chosen rows is one growing Cholesky factor, never built anew (`tamis.curation.omp.active_set`).
The correlations of all N rows are computed for many picks at a time, as one matrix product: picks are made among listed
rows (`LISTED`, or one in `SHARE`), those that correlate most now and those that did lately, and each is confirmed
against all rows afterwards; where another row turns out to have been better, the picks from there on are taken back.
So the answer is that of the plain algorithm, at the price of a product a block in place of one a pick. Rows that
correlate alike, to what the numbers can tell (`tamis.curation.omp.problem.Precision`), go by their index, lowest first.
Numbers: products are in float32 (float64 where there are at most two million numbers), factors and weights in
float64; the weights are refined at the end with residuals in float64.
Cost: N D + 2 S D + S^2 multiplications a pick, those of the first term in matrix products; memory 4 k D bytes beside
the data, or 4 N^2 where the Gram matrix of all rows is cheaper, and 4 k^2 for the factor. Where that is too much, the
first of these is spared: products are made with all rows then, 2 N D multiplications a pick in place of 2 S D.
Source: Killamsetty et al., "GRAD-MATCH", ICML 2021, algorithm 2 and equation 3 (the objective, and picking by
correlation); Bruckstein, Elad and Zibulevsky, IEEE Trans. Inf. Theory 54, 2008 (non-negative matching pursuit).
Departure: a row that is chosen is not picked again, where CORDS does that and stops; weights are never negative.
Legend: N rows, D numbers a row, S rows in the factor, L rows listed, T picks of a block.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError
from tamis.curation.omp.active_set import SOME, Rows, State, Support
from tamis.curation.omp.problem import (
    PIECE,
    Floats,
    Ints,
    Precision,
    Problem,
    Pursued,
    Stopped,
    check_problem,
    check_settings,
    objective,
    precision,
    unit,
    with_spare,
)
from tamis.curation.omp.pruning import thin

LISTED = 768  # at least
SHARE = 8  # one in so many rows is listed, where that is more
BLOCK = 32  # picks between two looks at all rows, at most
_HELD = 32  # rows held at zero before they are left out of the factor, at least
_SPEED = 6  # multiplications of a matrix product in the time of one whose numbers come from memory
_GROWTH = 1.25  # of the picks between two looks, while they are right
_FADE = 0.95  # of a correlation's weight for the list, from a look to the next
_LOOKED = 1 << 14  # rows looked at at a time
_ORDINARY = 2.0**30  # rows whose largest number is within this and its inverse are used as they are


def pursue(
    rows_ND: NDArray[np.floating],
    target_D: NDArray[np.floating],
    *,
    k: int,
    lam: float = 0.5,
    tolerance: float = 0.0,
    spare: float = 0.0,
    memory: int | None = None,
) -> Pursued:
    """Choose at most k rows and their weights.

    Args:
        rows_ND: floats [N, D]; float32 is used as it is, others are taken to it.
        target_D: [D].
        k: 1 to N.
        lam: ridge, 0 or more.
        tolerance: stop once E is at most this fraction of ||b||^2.
        spare: pick this fraction of k more than k, and leave out again what is missed least
            (`tamis.curation.omp.pruning`, 24 k^2 bytes; not done where that is more than `memory`), if that lowers E.
            0.05 lowers it by 5 to 15 % for 10 to 30 % more time. 0 is the paper's algorithm.
        memory: bytes that may be used beside the data; None for twice the data's own size, and at least 64 MiB (256 for
            thinning) and what is needed.

    Returns:
        The rows and their weights. Where no row points towards the target, none.

    Raises:
        BudgetError: k out of range.
        NonFiniteError: rows with NaN or infinities, counted and named.
        CurationError: lam or tolerance out of range, shapes that do not fit, or too little memory (says how much is
            needed).
    """
    rows, target, k = check_problem(rows_ND, target_D, k)
    check_settings(lam, tolerance, spare)
    more = with_spare(len(rows), rows.shape[1], k, spare, memory)
    pursuit = _Pursuit(rows, target, more, lam, memory)
    plain = pursuit.run(k, tolerance)
    if plain.stopped != "budget" or more == k:
        return plain
    found = pursuit.run(more, tolerance)
    del pursuit  # its memory is what thinning takes
    other = thin(rows, target, found, k, lam)
    return other if other is not None and other.objective < plain.objective else plain


def pursue_each(
    problems: Iterable[Problem],
    *,
    lam: float = 0.5,
    tolerance: float = 0.0,
    spare: float = 0.0,
    memory: int | None = None,
) -> Iterator[Pursued]:
    """Solve problems one after the other, here: `pursue` of each."""
    for p in problems:
        yield pursue(p.rows_ND, p.target_D, k=p.k, lam=lam, tolerance=tolerance, spare=spare, memory=memory)


class _Pursuit:
    """One run over one set of rows. Rows and target are scaled by powers of two, so that their squares are numbers."""

    def __init__(self, rows_ND: NDArray[np.float32], target_D: Floats, k: int, lam: float, memory: int | None) -> None:
        self._given, self._target, self._k, self._lam = rows_ND, target_D, k, lam
        largest = max(float(rows_ND.max(initial=0.0)), -float(rows_ND.min(initial=0.0)))
        self._kind = precision(rows_ND.size)
        self._unit = 1.0 if 1 / _ORDINARY <= largest <= _ORDINARY else unit(largest)
        self._whole = unit(float(np.abs(target_D).max(initial=0.0)))  # the target's unit
        copied = self._unit != 1.0 or self._kind.dtype is not np.float32
        plan = _afford(len(rows_ND), rows_ND.shape[1], k, memory, self._kind, copied)
        self._rows: Rows = _scaled(rows_ND, self._unit, self._kind) if copied else rows_ND
        target = target_D / self._whole
        gram = self._rows @ self._rows.T if plan.way == "gram" else None
        room = min(len(rows_ND), k + _held(k) + BLOCK)
        ridge, copied = lam / self._unit**2, plan.way == "copy"
        self._support = Support(self._rows, target, ridge, gram, room, self._kind.dependent, copied=copied)
        self._gram, self._listed = gram, min(max(LISTED, len(rows_ND) // SHARE), plan.listed)
        self._first = self._rows @ target.astype(self._kind.dtype)  # correlations with the target [N]
        self._square = float(target @ target)
        helps = self._kind.nothing * self._square**0.5 * np.sqrt(_squares(self._rows) + lam / self._unit**2)
        self._floor: Rows = helps.astype(self._kind.dtype)
        self._spanned, self._useless = frozenset[int](), frozenset[int]()  # by the rows chosen now; for good
        self._now = self._first  # correlations with what is missing now [N]
        self._high = self._first.copy()  # how high each row's correlation was lately
        self._crowded = False  # a row was refused that the held rows help to span
        self._gains, self._picked = list[float](), list[int]()  # ||b||^2 - E after each pick, and its row

    def run(self, k: int, tolerance: float) -> Pursued:
        """Pick until k rows are chosen; called again with a larger k, it goes on from there."""
        self._k = k
        picks, stopped = BLOCK, None
        while stopped is None:
            if self._crowded or self._support.held > _held(self._k):
                self._support.compact()
                self._crowded = False
            listed = self._list(self._now)
            stopped, begun = self._pick(listed, picks, tolerance)
            wrong = self._confirm(listed, begun, stopped)
            if wrong:  # a row that was not listed was better than this pick: it and those after it are taken back
                self._take_back(begun[wrong])
                stopped = None
            picks = wrong or min(BLOCK, math.ceil(_GROWTH * picks))  # as many as were right
        return self._answer(stopped)

    def _closed(self) -> Ints:
        """The rows that may not be picked; some may be there twice."""
        if not self._spanned and not self._useless:
            return self._support.free
        return np.concatenate([self._support.free, [*self._spanned], [*self._useless]]).astype(np.int64)

    def _blur(self) -> float:
        """How far correlations can be wrong now, as a part of `_floor`.

        Products with what is missing are as exact as that is small. Those made with the Gram matrix are differences
        from the correlations with the whole target, and as wrong as these.
        """
        left = max(self._square - self._support.gained, 0.0)
        return 0.25 if self._gram is not None or not self._square else 0.25 * (left / self._square) ** 0.5

    def _equal(self, best: float | Floats, blur: Rows) -> Rows:
        """From where on correlations are as good as the best."""
        return (best * (1 - self._kind.tie) - blur).astype(blur.dtype)

    def _list(self, correlations_N: Rows) -> Ints:
        """The rows that correlate most among those that may be picked, with the one to be picked now; sorted."""
        if self._listed >= len(correlations_N):
            return np.arange(len(correlations_N))
        open_N = correlations_N - np.where(correlations_N > self._floor, 0, abs(correlations_N.max()))
        open_N[self._closed()] = -np.inf
        best = open_N.max()
        first = int(np.argmax(open_N >= self._equal(best, self._floor * self._blur()))) if best > 0 else 0
        half = (self._listed + 1) // 2
        high_N = np.where(open_N > -np.inf, self._high, -np.inf)
        now = np.argpartition(open_N, -half)[-half:]
        high_N[now] = -np.inf
        return np.union1d(np.append(np.argpartition(high_N, -half)[-half:], now), first)

    def _pick(self, listed: Ints, picks: int, tolerance: float) -> tuple[Stopped | None, list["_Begun"]]:
        """Up to `picks` picks among the listed rows. What was there before each is kept; the last entry is the end."""
        data, floor, first, begun = self._rows_of(listed), self._floor[listed], self._first[listed], list[_Begun]()
        place_N = np.full(len(self._rows), len(listed), np.intp)  # in the list; others share one behind it
        place_N[listed] = np.arange(len(listed))
        all_left = np.empty(len(listed) + 1, data.dtype)
        left, stopped = all_left[:-1], cast(Stopped | None, None)
        while True:
            closed, vector = self._closed(), self._support.missing() if self._gram is None else self._support.spread()
            np.matmul(data, vector, out=left)
            if self._gram is not None:
                np.subtract(first, left, out=left)
            all_left[place_N[closed]] = -np.inf
            left[left <= floor] = -np.inf
            best = float(left.max())
            at = int(np.argmax(left >= self._equal(best, floor * self._blur()))) if best > 0 else 0
            begun.append(self._begin(vector, closed, best, int(listed[at])))
            if stopped or len(begun) > picks or self._crowded:
                return stopped, begun
            if best <= 0:
                return "optimal", begun
            if len(begun) == 1:
                likely = min(len(left), 4 * picks)
                self._support.expect(listed[np.argpartition(left, -likely)[-likely:]])
            self._take(int(listed[at]))
            if self._support.count >= self._k:
                stopped = "budget"
            elif tolerance and self._gains and self._square - self._gains[-1] <= tolerance * self._square:
                stopped = "tolerance"

    def _take(self, row: int) -> None:
        """Add a row to the chosen ones, or note why not."""
        support, held = self._support, self._support.state().held
        gained = support.gained
        if not support.add(row):
            self._crowded = bool(support.held)  # the held rows may be what spans it: it is asked again without them
            self._spanned = self._spanned if self._crowded else self._spanned | {row}
            return
        if support.weight(row) > 0:
            self._gains.append(support.gained)
            self._picked.append(row)
            if support.state().held != held:
                self._spanned = frozenset()
        # A row is picked twice only if the first time lowered E: so picking comes to an end, whatever rounding does.
        if support.gained <= gained + np.finfo(float).eps * self._square:
            self._useless |= {row}

    def _rows_of(self, listed: Ints) -> Rows:
        return self._rows[listed] if self._gram is None else self._gram[listed]

    def _begin(self, vector: Rows, closed: Ints, best: float, row: int) -> "_Begun":
        state = self._support.state()
        return _Begun(state, vector, closed, best, self._blur(), row, len(self._gains), self._spanned, self._useless)

    def _take_back(self, begun: "_Begun") -> None:
        self._support.restore(begun.state)
        del self._gains[begun.made :], self._picked[begun.made :]
        self._spanned, self._useless, self._crowded = begun.spanned, begun.useless, False

    def _confirm(self, listed: Ints, begun: list["_Begun"], stopped: Stopped | None) -> int:
        """Correlate all rows with what was missing; the first pick that was wrong, or 0.

        The first entry is right by the way the list was made. The last one is no pick; what it says is to be confirmed
        only where it says that no row helps any more.
        """
        last = len(begun) if stopped == "optimal" else len(begun) - 1
        vectors = np.stack([one.vector for one in begun], axis=1)
        found = np.empty((len(self._rows), len(begun)), self._rows.dtype)
        wrong = last
        for a in range(0, len(found), _LOOKED):
            piece = found[a : a + _LOOKED]
            np.matmul((self._rows if self._gram is None else self._gram)[a : a + _LOOKED], vectors, out=piece)
            if self._gram is not None:
                np.subtract(self._first[a : a + _LOOKED, None], piece, out=piece)
            wrong = min(wrong, self._better(a, piece, listed, begun[:last]))
        self._high *= self._high.dtype.type(_FADE)
        for each in found.T:  # NumPy's maximum along a short axis takes five times as long
            np.maximum(self._high, each, out=self._high)
        self._now = found[:, -1 if wrong == last else wrong].copy()  # where it goes on
        return 0 if wrong == last else wrong

    def _better(self, a: int, found: Rows, listed: Ints, begun: list["_Begun"]) -> int:
        """The first pick, but for the very first, for which a row that was not listed was better; else their number."""
        floor, best = self._floor[a : a + len(found)], np.array([max(one.best, 0.0) for one in begun])
        blur, rows = np.array([one.blur for one in begun], floor.dtype), np.array([one.row for one in begun])
        near = found[:, : len(begun)] >= self._equal(best, floor.max(initial=0.0) * blur)  # or nearer than that
        near[_within(listed, a, len(found))] = False
        near[:, :1] = False
        for column, one in enumerate(begun):
            near[_within(one.closed, a, len(found)), column] = False
        at, picks = np.nonzero(near)
        value, earlier = found[at, picks], at + a < rows[picks]
        equal = earlier & (value >= self._equal(best[picks], floor[at] * blur[picks]))
        better = equal | (value > best[picks] * (1 + self._kind.tie) + floor[at] * blur[picks])
        return int(picks[better & (value > floor[at])].min(initial=len(begun)))

    def _answer(self, stopped: Stopped) -> Pursued:
        support = self._support
        support.refine()
        last = {row: pick for pick, row in enumerate(self._picked)}
        rows = np.array(sorted({*support.free} & {*last}, key=last.__getitem__), np.int64)
        weights = np.array([support.weight(row) for row in rows.tolist()]) * (self._whole / self._unit)
        end = objective(self._given, self._target, rows, weights, self._lam)
        path = np.maximum((self._square - np.array(self._gains)) * self._whole**2, end)
        path[-1:] = end
        return Pursued(rows, weights, end, np.minimum.accumulate(path), stopped)


@dataclass(frozen=True)
class _Begun:
    """What was there before a pick."""

    state: State
    vector: Rows  # what is missing [D], or the weights [N] with a Gram matrix
    closed: Ints  # rows that could not be picked
    best: float  # the largest correlation of a listed row that helps; -inf where none does
    blur: float
    row: int  # the one that was picked
    made: int  # picks made until then
    spanned: frozenset[int]
    useless: frozenset[int]


_Way = Literal["gram", "copy", "rows"]  # products from A A^T, from a copy of the chosen rows, or with all rows


@dataclass(frozen=True)
class _Plan:
    """How memory is used."""

    way: _Way
    listed: int


def _afford(n: int, d: int, k: int, memory: int | None, kind: Precision, copied: bool) -> _Plan:
    """Where products come from, by what is cheaper and what there is room for, and how many rows can be listed."""
    size, rows = np.dtype(kind.dtype).itemsize, min(n, k + _held(k) + BLOCK)
    chosen, gram = size * rows * d, size * n * n
    one = 64 * size  # rows of a list at least
    fixed = (
        4 * rows * (rows + 128) + 8 * rows * 3 * (_held(k) + BLOCK)  # the factor; what is held, and was there before
        + size * (BLOCK + 1) * (n + 4 * min(n, _LOOKED)) + 32 * n  # a look at the rows; a few numbers for each
        + 12 * PIECE * d + (size * n * d if copied else 0)
    )  # fmt: skip
    rest = one + 2 * size * BLOCK
    ways: dict[_Way, int] = {
        "gram": fixed + gram + n * rest,
        "copy": fixed + chosen + d * rest,
        "rows": fixed + d * rest + 4 * size * BLOCK * (n + d) + 12 * SOME * rows,
    }
    least = min(ways.values())
    budget = max(8 * n * d, 64 << 20, least) if memory is None else memory
    if least > budget:
        raise CurationError(
            f"{budget:,} bytes of memory are too few: choosing {k:,} of {n:,} rows of {d:,} numbers takes {least:,}. "
            "Allow that much, or choose fewer rows at a time (partition them)"
        )
    fastest: _Way = "gram" if n * n / _SPEED < k * k else "copy"
    way = min(ways, key=lambda way: (ways[way] > budget, way != fastest, way == "rows"))
    return _Plan(way, 64 + (budget - ways[way]) // (size * (n if way == "gram" else d)))


def _held(k: int) -> int:
    """How many rows may be held: leaving them out takes as long as many picks, and each slows the picks down."""
    return max(_HELD, k // 64)


def _scaled(rows_ND: NDArray[np.float32], by: float, kind: Precision) -> Rows:
    """A copy of the rows, over a power of two, in another type."""
    out = rows_ND.astype(kind.dtype)
    for factor in (2.0 ** -(np.log2(by) // 2), 1 / (by * 2.0 ** -(np.log2(by) // 2))):  # one factor may be too large
        out *= kind.dtype(factor)
    return out


def _squares(rows_ND: Rows) -> Rows:
    pieces = [rows_ND[a : a + _LOOKED] for a in range(0, len(rows_ND), _LOOKED)]
    return np.concatenate([np.einsum("nd,nd->n", piece, piece) for piece in pieces])


def _within(rows: Ints, a: int, count: int) -> Ints:
    """Those of some rows that lie from a to a + count, counted from a."""
    return rows[(rows >= a) & (rows < a + count)] - a
