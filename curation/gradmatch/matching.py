"""Matching gradients: problems by class or by mini-batch, their budgets, and the choice merged from their answers.

What: `match` states one or more problems min ||A_S^T w - b||^2 + lam ||w||^2 over w >= 0 and |S| <= k, has them pursued
(`tamis.curation.gradmatch.levels`), fills up budgets that a pursuit did not use, and gives exactly k samples.
Which problems, why, and at what cost: `tamis.curation.gradmatch.method`, the method's card.
Legend: N samples, M validation samples, C classes, E features, D numbers a gradient, k chosen samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count, proportional_quotas
from tamis.curation.errors import CurationError
from tamis.curation.gradmatch.gradients import (
    KINDS,
    Floats,
    Gradients,
    Ints,
    Kind,
    LastLayer,
    Matrix,
    Rows,
    Target,
)
from tamis.curation.gradmatch.levels import Settings, Wanted, pursue_all, rest_of, square
from tamis.curation.gradmatch.result import Matched, Problem
from tamis.curation.omp.problem import Pursue, Pursued
from tamis.curation.omp.solver import pursue_each
from tamis.curation.randomized import fixed_batches
from tamis.curation.ranking import by_class

_NAMED = 10  # of the samples left out, how many an error lists


@dataclass(frozen=True, eq=False)
class _Solved:
    """One problem's samples in the order of choice, those filled last."""

    samples: Ints
    weights: Floats
    filled: NDArray[np.bool_]
    problem: Problem


def match(
    gradients: Gradients | Rows,
    labels_N: Ints | None,
    *,
    k: int,
    kind: Kind = "class-gradient",
    lam: float = 0.5,
    tolerance: float = 0.0,
    spare: float = 0.05,
    target: Target | None = None,
    batch_size: int = 128,
    part_size: int = 32768,
    surplus: float = 2.0,
    memory: int | None = None,
    pursue: Pursue = pursue_each,
    generator: np.random.Generator,
) -> Matched:
    """Choose exactly `k` samples and their weights.

    Args:
        gradients: of the candidates, the samples 0 to N - 1: a `LastLayer`, or float32 [N, D].
        labels_N: their classes, integers [N]; not needed for the kind "batch".
        k: how many to choose, between 1 and the number of samples with a finite gradient.
        kind: "class", "class-gradient" (a `LastLayer` only) or "batch".
        lam: ridge on the weights, 0 or more.
        tolerance: a pursuit stops once E is at most this fraction of ||b||^2.
        spare: rows that a pursuit picks beyond its budget and leaves out again, as a fraction of it; 0 is the paper's.
        target: match a validation gradient: its sum (over the class) times the number of candidates (of the class) over
            the number of validation samples (of the class). None: the sum over the candidates.
        batch_size: samples a mini-batch of the partition.
        part_size: rows from which a problem is solved in two levels, in parts of at most so many rows.
        surplus: how many times its share of k each part hands on to the second level, 1 or more.
        memory: bytes that one pursuit may use beside its rows (on a GPU: a batch of them, with its rows); None for the
            pursuit's own limit.
        pursue: what solves the problems: one after the other, several at a time in processes
            (`tamis.curation.omp.processes.Pursuers.pursue`), or as a batch on a GPU
            (`functools.partial(tamis.curation.omp.batched.pursue_batch, device="cuda")`).
        generator: where the partitions come from. For "batch" it is the one of
            `tamis.curation.randomized.fixed_batches`: the same generator state gives the same batches, round by round.

    Returns:
        The samples and weights. The same inputs and the same state of the generator give the same answer.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: more samples asked for than have finite gradients (names some of the others), labels or a target
            that do not fit, parameters out of range, or too little memory.
    """
    settings = Settings(lam, tolerance, spare, part_size, surplus, memory, pursue, generator)
    source = _source(gradients)
    _check(source, kind, settings)
    k, good = check_count(k, len(source)), source.finite()
    excluded = np.flatnonzero(~good)
    _check_left(k, len(source), excluded)
    aim = None if target is None else _Aim(target, source, kind)
    if kind == "batch":
        batches = fixed_batches(len(source), batch_size=batch_size, generator=generator)
        batches = [left for left in (batch[good[batch]] for batch in batches) if len(left)]
        solved = [_solve_batches(source, batches, k, batch_size, aim, settings)]
    else:
        labels_N = _labels(labels_N, source, "labels", "candidates")
        solved = _solve_classes(list(_classes(source, labels_N, good, k, kind)), aim, settings)
    return _merge(solved, excluded, 0 if aim is None else aim.excluded)


