"""Random and RandomPB: choose uniformly without looking at anything, samples or whole mini-batches.

What it does:
    random: every sample draws a number, and the k highest are chosen, each with weight 1. So all subsets of k
    samples are equally likely, and the order of the chosen ones is random too. For one seed the choices are
    nested: a smaller budget gives the beginning of a larger one. (With `per_class` not quite: rounding may take
    a place from one class for another as the budget grows.)
    random-pb: the samples are cut once, at random, into fixed batches, and whole batches are chosen uniformly;
    the last one gives only as many of its samples as there is room for, its first ones. Nested as well.
    Both give round after round from one generator (`random_rounds`, `random_batch_rounds`): "adaptive random"
    draws anew every few epochs, RandomPB draws other batches of the same partition.

When to use it:
    At any budget. As the baselines that any other method has to beat at the same budget (random-pb where that one
    chooses batches, as Grad-Match's kind "batch" does), and as methods in their own right where the budget is small
    or nothing is known about the data. Set `per_class` to keep the proportions of the classes exactly rather than
    on average.

Cost:
    O(N + k log k) time, whatever is chosen; 8 bytes a sample for the numbers drawn and as much again for a
    moment (see `tamis.curation.ranking.top_k`). No model and no scores. A further round of random-pb takes
    O(k + N / batch_size).

Departures from the paper:
    None: they are the baselines of every paper. Drawing a number for each sample, rather than k samples, costs
    O(N) and buys the nesting. Where two of the numbers (of 53 bits) are equal, the lower sample comes first.
    Batches are cut so that exactly k samples are chosen.

Reference:
    C. Coleman et al. Selection via Proxy: Efficient Data Selection for Deep Learning. ICLR 2020,
    arXiv:1906.11829 (random subsets, the baseline of its tables). K. Killamsetty et al. GRAD-MATCH: Gradient
    Matching based Data Subset Selection for Efficient Deep Model Training. ICML 2021, arXiv:2103.00123
    (section 5: Random and adaptive Random among its baselines, "PB" for choosing mini-batches).

Legend: N samples, k chosen samples.
"""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import CurationError
from tamis.curation.parameters import Between
from tamis.curation.ranking import top_k, top_k_per_class


def random(
    n: int,
    *,
    k: int,
    generator: np.random.Generator,
    labels_N: NDArray[np.int64] | None = None,
    per_class: bool = False,
) -> NDArray[np.int64]:
    """Return `k` of the samples 0 to n - 1, uniformly and without replacement, in random order.

    Args:
        n: how many samples there are.
        k: how many to choose, between 1 and `n`.
        generator: where the randomness comes from; `n` numbers are drawn from it.
        labels_N: the class of each sample, integers [n]; needed with `per_class`.
        per_class: share `k` among the classes in proportion to their sizes, and draw within each.

    Returns:
        int64 [k], each sample at most once.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: `per_class` without labels.
    """
    k = check_count(k, n)
    if not per_class:
        return top_k(generator.random(n), k)
    if labels_N is None:
        raise CurationError("per_class=True needs labels, and there are none: pass labels_N, or leave it out")
    return top_k_per_class(generator.random(n), labels_N, k)


def random_rounds(
    n: int,
    *,
    k: int,
    generator: np.random.Generator,
    labels_N: NDArray[np.int64] | None = None,
    per_class: bool = False,
) -> Iterator[NDArray[np.int64]]:
    """Draw `random` again and again, without end: each round is independent of the ones before it.

    Args:
        n, k, labels_N, per_class: as in `random`.
        generator: where the randomness comes from; `n` numbers are drawn from it a round.

    Yields:
        int64 [k] a round. The first is what `random` gives for the same generator.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: `per_class` without labels.
    """
    while True:
        yield random(n, k=k, generator=generator, labels_N=labels_N, per_class=per_class)


