"""Many pursuits at once: one problem a class, solved as one batch in torch, for a GPU.

What: `pursue_batch` gives for each problem what `tamis.curation.omp.solver.pursue` gives for it alone.
When: Grad-Match by class, where ten problems of 5,000 rows leave a GPU idle one by one.
How: rows are padded to [P, N, D], and every step is done for all problems at once: correlations, picks, the inverse of
the chosen rows' system, weights. The inverse B = (A_S A_S^T + lam)^-1 is kept whole in float64, zero outside the chosen
places: a row that comes and a row that goes (its weight would turn negative) are each one outer product, and no place
has to move. A problem that has stopped takes part with zeros. At the end each problem is solved once more in float64.
Numbers: as in `pursue`: products in float32, or float64 where there are at most two million numbers in all.
Cost: P (N D + 2 K D + 3 K^2) multiplications a pick, at the speed at which memory is read; memory
P (4 N D + 4 K D + 16 K^2) bytes, on the device.
Source: as `tamis.curation.omp.solver`; Hager, "Updating the inverse of a matrix", SIAM Review 31, 1989.
Legend: P problems, N rows, D numbers a row, K places for chosen rows.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.curation.errors import CurationError
from tamis.curation.omp.problem import (
    Floats,
    Ints,
    Problem,
    Pursued,
    Stopped,
    check_problem,
    check_settings,
    objective,
    precision,
    residual,
    unit,
    with_spare,
)
from tamis.curation.omp.pruning import thin
from tamis.curation.omp.solver import pursue

_SHARE = 0.5  # of an accelerator's free memory
_LOOKED = 1024  # rows that are looked at at a time, where a product with all would be as large as the data


def pursue_batch(
    problems: Iterable[Problem],
    *,
    lam: float = 0.5,
    tolerance: float = 0.0,
    spare: float = 0.0,
    memory: int | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[Pursued]:
    """Solve many problems at once, as many as fit into the memory.

    Args:
        problems: of equally long rows; those of one batch are in this machine's memory together.
        lam, tolerance, spare: as for `pursue`.
        memory: bytes that a batch may use on the device, the padded rows included; None for half of what is free on an
            accelerator (problems that do not fit into it are solved by `pursue`), and for any on a CPU.
        device: where to compute.

    Returns:
        An answer for each problem, in their order.

    Raises:
        CurationError: what `pursue` raises, or rows of different lengths.
    """
    check_settings(lam, tolerance, spare)
    device = torch.device(device)
    limit = _free(device) if memory is None else memory
    for batch in _batches(problems, spare, memory, limit):
        found: list[Pursued] | None = None
        if limit is None or _needed(batch) <= limit:
            # Others may take memory of the device meanwhile.
            with _exactly(device), suppress(torch.OutOfMemoryError):
                found = _Batch(batch, lam, tolerance, device).run()
        if found is None:
            found = [pursue(p.rows_ND, p.target_D, k=p.k, lam=lam, tolerance=tolerance, spare=spare) for p in batch]
        yield from found


@contextmanager
def _exactly(device: torch.device) -> Generator[None]:
    """Products in full float32, whatever the program allows for its training: ties are told apart by a part in 10^5."""
    with torch.autocast(device.type, enabled=False), torch.no_grad():
        makers: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
        makers = [one for one in makers if hasattr(one, "fp32_precision")]
        if makers:
            before = [one.fp32_precision for one in makers]
            for one in makers:
                one.fp32_precision = "ieee"
            try:
                yield
            finally:
                for one, was in zip(makers, before, strict=True):
                    one.fp32_precision = was
        else:  # torch before 2.9
            all_before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(all_before)


def _free(device: torch.device) -> int | None:
    """The bytes that may be used of an accelerator; None for a CPU."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for whoever asks
    return int(_SHARE * (torch.cuda.mem_get_info(device)[0] + kept))


@dataclass(frozen=True)
class _Checked:
    """A problem, and how many rows to pick with the spare ones."""

    rows_ND: NDArray[np.float32]
    target_D: Floats
    k: int
    more: int


