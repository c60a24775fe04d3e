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
    To train on a part of the data, chosen anew every few epochs: the paper measures 5 to 30 % of CIFAR-10. A choice
    made once, by the gradients of one moment, is worth less. "class-gradient" costs least and is what the paper uses
    for CIFAR-10; "batch" is coarser and the cheapest where there are many classes. The choice to beat is "random",
    drawn anew as often.

Cost:
    That of the pursuits; for "class" and "class-gradient" N / C rows each, of D = C (E + 1) or E + 1 numbers. The rows
    of one class, or of one part, are made at a time, 4 D bytes each; of as many as are solved at a time where pursuits
    have processes or a GPU. For "batch" N / batch_size rows.

Departures from the paper:
    A pursuit picks `spare` times its budget beyond it, 5 %, and leaves those rows out again that are missed least: the
    objective comes out 5 to 15 % lower, for an eighth to a quarter more time; `spare=0` is the paper's algorithm.
    Weights are never negative, and a row that is chosen is not picked again, where the authors' code does so and stops.
    Budgets add up to exactly k, where the authors round each up and cut. The rest of a budget is filled as said, where
    they add random samples of weight 1. Large problems are solved in two levels. A mini-batch's row is the sum over its
    members divided by `batch_size`: the mean, except for a batch with fewer members, which counts as the less that it
    is. Samples whose gradient is NaN or infinite are left out and named. Ties are defined.

Reference:
    K. Killamsetty, D. Sivasubramanian, G. Ramakrishnan, A. De, R. Iyer. GRAD-MATCH: Gradient Matching based Data Subset
    Selection for Efficient Deep Model Training. ICML 2021, arXiv:2103.00123: equation 3, algorithm 2, section 4.

Legend: N samples, M validation samples, C classes, E features, D numbers a gradient, k chosen samples.
"""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from tamis.curation.contract import Choice, Inputs
from tamis.curation.gradmatch.gradients import Kind
from tamis.curation.parameters import ADDED, RESOURCE, Between


def select_gradmatch(
    inputs: Inputs,
    *,
    k: int,
    kind: Kind = "class-gradient",
    lam: Annotated[float, Between(least=0)] = 0.5,
    batch_size: Annotated[int, Between(least=1)] = 128,
    tolerance: Annotated[float, Between(least=0, below=1), ADDED] = 0.0,
    spare: Annotated[float, Between(least=0, below=1), ADDED] = 0.05,
    part_size: Annotated[int, Between(least=1), ADDED] = 32768,
    surplus: Annotated[float, Between(least=1), ADDED] = 2.0,
    memory: Annotated[int | None, RESOURCE] = None,
    pursue: Annotated[Callable[..., Any] | None, RESOURCE] = None,
    generator: np.random.Generator,
) -> Choice:
    """Choose `k` samples and weights by their gradients, towards the sum of all or that of `inputs.target`.

    Args:
        inputs: the candidates with their gradients; their labels but for the kind "batch"; the target, if any.
        k: how many samples to choose.
        kind: one problem per class, on the last layer or the class's own row of it, or one over mini-batches.
        lam: ridge on the weights.
        batch_size: mini-batch size of the partition, for the kind "batch".
        tolerance: stop a pursuit when its objective is at most this fraction of the target's squared norm.
        spare: extra rows to pick and drop again, as a fraction of the budget; 0 is the paper's algorithm.
        part_size: solve larger problems in two levels, in random parts of at most this many rows.
        surplus: rows each part passes to the second level, as a multiple of its share of the budget.
        memory: bytes that one pursuit may use beside its rows.
        pursue: what solves the problems, a `tamis.curation.omp.problem.Pursue`; None solves one after the other, here.
        generator: where the partitions come from.

    Returns:
        The choice: weights that are positive, the objective, and notes of the relative error and how many were filled.

    Raises:
        BudgetError: `k` is out of range.
        CurationError: too few finite gradients, labels or a target that do not fit, or too little memory.
    """
    from tamis.curation.gradmatch.matching import match
    from tamis.curation.omp.solver import (
        pursue_each,  # here, not above: listing the methods must not cost their solvers
    )

    gradients = inputs.gradients("Grad-Match")
    labels_N = inputs.labels_N if kind == "batch" else inputs.labels(f"Grad-Match of the kind {kind!r}")
    return match(
        gradients,
        labels_N,
        k=k,
        kind=kind,
        lam=lam,
        tolerance=tolerance,
        spare=spare,
        target=inputs.target,
        batch_size=batch_size,
        part_size=part_size,
        surplus=surplus,
        memory=memory,
        pursue=pursue or pursue_each,
        generator=generator,
    ).choice()
