"""Looking at what was chosen: how often each sample, which most and least, and what selections have in common.

What: `priority` counts in how many rounds of a selection each sample is, and adds up its weights; `histogram` counts
those counts; `most` and `least` name the samples at both ends; `overlap` compares selections, or the rounds of one.
How: rounds count once each, however many epochs they were in force. Rounds that hold every sample (a warm start's) are
left out, unless there are no others: they choose nothing.
Order: most often chosen first, then the greater sum of weights, then the better rank in any round, then the lower
number. Least often chosen first, then the smaller sum of weights, then an order drawn from the seed: of the many
samples that are never chosen, any is as likely to be shown as any other.
Cost: one read of the selection; 24 bytes for each sample of the dataset.
Source: the priority histogram and the high- and low-priority images of Cai, Duan and Ananth, "Faster Training by
Automatically Selecting the Best Training Data", 2022.

Legend: N samples of the dataset, M selections.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.store.errors import SelectionError
from tamis.store.selections import Selection, check_comparable, compare
from tamis.training.border import check_kind

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_Named = tuple[str, Ints, NDArray[np.floating[Any]]]  # samples and weights


@dataclass(frozen=True)
class Priority:
    """How often each of N samples was chosen.

    Attributes:
        rounds: how many rounds were counted.
        left_out: how many hold every sample and were not.
        times: [N] in how many of the rounds the sample is.
        weight: [N] the sum of its weights over them.
        rank: [N] its best rank in any of them, from 0; N where it was never chosen.
    """

    rounds: int
    left_out: int
    times: Ints
    weight: Floats
    rank: Ints


@dataclass(frozen=True)
class Bin:
    """How many samples have a value from `low` to `high`.

    Whole numbers: both included. Others: `high` is the next bin's, but for the last.
    """

    low: float
    high: float
    samples: int

    @property
    def text(self) -> str:
        return f"{self.low:.4g}" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Counts:
    """How often the N samples of a selection were chosen.

    Attributes:
        rounds: how many rounds were counted.
        left_out: how many hold every sample and were not.
        samples: N.
        never: how many were never chosen.
        most: how often the one chosen most often was.
        histogram: of times chosen, or of sums of weights.
    """

    rounds: int
    left_out: int
    samples: int
    never: int
    most: int
    histogram: tuple[Bin, ...]


@dataclass(frozen=True)
class Overlap:
    """M selections side by side, each with each.

    Attributes:
        names: of the selections, or of the rounds.
        sizes: [M] samples of each.
        jaccard: [M][M] samples in both over samples in either.
        weight_correlation: [M][M] Pearson's, over samples in both; None where it is not defined.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    jaccard: tuple[tuple[float, ...], ...]
    weight_correlation: tuple[tuple[float | None, ...], ...]


def priority(selection: Selection, samples: int) -> Priority:
    """Count how often each sample was chosen.

    Args:
        selection: a published selection.
        samples: N, of the dataset version that it chooses from.
    """
    check_kind("selection", selection, Selection)
    rounds = selection.read_rounds()
    counted = [one for one in rounds if len(one[0]) < samples] or rounds
    times, weight = np.zeros(samples, np.int64), np.zeros(samples)
    rank = np.full(samples, samples)
    for chosen, weights in counted:  # each sample stands once in a round
        times[chosen] += 1
        weight[chosen] += weights
        rank[chosen] = np.minimum(rank[chosen], np.arange(len(chosen)))
    return Priority(len(counted), len(rounds) - len(counted), times, weight, rank)