def _batches(
    problems: Iterable[Problem], spare: float, memory: int | None, limit: int | None
) -> Iterator[list[_Checked]]:
    """Problems that fit into the limit together, or one that does not, if the limit is not what was asked for."""
    batch, lengths = list[_Checked](), set[int]()
    for p in problems:
        rows, target, k = check_problem(p.rows_ND, p.target_D, p.k)
        lengths.add(rows.shape[1])
        if len(lengths) > 1:
            raise CurationError(f"rows have {sorted(lengths)} numbers; expected equally many in all problems")
        one = _Checked(rows, target, k, with_spare(len(rows), rows.shape[1], k, spare, memory))
        if memory is not None and (needed := _needed([one])) > memory:
            raise CurationError(
                f"{memory:,} bytes of memory are too few: a problem of {len(rows):,} rows of {rows.shape[1]:,} numbers "
                f"takes {needed:,}. Allow that much, choose fewer, or choose among fewer at a time (partition them)"
            )
        if batch and limit is not None and _needed([*batch, one]) > limit:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _needed(batch: list[_Checked]) -> int:
    """Bytes on the device."""
    n, d, places = max(len(p.rows_ND) for p in batch), batch[0].rows_ND.shape[1], _places(batch)
    size = np.dtype(precision(len(batch) * n * d).dtype).itemsize
    one = size * (n * d + places * d) + 16 * places**2 + 40 * n
    return len(batch) * one + size * _LOOKED * d + 20 * places * d + 32 * places**2  # and a look, and one answer


def _places(batch: list[_Checked]) -> int:
    return max(p.more for p in batch) + 1  # one for the row that is being added


