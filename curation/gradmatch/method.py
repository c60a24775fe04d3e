"""Grad-Match: choose samples, and weights for them, whose gradients add up to the gradient of all.

What it does:
    One or more problems min ||A_S^T w - b||^2 + lam ||w||^2 over w >= 0 and |S| <= k are solved by orthogonal matching
    pursuit (`tamis.curation.omp.solver`). Rows of A are gradients; b is their sum, or that of a validation set, scaled
    to as many samples as are matched. The kinds:

        class            one problem a class, on the gradients of all parameters of the last layer
        class-gradient   one problem a class, on the gradients of that class's own row of the last layer alone
        batch            one problem, whose rows are mini-batches of a fixed random partition ("PB"); every member of a
                         batch that is chosen gets the batch's weight

    For cross-entropy the last layer's gradients have a closed form (`LastLayer`): one forward pass gives all of them.
    Gradients of other heads come as a matrix [N, D], for the kinds "class" and "batch".
    Classes share k by largest remainder. Where no further sample lowers the objective before a class has used up its
    share, the rest goes to those of its samples that correlate most with b (ties: the lower sample), each with the
    smallest weight that the pursuit gave (1 where it gave none): they are counted and marked as filled. A chosen batch
    that no longer fits gives its first members, in the order of the partition.
    Problems of more than `part_size` rows are solved in two levels: each of several random parts is pursued towards its
    share of b for `surplus` times as many rows as its share of k, and then k are pursued among the winners. The
    objective is that of the whole problem, in either case. What two levels lose, measured on the digits' gradients in
    four parts a class: 2 to 17 % of the objective at a surplus of 2, -3 to 5 % at 4, 29 to 61 % at 1.

When to use it:
    To train on a part of the data, chosen anew every few epochs. "class-gradient" costs least and is what the paper
    uses for CIFAR-10; "batch" is coarser and the cheapest where there are many classes.

Cost:
    That of the pursuits; for "class" and "class-gradient" N / C rows each, of D = C (E + 1) or E + 1 numbers. The rows
    of one class, or of one part, are made at a time, 4 D bytes each; of as many as are solved at a time where pursuits
    have processes or a GPU. For "batch" N / batch_size rows.

Departures from the paper:
    Budgets add up to exactly k, where the authors round each up and cut. The rest of a budget is filled as said, where
    they add random samples of weight 1. A mini-batch's row is the sum over its members divided by `batch_size`: the
    mean, except for a batch with fewer members, which counts as the less that it is. Samples whose gradient is NaN or
    infinite are left out and named. Ties are defined.

Reference:
    K. Killamsetty, D. Sivasubramanian, G. Ramakrishnan, A. De, R. Iyer. GRAD-MATCH: Gradient Matching based Data Subset
    Selection for Efficient Deep Model Training. ICML 2021, arXiv:2103.00123: equation 3, algorithm 2, section 4.

Legend: N samples, M validation samples, C classes, E features, D numbers a gradient, k chosen samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count, proportional_quotas
from tamis.curation.errors import CurationError
from tamis.curation.gradmatch.gradients import Floats, Gradients, Ints, LastLayer, Matrix, Rows
from tamis.curation.gradmatch.result import Matched, Problem
from tamis.curation.omp import problem as pursued
from tamis.curation.omp.problem import Pursue, Pursued
from tamis.curation.omp.solver import pursue_each
from tamis.curation.randomized import fixed_batches
from tamis.curation.ranking import by_class

__all__ = ["KINDS", "Kind", "LastLayer", "Matched", "Matrix", "Problem", "Target", "match"]

Kind = Literal["class", "class-gradient", "batch"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_NAMED = 10  # of the samples left out, how many an error lists


@dataclass(frozen=True)
class Target:
    """Whose gradient is to be matched in place of the training gradient.

    Attributes:
        gradients: of M validation samples, by the same model and of the same kind as the candidates'.
        labels_M: their classes, integers [M]; not needed for the kind "batch".
    """

    gradients: Gradients | Rows
    labels_M: Ints | None = None


@dataclass(frozen=True)
class _Settings:
    lam: float
    tolerance: float
    spare: float
    part_size: int
    surplus: float
    memory: int | None
    pursue: Pursue
    generator: np.random.Generator


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
    settings = _Settings(lam, tolerance, spare, part_size, surplus, memory, pursue, generator)
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


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What is to be pursued: up to k of some samples, towards b."""

    source: Gradients
    samples: Ints
    b: Floats
    k: int

    @property
    def stays(self) -> bool:
        """Whether all of them may be chosen."""
        return self.k >= len(self.samples)


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
    classes: list[tuple[Gradients, int, Ints, int]], aim: _Aim | None, settings: _Settings
) -> list[_Solved]:
    wanted, solved = list[_Wanted](), list[_Solved]()
    for source, label, samples, budget in classes:
        b = source.total(samples) if aim is None else aim.total(label, len(samples))
        wanted.append(_Wanted(source, samples, b, budget))
    answers = iter(_pursue([one for one in wanted if one.k], settings))
    for (_, label, _, _), one in zip(classes, wanted, strict=True):
        solved.append(_finish(one, label, next(answers), settings) if one.k else _nothing(one, label))
    return solved