class _Aim:
    """A validation gradient, whole or class by class."""

    def __init__(self, target: Target, like: Gradients, kind: Kind) -> None:
        self._source = _source(target.gradients)
        self._kind: Kind = kind
        if type(self._source) is not type(like) or self._source.width != like.width:
            raise CurationError(
                f"validation gradients are {type(self._source).__name__} of {self._source.width} numbers; expected "
                f"{type(like).__name__} of {like.width}, as the candidates': take both from the same model"
            )
        good = self._source.finite()
        left, self.excluded = np.flatnonzero(good), len(good) - int(good.sum())
        if not len(left):
            raise CurationError(f"all {len(good)} validation gradients are NaN or infinite: there is nothing to match")
        self._members: dict[int | None, Ints] = {None: left}
        if kind != "batch":
            labels_M = _labels(target.labels_M, self._source, "validation labels", "validation samples")
            self._members |= {label: left[rows] for label, rows in by_class(labels_M[left])}

    def total(self, label: int | None, count: int) -> Floats:
        """The gradient (of a class) as if there were so many samples."""
        if label not in self._members:
            raise CurationError(
                f"the validation set has no usable sample of class {label}, which has {count} candidates: add some, "
                'or match the training gradient, or use the kind "batch"'
            )
        members = self._members[label]
        return _of_class(self._source, label, self._kind).total(members) * (count / len(members))


def _classes(
    source: Gradients, labels_N: Ints, good: NDArray[np.bool_], k: int, kind: Kind
) -> Iterator[tuple[Gradients, int, Ints, int]]:
    """Each class's gradients, label, samples and share of k."""
    left = np.flatnonzero(good)
    members = {label: left[rows] for label, rows in by_class(labels_N[left])}
    budgets = proportional_quotas(np.array([len(samples) for samples in members.values()]), k)
    for (label, samples), budget in zip(members.items(), budgets.tolist(), strict=True):
        yield _of_class(source, label, kind), label, samples, budget


def _solve_classes(
    classes: list[tuple[Gradients, int, Ints, int]], aim: _Aim | None, settings: Settings
) -> list[_Solved]:
    wanted, solved = list[Wanted](), list[_Solved]()
    for source, label, samples, budget in classes:
        b = source.total(samples) if aim is None else aim.total(label, len(samples))
        wanted.append(Wanted(source, samples, b, budget))
    answers = iter(pursue_all([one for one in wanted if one.k], settings))
    for (_, label, _, _), one in zip(classes, wanted, strict=True):
        solved.append(_finish(one, label, next(answers), settings) if one.k else _nothing(one, label))
    return solved


def _nothing(one: Wanted, label: int) -> _Solved:
    whole = square(one.b)
    problem = Problem(label, len(one.samples), 0, 0, whole, whole, whole, whole, "nothing")
    return _Solved(np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_), problem)


def _finish(one: Wanted, label: int, found: Pursued, settings: Settings) -> _Solved:
    """A class's samples: those that were pursued, and as many more as are left of its budget."""
    more = rest_of(one.source, one.samples, one.b, found)[: one.k - len(found.rows)]
    chosen, weights = np.concatenate([found.rows, more]), _with_rest(found.weights, len(more))
    missing = square(one.b - one.source.total(chosen, weights))
    trained = missing + settings.lam * square(weights)
    problem = Problem(
        label, len(one.samples), one.k, len(more), found.objective, trained, missing, square(one.b), found.stopped
    )
    return _Solved(chosen, weights, np.arange(one.k) >= len(found.rows), problem)