class _Batch:
    """One run. Tensors have a leading P; rows and targets are scaled by powers of two, a pair for each problem."""

    def __init__(
        self,
        problems: list[_Checked],
        lam: float,
        tolerance: float,
        device: torch.device,
    ) -> None:
        self._problems, self._lam, self._tolerance, self._device = problems, lam, tolerance, device
        count, n, d = len(problems), max(len(p.rows_ND) for p in problems), problems[0].rows_ND.shape[1]
        self._places = _places(problems)
        self._kind = precision(count * n * d)
        self._dtype = torch.float64 if self._kind.dtype is np.float64 else torch.float32
        largest = [max(float(p.rows_ND.max(initial=0)), -float(p.rows_ND.min(initial=0))) for p in problems]
        self._units = [unit(each) for each in largest]
        self._wholes = [unit(float(np.abs(p.target_D).max(initial=0))) for p in problems]
        self._rows = torch.zeros(count, n, d, dtype=self._dtype, device=device)
        for p, one in enumerate(problems):
            # Through float64, a few rows at a time: one over the unit of very small rows is no float32.
            for a in range(0, len(one.rows_ND), 1024):
                piece = one.rows_ND[a : a + 1024] / np.float64(self._units[p])
                self._rows[p, a : a + len(piece)] = torch.from_numpy(piece)
        targets = np.stack([p.target_D / whole for p, whole in zip(problems, self._wholes, strict=True)])
        self._target = torch.from_numpy(targets).to(device)
        self._ridge = self._each([lam / u**2 for u in self._units])
        self._k = self._each([p.k for p in problems])
        self._square = (self._target**2).sum(1)
        self._p = torch.arange(count, device=device)
        self._start(count, n, d)

    def _each(self, values: list[float] | list[int]) -> Tensor:
        """One number a problem."""
        return torch.tensor(values, dtype=torch.float64, device=self._device)

    def _start(self, count: int, n: int, d: int) -> None:
        k, device = self._places, self._device
        self._chosen = torch.zeros(count, k, d, dtype=self._dtype, device=device)
        self._row = torch.full((count, k), -1, device=device)  # which row is at a place
        self._taken = torch.zeros(count, k, dtype=torch.bool, device=device)
        self._inverse = torch.zeros(count, k, k, dtype=torch.float64, device=device)
        self._right, self._weights = (
            torch.zeros(count, k, dtype=torch.float64, device=device),
            torch.zeros(count, k, dtype=torch.float64, device=device),
        )
        step = max(1, _LOOKED // count)
        pieces = [self._rows[:, a : a + step].square().sum(2) for a in range(0, n, step)]
        squares = torch.cat(pieces, dim=1).double()
        helps = self._kind.nothing * self._square[:, None].sqrt() * (squares + self._ridge[:, None]).sqrt()
        self._floor = helps.to(self._dtype)
        self._spanned = torch.zeros(count, n, dtype=torch.bool, device=device)
        self._useless, self._open = self._spanned.clone(), torch.ones_like(self._spanned)
        self._gained, self._stopped = torch.zeros(count, dtype=torch.float64, device=device), dict[int, Stopped]()
        self._gains, self._picked = [list[float]() for _ in range(count)], [list[int]() for _ in range(count)]

    def run(self) -> list[Pursued]:
        self._pursue(torch.ones(len(self._problems), dtype=torch.bool, device=self._device))
        answers = [self._answer(p) for p in range(len(self._problems))]
        again = [
            p
            for p, (one, found) in enumerate(zip(self._problems, answers, strict=True))
            if found.stopped == "budget" and one.more > one.k
        ]
        if again:
            running = torch.zeros(len(self._problems), dtype=torch.bool, device=self._device)
            running[again] = True
            self._k = self._each([p.more for p in self._problems])
            self._pursue(running)
        for p in again:
            one = self._problems[p]
            other = thin(one.rows_ND, one.target_D, self._answer(p), one.k, self._lam)
            if other is not None and other.objective < answers[p].objective:
                answers[p] = other
        return answers

    def _pursue(self, running: Tensor) -> None:
        """Pick, in the problems that are running, until each has its k rows or stops before."""
        while running.any():
            row, found = self._best()
            self._stop(running & ~found, "optimal")
            running = running & found
            self._take(row, running)
            count = self._taken.sum(1)
            full = running & (count >= self._k)
            self._stop(full, "budget")
            near = running & ~full & (self._square - self._gained <= self._tolerance * self._square)
            near &= bool(self._tolerance) & (count > 0)
            self._stop(near, "tolerance")
            running = running & ~full & ~near

    def _best(self) -> tuple[Tensor, Tensor]:
        """The row that correlates most with what is missing, of equals the lowest, and whether there is one."""
        kind = self._dtype
        missing = self._target.to(kind) - torch.bmm(self._weights.to(kind)[:, None], self._chosen)[:, 0]
        left = torch.bmm(self._rows, missing[:, :, None])[:, :, 0]
        shut = (left <= self._floor) | ~self._open | self._spanned | self._useless
        left.masked_fill_(shut, -torch.inf)
        best = left.max(1).values
        gone = ((self._square - self._gained).clamp(min=0) / self._square).nan_to_num().sqrt().to(kind)
        equal = best * (1 - self._kind.tie)
        tied = (left >= equal[:, None] - self._floor * 0.25 * gone[:, None]) & (left > -torch.inf)
        return tied.to(torch.uint8).argmax(1), best > -torch.inf

    def _take(self, row: Tensor, running: Tensor) -> None:
        """Add a row to each running problem and settle the weights."""
        before, place = self._gained.clone(), (~self._taken).to(torch.uint8).argmax(1)
        one = self._rows[self._p, row]
        wide = one.double()
        column = torch.bmm(self._chosen, one[:, :, None])[:, :, 0].double() * self._taken
        diagonal = (wide**2).sum(1) + self._ridge
        solved = torch.bmm(self._inverse, column[:, :, None])[:, :, 0]
        rest = diagonal - (column * solved).sum(1)
        new = running & (rest > self._kind.dependent * diagonal)
        self._spanned[self._p, row] |= running & ~new
        p, at = self._p[new], place[new]
        solved[self._p, place] = -1.0
        self._update(solved, torch.where(new, 1 / rest, 0.0))
        self._chosen[p, at], self._row[p, at], self._taken[p, at] = one[p], row[p], True
        self._right[p, at] = (wide * self._target).sum(1)[p]
        self._open[p, row[p]] = False
        left = self._settle(new)
        self._gained = (self._right * self._weights).sum(1)
        kept = new & self._taken[self._p, place] & (self._row[self._p, place] == row)
        self._spanned &= ~(left & kept)[:, None]
        # A row is picked twice only if the first time lowered E: so picking comes to an end, whatever rounding does.
        useless = new & (self._gained <= before + torch.finfo(torch.float64).eps * self._square)
        self._useless[self._p, row] |= useless
        for p, pick, gain in zip(*(t[kept].tolist() for t in (self._p, row, self._gained)), strict=True):
            self._picked[p].append(pick)
            self._gains[p].append(gain)

    def _update(self, vector: Tensor, factor: Tensor) -> None:
        """B += factor * vector vector^T, for each problem."""
        self._inverse.baddbmm_((vector * factor[:, None])[:, :, None], vector[:, None])

    def _settle(self, changed: Tensor) -> Tensor:
        """Lawson and Hanson's inner loop: towards the solution, and out with what reaches zero first.

        Returns which problems lost a row.
        """
        lost = torch.zeros_like(changed)
        while True:
            aim = torch.bmm(self._inverse, self._right[:, :, None])[:, :, 0]
            low = self._taken & (aim <= 0) & changed[:, None]
            falling = low.any(1)
            self._weights = torch.where((changed & ~falling)[:, None], aim * self._taken, self._weights)
            changed = changed & falling
            if not changed.any():
                return lost
            fall = self._weights - aim
            room = torch.where(low, torch.where(fall > 0, self._weights / fall, 0.0), torch.inf)
            step, place = room.min(1)
            moved = (self._weights + step.nan_to_num(posinf=0.0)[:, None] * (aim - self._weights)).clamp(min=0)
            self._weights = torch.where(changed[:, None], moved, self._weights)
            self._drop(place, changed)
            lost |= changed

    def _drop(self, place: Tensor, which: Tensor) -> None:
        """Take a row out of the system of some problems."""
        vector = self._inverse[self._p, :, place]
        pivot = vector[self._p, place]
        self._update(vector, torch.where(which, -1 / pivot, 0.0))
        p, at = self._p[which], place[which]
        self._inverse[p, at], self._inverse[p, :, at] = 0.0, 0.0
        self._open[p, self._row[p, at]] = True
        self._weights[p, at], self._right[p, at], self._taken[p, at], self._chosen[p, at] = 0.0, 0.0, False, 0.0

    def _stop(self, which: Tensor, why: Stopped) -> None:
        for p in self._p[which].tolist():
            self._stopped[p] = why

    def _answer(self, p: int) -> Pursued:
        rows_ND, target = self._problems[p].rows_ND, self._problems[p].target_D
        taken = self._taken[p] & (self._weights[p] > 0)
        last = {row: pick for pick, row in enumerate(self._picked[p])}
        pairs = zip(self._row[p][taken].tolist(), self._weights[p][taken].tolist(), strict=True)
        pairs = sorted(pairs, key=lambda pair: last[pair[0]])
        rows = np.array([row for row, _ in pairs], np.int64)
        weights = np.array([weight for _, weight in pairs]) * (self._wholes[p] / self._units[p])
        weights = self._refined(p, rows, weights)
        end = objective(rows_ND, target, rows, weights, self._lam)
        path = np.maximum((float(self._square[p]) - np.array(self._gains[p])) * self._wholes[p] ** 2, end)
        path[-1:] = end
        return Pursued(rows, weights, end, np.minimum.accumulate(path), self._stopped[p])

    def _refined(self, p: int, rows: Ints, weights: Floats) -> Floats:
        """The weights of chosen rows, solved for again in float64; as they are where one would not be positive."""
        rows_ND, target = self._problems[p].rows_ND, self._problems[p].target_D
        chosen = torch.from_numpy(rows_ND[rows]).to(self._device).double() / self._units[p]
        system = chosen @ chosen.T + self._ridge[p] * torch.eye(len(rows), dtype=torch.float64, device=self._device)
        factor, failed = torch.linalg.cholesky_ex(system)
        out = weights
        for _ in range(0 if failed.item() else 2):
            missing = torch.from_numpy(residual(rows_ND, target, rows, out) / self._wholes[p]).to(self._device)
            scaled = torch.from_numpy(out * (self._units[p] / self._wholes[p])).to(self._device)
            slope = chosen @ missing - self._ridge[p] * scaled
            out = (scaled + torch.cholesky_solve(slope[:, None], factor)[:, 0]).cpu().numpy()
            out = out * (self._wholes[p] / self._units[p])
        return out if (out > 0).all() else weights