def _nothing(one: _Wanted, label: int) -> _Solved:
    square = _square(one.b)
    problem = Problem(label, len(one.samples), 0, 0, square, square, square, square, "nothing")
    return _Solved(np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_), problem)


def _finish(one: _Wanted, label: int, found: Pursued, settings: _Settings) -> _Solved:
    """A class's samples: those that were pursued, and as many more as are left of its budget."""
    more = _rest(one.source, one.samples, one.b, found)[: one.k - len(found.rows)]
    chosen, weights = np.concatenate([found.rows, more]), _with_rest(found.weights, len(more))
    missing = _square(one.b - one.source.total(chosen, weights))
    trained = missing + settings.lam * _square(weights)
    problem = Problem(
        label, len(one.samples), one.k, len(more), found.objective, trained, missing, _square(one.b), found.stopped
    )
    return _Solved(chosen, weights, np.arange(one.k) >= len(found.rows), problem)


def _solve_batches(
    source: Gradients, batches: list[Ints], k: int, batch_size: int, aim: _Aim | None, settings: _Settings
) -> _Solved:
    rows, sizes = np.empty((len(batches), source.width), np.float32), np.array([len(batch) for batch in batches])
    for row, batch in zip(rows, batches, strict=True):
        row[:] = source.total(batch) / batch_size
    n, every, means = int(sizes.sum()), np.arange(len(batches)), Matrix(rows)
    b = (source.total(np.concatenate(batches)) if aim is None else aim.total(None, n)) / batch_size
    picks = -(-k // batch_size)
    while True:  # once, but for batches that are short
        [found] = _pursue([_Wanted(means, every, b, picks)], settings)
        short = k - int(sizes[found.rows].sum())
        if short <= 0 or len(found.rows) < picks:
            break
        picks += -(-short // batch_size)
    rest = _rest(means, every, b, found)
    more = rest[: int(np.searchsorted(np.cumsum(sizes[rest]), short)) + 1] if short > 0 else rest[:0]
    chosen, batch_weights = np.concatenate([found.rows, more]), _with_rest(found.weights, len(more))
    samples = np.concatenate([batches[batch] for batch in chosen.tolist()])[:k]
    weights = np.repeat(batch_weights, sizes[chosen])[:k]
    missing = _square(b - source.total(samples, weights) / batch_size)
    trained = missing + settings.lam * _square(batch_weights)
    filled = max(short, 0)
    problem = Problem(None, n, k, filled, found.objective, trained, missing, _square(b), found.stopped)
    return _Solved(samples, weights, np.arange(k) >= k - filled, problem)


def _pursue(wanted: list[_Wanted], settings: _Settings) -> list[Pursued]:
    """Pursue each in one level or two. The rows of the answers are samples."""
    parts = [_parts(one, settings) for one in wanted]
    winners = iter(_pursue_once([part for each in parts for part in each if not part.stays], settings))
    second = list[_Wanted]()
    for one, each in zip(wanted, parts, strict=True):
        left = [part.samples if part.stays else next(winners).rows for part in each]
        second.append(replace(one, samples=np.sort(np.concatenate(left))) if left else one)
    return _pursue_once(second, settings)


def _parts(one: _Wanted, settings: _Settings) -> list[_Wanted]:
    """The first level: random parts, each towards its share of b; none where one level is enough."""
    count, n = -(-len(one.samples) // settings.part_size), len(one.samples)
    if count == 1:
        return []
    shuffled, each = settings.generator.permutation(one.samples), math.ceil(settings.surplus * one.k / count)
    return [
        _Wanted(one.source, np.sort(part), one.b * (len(part) / n), each) for part in np.array_split(shuffled, count)
    ]


def _pursue_once(wanted: list[_Wanted], settings: _Settings) -> list[Pursued]:
    """Pursue each in one level; no samples (no part had one that helps) have no answer but nothing."""
    problems = (
        pursued.Problem(one.source.rows(one.samples), one.b, min(one.k, len(one.samples)))
        for one in wanted
        if len(one.samples)
    )
    how = settings
    answers = iter(how.pursue(problems, lam=how.lam, tolerance=how.tolerance, spare=how.spare, memory=how.memory))
    found = list[Pursued]()
    for one in wanted:
        if len(one.samples):
            answer = next(answers)
            found.append(replace(answer, rows=one.samples[answer.rows]))
        else:
            found.append(Pursued(one.samples, np.empty(0), _square(one.b), np.empty(0), "optimal"))
    return found


def _rest(source: Gradients, samples: Ints, b: Floats, found: Pursued) -> Ints:
    """The samples that were not chosen, those first that correlate most with the target; of equals the lowest."""
    rest = np.setdiff1d(samples, found.rows)
    return rest[np.argsort(-source.correlate(rest, b), kind="stable")]


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


def _check(source: Gradients, kind: Kind, settings: _Settings) -> None:
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
            f"infinite: samples {named}); choose fewer, or look at what the model does with these"
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


def _square(values: Floats) -> float:
    return float(values @ values)