def fixed_batches(n: int, *, batch_size: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """Cut the samples 0 to n - 1 into batches, at random.

    Args:
        n: how many samples there are.
        batch_size: samples a batch; the last batch may have fewer.
        generator: where the randomness comes from; one permutation of `n` is drawn from it, and nothing else.

    Returns:
        ceil(n / batch_size) arrays int64, which hold each sample once.

    Raises:
        CurationError: `batch_size` below 1.
    """
    if batch_size < 1:
        raise CurationError(f"batch_size is {batch_size}; expected at least one sample a batch")
    return np.split(generator.permutation(n), range(batch_size, n, batch_size))


def random_batches(n: int, *, k: int, batch_size: int = 128, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return `k` of the samples 0 to n - 1: whole batches of a random partition, the last one cut to fit.

    Args:
        n: how many samples there are.
        k: how many to choose, between 1 and `n`.
        batch_size: samples a batch.
        generator: where the randomness comes from: first the partition, then the order of its batches.

    Returns:
        int64 [k], each sample at most once, batch after batch.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: `batch_size` below 1.
    """
    return next(random_batch_rounds(n, k=k, batch_size=batch_size, generator=generator))


def random_batch_rounds(
    n: int, *, k: int, batch_size: int = 128, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Draw other batches of one and the same partition again and again, without end.

    Args:
        n, k, batch_size: as in `random_batches`.
        generator: where the randomness comes from: once the partition, then an order of its batches a round.

    Yields:
        int64 [k] a round. The first is what `random_batches` gives for the same generator.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: `batch_size` below 1.
    """
    k = check_count(k, n)
    batches = fixed_batches(n, batch_size=batch_size, generator=generator)
    while True:
        order = generator.permutation(len(batches))[: k // batch_size + 2]  # one may be the short one
        yield np.concatenate([batches[b] for b in order])[:k]


def select_random(inputs: Inputs, *, k: int, per_class: bool = False, generator: np.random.Generator) -> Choice:
    """Choose `k` samples at random.

    Args:
        inputs: the candidates; their labels are used with `per_class`, nothing else ever is.
        k: how many samples to choose.
        per_class: split k among the classes in proportion to their sizes.
        generator: where the randomness comes from.

    Returns:
        The choice, in the order drawn, with weights of 1 and without scores.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: `per_class` without labels.
    """
    labels_N = inputs.labels("per_class=True") if per_class else None
    samples = random(inputs.n, k=k, generator=generator, labels_N=labels_N, per_class=per_class)
    return Choice(samples, np.ones(samples.size, np.float32))


def select_random_batches(
    inputs: Inputs, *, k: int, batch_size: Annotated[int, Between(least=1)] = 128, generator: np.random.Generator
) -> Choice:
    """Choose `k` samples as whole batches of a random partition.

    Args:
        inputs: the candidates; only their number is used.
        k: how many samples to choose.
        batch_size: mini-batch size of the partition.
        generator: where the randomness comes from.

    Returns:
        The choice, batch after batch, with weights of 1 and without scores.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: `batch_size` below 1.
    """
    samples = random_batches(inputs.n, k=k, batch_size=batch_size, generator=generator)
    return Choice(samples, np.ones(samples.size, np.float32))


def select_random_rounds(
    inputs: Inputs, *, k: int, per_class: bool = False, generator: np.random.Generator
) -> Iterator[Choice]:
    """Choose as `select_random` does, again and again, without end: adaptive random."""
    for samples in random_rounds(inputs.n, k=k, generator=generator, labels_N=inputs.labels_N, per_class=per_class):
        yield Choice(samples=samples, weights=np.ones(k, np.float32))


def select_random_batch_rounds(
    inputs: Inputs, *, k: int, batch_size: int = 128, generator: np.random.Generator
) -> Iterator[Choice]:
    """Choose as `select_random_batches` does, other batches of the same partition again and again, without end."""
    for samples in random_batch_rounds(inputs.n, k=k, batch_size=batch_size, generator=generator):
        yield Choice(samples=samples, weights=np.ones(k, np.float32))
