"""Dataset Culling: keep the frames that a student model is least sure of, or gets most wrong.

What it does:
    A cheap student looks at every frame, and its scores give a confidence loss; a teacher looks at the frames of the
    highest, and what the student gets wrong there is its precision loss (`tamis.curation.culling`). The k samples of
    the highest stored loss are chosen, each with weight 1: by "confidence_loss" for the teacher to look at, four times
    as many as are wanted in the paper, then by "precision_loss" among those to train on.

When to use it:
    For days of video from one fixed camera, of which nearly all frames teach a small detector nothing: the paper keeps
    256 of 86,400 frames (300 times fewer) with no loss of accuracy. Neighbouring frames are often hard alike: thin them
    out first (`tamis.curation.culling.duplicates`). A frame in which the student sees nothing counts as easy. The
    choices to beat are "intermittent" and the entropy of the same boxes.

Cost:
    Scoring takes a pass of the student, and one of the teacher over what is left; 86,400 frames of 20 boxes are then
    scored in about a second. Choosing takes O(M N + k log k) time, no model.

Departures from the paper:
    Those of the losses are named where these are computed. Losses of several students are averaged. Equal losses are
    ordered by sample. Samples that a model did not look at have no loss (NaN); they are left out and counted.

Reference:
    K. Yoshioka, E. Lee, S. Wong, M. Horowitz. Dataset Culling: Towards Efficient Training of Distillation-Based Domain
    Specific Models. ICIP 2019, arXiv:1902.00173.

Legend: N candidates, M students, P candidates left, k chosen samples.
"""

import numpy as np

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import BudgetError
from tamis.curation.ranking import top_k


def select_hard_frames(inputs: Inputs, *, k: int, generator: np.random.Generator) -> Choice:
    """Choose the `k` samples with the highest loss.

    Args:
        inputs: the candidates with their loss by each student (`scores_MN`), NaN where it did not look.
        k: how many samples to choose.
        generator: not used; nothing here is random.

    Returns:
        The choice, best first, with weights of 1; its scores are the losses, the means where there are several.

    Raises:
        BudgetError: `k` is out of range, or more than the candidates that were looked at.
        CurationError: there are no scores.
    """
    k = check_count(k, inputs.n)
    scores_MN = inputs.scores("culling")
    candidates_P = np.flatnonzero(np.isfinite(scores_MN).all(axis=0))
    excluded = inputs.n - candidates_P.size
    if k > candidates_P.size:
        raise BudgetError(
            f"{k} samples asked for, but only {candidates_P.size} candidates have losses ({excluded} have scores that "
            "are NaN or infinite, such as frames that were not looked at): ask for fewer, or have a model look at more"
        )
    scores_P = scores_MN[:, candidates_P].astype(np.float64).mean(axis=0)
    rows = top_k(scores_P, k)
    return Choice(candidates_P[rows], np.ones(k, np.float32), scores_P[rows], excluded)
