"""EL2N: choose the samples whose predictions are farthest from their labels, early in training, mean over seeds.

What it does:
    A score is the norm of p - y: the model's softmax probabilities less the one-hot label. It bounds the norm of the
    sample's gradient, and so how much the sample can change the loss. Scores of several runs (seeds) are averaged; the
    k highest are chosen, each with weight 1.

When to use it:
    To drop easy samples of classification data at budgets of about half and more, from models that were trained
    for a few epochs only: the paper takes 10 seeds at epoch 10 to 20 of 200 on CIFAR-10, and keeps 50 to 75 %. At
    small budgets, or with noisy labels, the highest scores are the wrong ones to keep: "ccs" on the same scores drops
    the hardest.

Cost:
    Scoring takes a forward pass for each model. Choosing takes O(M N + k log k) time and 20 bytes a sample; no model.

Departures from the paper:
    None in the score, which is computed in double precision. Equal scores are ordered by sample. Samples with a score
    that is NaN or infinite in any run are left out and counted.

Reference:
    M. Paul, S. Ganguli, G. K. Dziugaite. Deep Learning on a Data Diet: Finding Important Examples Early in Training.
    NeurIPS 2021, arXiv:2107.07075, definition 2.2 and section 3.

Legend: N candidates, M models, k chosen samples.
"""

import numpy as np

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import BudgetError
from tamis.curation.ranking import top_k


def select_el2n(inputs: Inputs, *, k: int, generator: np.random.Generator) -> Choice:
    """Choose the `k` samples with the highest mean EL2N score.

    Args:
        inputs: the candidates with their EL2N by each run (`scores_MN`).
        k: how many samples to choose.
        generator: not used; nothing here is random.

    Returns:
        The choice, best first, with weights of 1; its scores are the means.

    Raises:
        BudgetError: `k` is out of range, or more than the candidates with finite scores.
        CurationError: there are no scores.
    """
    k = check_count(k, inputs.n)
    scores_MN = inputs.scores("el2n")
    candidates_P = np.flatnonzero(np.isfinite(scores_MN).all(axis=0))
    excluded = inputs.n - candidates_P.size
    if k > candidates_P.size:
        raise BudgetError(
            f"{k} samples asked for, but only {candidates_P.size} candidates have finite scores ({excluded} have "
            "scores that are NaN or infinite): ask for fewer, or score them again"
        )
    scores_P = scores_MN[:, candidates_P].astype(np.float64).mean(axis=0)
    rows = top_k(scores_P, k)
    return Choice(candidates_P[rows], np.ones(k, np.float32), scores_P[rows], excluded)