def _solve_batches(
    source: Gradients, batches: list[Ints], k: int, batch_size: int, aim: _Aim | None, settings: Settings
) -> _Solved:
    rows, sizes = np.empty((len(batches), source.width), np.float32), np.array([len(batch) for batch in batches])
    for row, batch in zip(rows, batches, strict=True):
        row[:] = source.total(batch) / batch_size
    n, every, means = int(sizes.sum()), np.arange(len(batches)), Matrix(rows)
    b = (source.total(np.concatenate(batches)) if aim is None else aim.total(None, n)) / batch_size
    picks = -(-k // batch_size)
    while True:  # once, but for batches that are short
        [found] = pursue_all([Wanted(means, every, b, picks)], settings)
        short = k - int(sizes[found.rows].sum())
        if short <= 0 or len(found.rows) < picks:
            break
        picks += -(-short // batch_size)
    rest = rest_of(means, every, b, found)
    more = rest[: int(np.searchsorted(np.cumsum(sizes[rest]), short)) + 1] if short > 0 else rest[:0]
    chosen, batch_weights = np.concatenate([found.rows, more]), _with_rest(found.weights, len(more))
    samples = np.concatenate([batches[batch] for batch in chosen.tolist()])[:k]
    weights = np.repeat(batch_weights, sizes[chosen])[:k]
    missing = square(b - source.total(samples, weights) / batch_size)
    trained = missing + settings.lam * square(batch_weights)
    filled = max(short, 0)
    problem = Problem(None, n, k, filled, found.objective, trained, missing, square(b), found.stopped)
    return _Solved(samples, weights, np.arange(k) >= k - filled, problem)


def _with_rest(weights: Floats, more: int) -> Floats:
    """The weights, and those of the samples by which a budget was filled."""
    return np.concatenate([weights, np.full(more, weights.min() if len(weights) else 1.0)])


def _merge(solved: list[_Solved], excluded: Ints, excluded_target: int) -> Matched:
    filled = np.concatenate([one.filled for one in solved])
    pick = np.concatenate([np.arange(len(one.samples)) for one in solved])
    order = np.lexsort((pick, filled))  # stable: classes in turn
    weights = np.concatenate([one.weights for one in solved])[order]
    limits = np.finfo(np.float32)
    return Matched(
        np.concatenate([one.samples for one in solved])[order],
        np.clip(weights, limits.tiny, limits.max).astype(np.float32),
        filled[order],
        excluded,
        excluded_target,
        tuple(one.problem for one in solved),
    )


def _source(gradients: Gradients | Rows) -> Gradients:
    return Matrix(gradients) if isinstance(gradients, np.ndarray) else gradients


def _of_class(source: Gradients, label: int | None, kind: Kind) -> Gradients:
    if kind == "class-gradient" and isinstance(source, LastLayer) and label is not None:
        return source.of_class(label)
    return source


def _check(source: Gradients, kind: Kind, settings: Settings) -> None:
    if kind not in KINDS:
        raise CurationError(f"kind is {kind!r}; expected one of: {', '.join(KINDS)}")
    if kind == "class-gradient" and isinstance(source, Matrix):
        raise CurationError(
            'the kind "class-gradient" needs a LastLayer: which of a matrix\'s numbers belong to a class is not known; '
            'use the kind "class" or "batch"'
        )
    for name, value, least, below in (
        ("lam", settings.lam, 0, math.inf),
        ("tolerance", settings.tolerance, 0, 1),
        ("spare", settings.spare, 0, 1),
        ("part_size", settings.part_size, 1, math.inf),
        ("surplus", settings.surplus, 1, math.inf),
    ):
        if not least <= value < below:
            raise CurationError(f"{name} is {value}; expected at least {least} and less than {below}")


def _check_left(k: int, n: int, excluded: Ints) -> None:
    left = n - len(excluded)
    if k > left:
        named = ", ".join(map(str, excluded[:_NAMED].tolist())) + (", ..." if len(excluded) > _NAMED else "")
        raise CurationError(
            f"{k} samples asked for, but only {left} of {n} have a finite gradient ({len(excluded)} are NaN or "
            f"infinite: samples {named}); choose fewer, or check the model's outputs for them"
        )


def _labels(labels: Ints | None, source: Gradients, what: str, whose: str) -> Ints:
    if labels is None:
        raise CurationError(
            f'a problem a class needs the {what}, and there are none: pass them, or use the kind "batch"'
        )
    labels = np.asarray(labels)
    if labels.shape != (len(source),) or labels.dtype.kind not in "iu":
        raise CurationError(
            f"{what} are {labels.dtype} {list(labels.shape)}; expected one integer for each of the {len(source)} "
            f"{whose}"
        )
    if isinstance(source, LastLayer) and not (labels.min() >= 0 and labels.max() < source.classes):
        raise CurationError(
            f"{what} go from {labels.min()} to {labels.max()}; expected 0 to {source.classes - 1}, the classes of the "
            "last layer"
        )
    return labels.astype(np.int64, copy=False)
