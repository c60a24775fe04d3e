"""Selection via Proxy: choose the samples that a cheap model is least sure of.

What it does:
    A small proxy model, trained quickly, predicts a distribution p over the classes for every sample. Its
    uncertainty about a sample is one of three measures, each higher for a less certain prediction, with p1
    and p2 the largest and the second largest probability:

        confidence   1 - p1              (equation 1)
        margin       1 - (p1 - p2)       (equation 2)
        entropy      - sum_c p_c log p_c (equation 3, natural logarithm)

    The k most uncertain samples are chosen (Algorithm 1), each with weight 1. With several proxies the
    samples are ranked by each of them, and then by their mean rank. The measures are computed from logits, a
    batch at a time; the choice is made from the stored scores, so another budget costs no model.

When to use it:
    For classification, where one selection is to serve many training runs of a larger model and about half of
    the data or more is kept: the samples near the decision boundary teach the most, and a small proxy finds
    nearly the ones that the large model would. Prefer two or three proxies to one where they are cheap. Set
    `per_class` where the classes should keep their proportions, because ambiguous ones would take most of the
    budget otherwise; a class whose share is under half a sample may still get none. Be wary where labels are
    noisy, because mislabelled samples often rank as uncertain. With two classes the three measures rank alike.
    Budgets: the paper keeps 40 and 50 % of CIFAR-10. With less, hard samples alone may train worse than random
    ones: measured on 10,000 CIFAR-10 images with preact8, the most uncertain 10 % train to an accuracy of .25
    where a random 10 % reach .46 to .50, and 30 % to .40 against .55. "random" at the same budget is the choice to
    beat.

Cost:
    Measuring takes one forward pass of the proxy over the data; the measures add O(N C) time and about four
    times the memory of a batch of logits in the working precision. Choosing takes O(N + k log k) time with
    one proxy and O(M N log N) with M of them, no model, and about 20 bytes a sample beside the scores, 75
    where ranks are combined: 10^8 samples fit on one machine.

Departures from the paper:
    The measures never form 1 - p1: they add up the other classes, in double precision on a CPU, so that
    samples whose p1 rounds to one are still ranked, and a softmax that underflows gives 0. (The authors' code
    gives NaN there and ranks its surest samples first.) Equal scores are ordered by sample, and share their
    average rank when proxies are combined; the paper leaves both open. Samples with a score that is NaN or
    infinite are left out and counted. `per_class` is an addition. `correct_only` comes from a reproduction of
    the paper, which ranked only what the proxies predicted correctly; with several proxies, what all of them
    did. Its entropy is to base 2, which ranks alike.

Reference:
    C. Coleman, C. Yeh, S. Mussmann, B. Mirzasoleiman, P. Bailis, P. Liang, J. Leskovec, M. Zaharia. Selection
    via Proxy: Efficient Data Selection for Deep Learning. ICLR 2020, arXiv:1906.11829. Equations 1 to 3,
    Algorithm 1, figure 3.

Legend: N samples, C classes, M proxies, P candidates left, k chosen samples.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import BudgetError, CurationError
from tamis.curation.ranking import combine_ranks, top_k, top_k_per_class

if TYPE_CHECKING:
    import torch  # else imported where a tensor is at hand: listing the measures must not cost a second


def confidence(logits_NC: "torch.Tensor") -> "torch.Tensor":
    """Return 1 - p1, how far the likeliest class is from certain (equation 1).

    Args:
        logits_NC: floating-point logits [N, C] on any device, C at least 2. -inf masks a class out.

    Returns:
        [N], between 0 and 1 - 1/C: float64 on a CPU or from float64 logits, else float32. NaN where a row has
        a NaN or +inf, or nothing above -inf: count these before ranking.

    Raises:
        CurationError: not a floating-point tensor [N, C] with at least two classes.
    """
    _, others_NC, unknown_N = _softmax_parts(logits_NC)
    rest_N = others_NC.sum(dim=1)
    return (rest_N / (1 + rest_N)).masked_fill(unknown_N, float("nan"))


def margin(logits_NC: "torch.Tensor") -> "torch.Tensor":
    """Return 1 - (p1 - p2), how close the two likeliest classes are (equation 2).

    Args:
        logits_NC: floating-point logits [N, C] on any device, C at least 2. -inf masks a class out.

    Returns:
        [N], between 0 and 1: float64 on a CPU or from float64 logits, else float32. NaN where a row has a NaN
        or +inf, or nothing above -inf: count these before ranking.

    Raises:
        CurationError: not a floating-point tensor [N, C] with at least two classes.
    """
    _, others_NC, unknown_N = _softmax_parts(logits_NC)
    rest_N = others_NC.sum(dim=1)
    return ((rest_N + others_NC.amax(dim=1)) / (1 + rest_N)).masked_fill(unknown_N, float("nan"))


def entropy(logits_NC: "torch.Tensor") -> "torch.Tensor":
    """Return the entropy of the predicted distribution in nats (equation 3).

    Args:
        logits_NC: floating-point logits [N, C] on any device, C at least 2. -inf masks a class out.

    Returns:
        [N], between 0 and log C: float64 on a CPU or from float64 logits, else float32. NaN where a row has a
        NaN or +inf, or nothing above -inf: count these before ranking.

    Raises:
        CurationError: not a floating-point tensor [N, C] with at least two classes.
    """
    below_NC, others_NC, unknown_N = _softmax_parts(logits_NC)
    rest_N = others_NC.sum(dim=1)
    # With d the logits below the largest and Z = 1 + rest: H = log Z - sum(exp(d) d) / Z, both terms at least
    # 0. The clamp makes 0 * -inf, a class out of reach, a plain 0.
    spread_N = (others_NC * below_NC.clamp(min=-1e30)).sum(dim=1)
    return (rest_N.log1p() - spread_N / (1 + rest_N)).masked_fill(unknown_N, float("nan"))


MEASURES: "dict[str, Callable[[torch.Tensor], torch.Tensor]]" = {
    "confidence": confidence,
    "margin": margin,
    "entropy": entropy,
}
"""The measures by name. Each maps logits [N, C] to uncertainties [N], higher is more uncertain."""


def select_uncertain(
    inputs: Inputs,
    *,
    k: int,
    per_class: bool = False,
    correct_only: bool = False,
    generator: np.random.Generator,
) -> Choice:
    """Choose the `k` samples with the highest uncertainty, or the highest mean rank over several proxies.

    Args:
        inputs: the candidates with their uncertainty by each proxy (`scores_MN`).
        k: how many samples to choose.
        per_class: split k among the classes in proportion to their candidates.
        correct_only: rank only samples that every proxy classified correctly.
        generator: not used; nothing here is random.

    Returns:
        The choice, best first, with weights of 1. Its scores are the uncertainties with one proxy, and with
        more the mean ranks among the candidates left.

    Raises:
        BudgetError: `k` is out of range, or more than the candidates with finite scores (and correct
            predictions).
        CurationError: an input that the parameters need is missing.
    """
    k = check_count(k, inputs.n)
    scores_MN = inputs.scores("uncertainty")
    usable_N = np.isfinite(scores_MN).all(axis=0)
    excluded = inputs.n - int(np.count_nonzero(usable_N))
    if correct_only:
        usable_N &= inputs.correct("correct_only=True").all(axis=0)
    candidates_P = np.flatnonzero(usable_N)
    _check_candidates(k, candidates_P.size, excluded, correct_only)
    labels_N = inputs.labels("per_class=True") if per_class else None
    scores_P = _one_score(scores_MN, candidates_P)
    rows = top_k(scores_P, k) if labels_N is None else top_k_per_class(scores_P, labels_N[candidates_P], k)
    return Choice(candidates_P[rows], np.ones(k, np.float32), scores_P[rows], excluded)


def _check_candidates(k: int, left: int, excluded: int, correct_only: bool) -> None:
    if k > left:
        wanted = "finite scores" + (" that every proxy predicted correctly" if correct_only else "")
        raise BudgetError(
            f"{k} samples asked for, but only {left} candidates have {wanted} ({excluded} have scores that "
            "are NaN or infinite): ask for fewer, or score again"
        )


def _one_score(scores_MN: NDArray[np.float64], candidates_P: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return one score for each candidate: the proxy's own, or the mean rank over several."""
    everyone = candidates_P.size == scores_MN.shape[1]
    scores_MP = scores_MN if everyone else scores_MN[:, candidates_P]
    scores_P = scores_MP[0] if len(scores_MP) == 1 else combine_ranks(scores_MP)
    return scores_P.astype(np.float64, copy=False)