def histogram(values_N: Ints | Floats, *, most: int = 20) -> tuple[Bin, ...]:
    """How many samples have which value: those with 0 first, then the others in at most `most` bins.

    Args:
        values_N: times chosen (integers: whole numbers to a bin), or sums of weights (equally wide bins).
        most: bins beside the first.

    Returns:
        The bins, rising; together they hold all N samples. Negative sums of weights begin the bins below 0.
    """
    never, others = int((values_N == 0).sum()), values_N[values_N != 0]
    first = Bin(0, 0, never)
    if not len(others):
        return (first,)
    if values_N.dtype.kind in "iu":
        step = -(-int(others.max()) // most)
        edges = [*range(1, int(others.max()) + 1, step)]
        counts = np.bincount((others - 1) // step, minlength=len(edges))
        highest = int(others.max())
        return first, *(Bin(a, min(a + step - 1, highest), int(n)) for a, n in zip(edges, counts, strict=True))
    low = min(0.0, float(others.min()))
    counts, limits = np.histogram(others, bins=most, range=(low, max(0.0, float(others.max()))))
    return first, *(Bin(a, b, int(n)) for (a, b), n in zip(pairwise(limits.tolist()), counts, strict=True))


def counts(selection: Selection, samples: int, *, weighted: bool = False, bins: int = 20) -> Counts:
    """How often the samples of a selection were chosen, as a page shows it.

    Args:
        selection: a published selection.
        samples: N, of the dataset version that it chooses from.
        weighted: count sums of weights, not how often.
        bins: of the histogram, beside the one for 0.
    """
    found = priority(selection, samples)
    return Counts(
        found.rounds,
        found.left_out,
        samples,
        int((found.times == 0).sum()),
        int(found.times.max()),
        histogram(found.weight if weighted else found.times, most=bins),
    )


def most(found: Priority, count: int) -> Ints:
    """The samples chosen most often, at most `count`, and only such as were chosen at all."""
    order = np.lexsort((found.rank, -found.weight, -found.times))  # stable: then by number
    return order[: min(count, int((found.times > 0).sum()))]


def least(found: Priority, count: int, *, seed: int = 0) -> Ints:
    """The samples chosen never, or least often, at most `count`; of equals, those that the seed draws."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, *b"least"]))
    drawn = generator.permutation(len(found.times))
    return np.lexsort((drawn, found.weight, found.times))[:count]


def overlap(
    selections: Sequence[Selection], samples: Callable[[Selection], int], *, epoch: int | None = None
) -> Overlap:
    """Compare selections of one dataset with each other, or the rounds of one.

    Args:
        selections: M of them; a single one has its rounds compared.
        samples: how many samples the dataset version of a selection has.
        epoch: compare the rounds in force in this epoch; None: what was chosen in any round, by sums of weights.

    Raises:
        SelectionError: they choose from different datasets, a single one has one round, or nothing is in force in
            that epoch.
    """
    for one in selections:
        check_kind("selection", one, Selection)
        check_comparable(selections[0], one)
    if len(selections) == 1:
        return _matrices(_rounds_of(selections[0], epoch))
    if epoch is None:
        return _matrices([(one.ref, *_ever(priority(one, samples(one)))) for one in selections])
    return _matrices([(one.ref, *one.round_at(epoch)) for one in selections])


def _rounds_of(selection: Selection, epoch: int | None) -> list[_Named]:
    if len(selection.rounds) < 2 or epoch is not None:
        raise SelectionError(
            f"{selection.ref} is a single selection, of {len(selection.rounds)} rounds: give two or more to compare, "
            "or one of several rounds, and no epoch, to compare its rounds."
        )
    rounds = zip(selection.rounds, selection.read_rounds(), strict=True)
    return [(f"round {head.round} (epoch {head.first_epoch})", *each) for head, each in rounds]


def _ever(found: Priority) -> tuple[Ints, Floats]:
    chosen = np.flatnonzero(found.times)
    return chosen, found.weight[chosen]


def _matrices(chosen: Sequence[_Named]) -> Overlap:
    count = len(chosen)
    jaccard = np.ones((count, count))
    correlation: list[list[float | None]] = [[None] * count for _ in chosen]
    for i, (_, a, weight_a) in enumerate(chosen):
        for j, (_, b, weight_b) in enumerate(chosen[: i + 1]):
            found = compare(a, weight_a, b, weight_b)
            jaccard[i, j] = jaccard[j, i] = found.jaccard
            correlation[i][j] = correlation[j][i] = found.weight_correlation
    return Overlap(
        tuple(name for name, _, _ in chosen),
        tuple(len(samples) for _, samples, _ in chosen),
        tuple(map(tuple, jaccard.tolist())),
        tuple(map(tuple, correlation)),
    )
