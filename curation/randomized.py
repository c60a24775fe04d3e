"""Random: choose uniformly without looking at anything.

What it does:
    Every sample draws a number, and the k highest are chosen, each with weight 1. So all subsets of k samples
    are equally likely, and the order of the chosen ones is random too. For one seed the choices are nested: a
    smaller budget gives the beginning of a larger one. (With `per_class` not quite: rounding may take a place
    from one class for another as the budget grows.)

When to use it:
    As the baseline that any other method has to beat at the same budget, and as a method in its own right
    where the budget is small or nothing is known about the data. Set `per_class` to keep the proportions of
    the classes exactly rather than on average.

Cost:
    O(N + k log k) time, whatever is chosen; 8 bytes a sample for the numbers drawn and as much again for a
    moment (see `tamis.curation.ranking.top_k`). No model and no scores.

Departures from the paper:
    None: it is the baseline of every paper. Drawing a number for each sample, rather than k samples, costs
    O(N) and buys the nesting. Where two of the numbers (of 53 bits) are equal, the lower sample comes first.

Reference:
    C. Coleman et al. Selection via Proxy: Efficient Data Selection for Deep Learning. ICLR 2020,
    arXiv:1906.11829 (random subsets, the baseline of its tables).

Legend: N samples, k chosen samples.
"""

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count
from tamis.curation.choice import Choice, Inputs
from tamis.curation.errors import CurationError
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


def select_random(inputs: Inputs, *, k: int, per_class: bool = False, generator: np.random.Generator) -> Choice:
    """Choose `k` samples at random.

    Args:
        inputs: the candidates; their labels are used with `per_class`, nothing else ever is.
        k: how many samples to choose.
        per_class: share k among the classes in proportion to their sizes, not draw from all together.
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