def _softmax_parts(logits_NC: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Split each row's softmax, scaled so that its likeliest class has exactly 1, into what is shared.

    Returns:
        How far each logit lies below the row's largest [N, C], at most 0; its exponential, with 0 for the
        likeliest class [N, C], so that a sum over it leaves nothing to cancel; and which rows have no
        distribution [N].
    """
    import torch

    _check_logits(logits_NC, torch.Tensor)
    wide = logits_NC.device.type == "cpu" or logits_NC.dtype == torch.float64
    z_NC = logits_NC.detach().to(torch.float64 if wide else torch.float32)
    largest_N1, likeliest_N1 = z_NC.max(dim=1, keepdim=True)
    below_NC = z_NC - largest_N1
    others_NC = below_NC.exp().scatter_(1, likeliest_N1, 0.0)
    return below_NC, others_NC, ~largest_N1.isfinite().squeeze(1)


def _check_logits(logits: object, tensor: "type[torch.Tensor]") -> None:
    if isinstance(logits, tensor):
        if logits.ndim == 2 and logits.shape[1] >= 2 and logits.is_floating_point():
            return
        found = f"{logits.dtype} {list(logits.shape)}"
    else:
        found = type(logits).__name__
    raise CurationError(
        f"logits are {found}; expected a floating-point tensor [N, C] with at least two classes (for one "
        "logit z of a binary model, pass the columns 0 and z)"
    )
