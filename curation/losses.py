"""Losses over epochs: choose from a run's loss history alone.

What it does:
    The losses of every sample in every epoch are a table. This ranks the samples by it, without a model:

        mean        the highest mean loss first
        newest      the highest newest loss first
        percentile  drawn without replacement, each with probability proportional to
                    (share of the newest losses at most its own) ** beta: Selective-Backprop's rule, for a selection of
                    a fixed size
        forgetting  the most forgetting events first: correct in one recorded epoch, wrong in the next. Samples that
                    were never right count as infinitely often forgotten (Toneva et al., section 3). Many have
                    equally many events: among them by newest loss
        forgotten   what was right in some epoch and is wrong in the last that says, by newest loss; then the others,
                    by newest loss

    Equal scores are ordered by sample, the lowest first. Weights are 1.

When to use it:
    After a training run that recorded its losses, for the next one: no model is needed, and another budget costs
    nothing. forgetting wants correctness in many epochs; Toneva et al. drop up to 30 % of CIFAR-10, the unforgettable,
    without loss. mean and newest take what is hardest, mislabelled samples among it: look at them first, or use
    percentile, which leaves every sample a chance. For small budgets "ccs" keeps coverage. Where the newest losses
    are of different epochs, as after selective training, max_age refuses those that are too old.

Cost:
    O(E N) time to look at the losses, then O(N log N); no model. Memory: the losses, 4 bytes an epoch and sample (5
    with correctness), and some 30 bytes a sample.

Departures from the paper:
    Selective-Backprop draws each sample by itself from a running history; percentile draws a fixed number from all
    samples at once, by successive sampling without replacement. Forgetting events are counted between recorded
    epochs, not between the mini-batches that hold a sample; where each epoch is recorded, as in training, that is the
    same. Equal counts go by newest loss, which the paper leaves open. Samples without a finite loss in any epoch, or
    where correctness is asked for without any, are left out and counted.

Reference:
    M. Toneva, A. Sordoni, R. Tachet des Combes, A. Trischler, Y. Bengio, G. Gordon. An Empirical Study of Example
    Forgetting during Deep Neural Network Learning. ICLR 2019, arXiv:1812.05159. A. Jiang et al. Accelerating Deep
    Learning by Focusing on the Biggest Losers (Selective-Backprop), arXiv:1910.00762: equation 3.1 of Jiang's thesis.
    P. Efraimidis, P. Spirakis. Weighted random sampling with a reservoir. Information Processing Letters 97, 2006.

Legend: E epochs, N candidates, P candidates left, k chosen samples.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs
from tamis.curation.errors import BudgetError, CurationError
from tamis.curation.parameters import Between
from tamis.curation.ranking import ranks, top_k

By = Literal["mean", "newest", "percentile", "forgetting", "forgotten"]
_UNKNOWN = -1
_NAMED = 5


def newest(losses_EN: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """The newest loss of each sample, and how many epochs old it is in the last one.

    Args:
        losses_EN: [E, N], NaN where there is none.

    Returns:
        The losses [N], NaN where a sample has none; ages int64 [N], E where it has none.
    """
    there_EN = np.isfinite(losses_EN)[::-1]
    ages_N = np.where(there_EN.any(axis=0), there_EN.argmax(axis=0), len(losses_EN))
    rows_N = np.maximum(len(losses_EN) - 1 - ages_N, 0)
    losses_N = losses_EN[rows_N, np.arange(losses_EN.shape[1])]
    return np.where(ages_N < len(losses_EN), losses_N, np.nan), ages_N


def forgetting_events(correct_EN: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How often each sample was right and then wrong, and whether it was right at all.

    Args:
        correct_EN: [E, N] 1 for right, 0 for wrong, -1 for not recorded: such epochs are skipped.

    Returns:
        Events int64 [N]; learnt bool [N].
    """
    before_N, events_N = np.zeros(correct_EN.shape[1], np.bool_), np.zeros(correct_EN.shape[1], np.int64)
    for right_N in correct_EN:
        events_N += before_N & (right_N == 0)
        before_N = np.where(right_N == _UNKNOWN, before_N, right_N == 1)
    return events_N, (correct_EN == 1).any(axis=0)


def forgotten(correct_EN: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which samples were right once and are wrong in the last epoch that says, bool [N]; arguments as above."""
    known_EN = (correct_EN != _UNKNOWN)[::-1]
    last_N = correct_EN[::-1][known_EN.argmax(axis=0), np.arange(correct_EN.shape[1])]
    return (correct_EN == 1).any(axis=0) & (last_N == 0)


def select_by_losses(
    inputs: Inputs,
    *,
    k: int,
    by: By = "mean",
    beta: Annotated[float, Between(above=0)] = 1.0,
    max_age: Annotated[int | None, Between(least=0)] = None,
    generator: np.random.Generator,
) -> Choice:
    """Choose `k` samples by their losses over epochs.

    Args:
        inputs: the candidates with their losses (`losses_EN`), and for forgetting and forgotten `correct_EN`.
        k: how many samples to choose.
        by: what ranks them: mean, newest, percentile (drawn), forgetting or forgotten.
        beta: how much percentile prefers high losses: the exponent of the share of losses at most a sample's own.
        max_age: refuse where the newest loss of a sample is older than so many epochs; none: any age.
        generator: draws the samples of percentile; else not used.

    Returns:
        The choice, best first, with weights of 1; by what each was ranked, but for percentile, which draws.

    Raises:
        BudgetError: `k` is out of range, or more than the candidates with a finite loss.
        CurationError: an input that the parameters need is missing, or a newest loss is older than `max_age`.
    """
    k, losses_EN = check_count(k, inputs.n), inputs.losses("losses")
    newest_N, ages_N = newest(losses_EN)
    usable_N = np.isfinite(newest_N)
    correct_EN = inputs.correct_by_epoch(f"by={by}") if by in ("forgetting", "forgotten") else None
    if correct_EN is not None:
        usable_N &= (correct_EN != _UNKNOWN).any(axis=0)
    candidates_P = np.flatnonzero(usable_N)
    excluded = inputs.n - candidates_P.size
    if k > candidates_P.size:
        raise BudgetError(
            f"{k} samples asked for, but only {candidates_P.size} candidates have what by={by} ranks; the losses of "
            f"{excluded} are NaN or infinite or were never recorded: ask for fewer, or record more"
        )
    _check_ages(ages_N, candidates_P, max_age)
    left_EP, newest_P = losses_EN[:, candidates_P], newest_N[candidates_P]
    right_EP = None if correct_EN is None else correct_EN[:, candidates_P]
    if by == "percentile":
        rows = top_k(_drawn(newest_P, beta, generator), k)
        return Choice(candidates_P[rows], np.ones(k, np.float32), excluded=excluded)
    scores_P = _scores(by, left_EP, newest_P, right_EP)
    rows = top_k(scores_P, k)
    return Choice(candidates_P[rows], np.ones(k, np.float32), scores_P[rows], excluded)


def _scores(
    by: By, losses_EP: NDArray[np.floating], newest_P: NDArray[np.floating], correct_EP: NDArray[np.integer] | None
) -> NDArray[np.float64]:
    if by == "mean":
        there_EP = np.isfinite(losses_EP)
        return np.where(there_EP, losses_EP, 0).sum(axis=0, dtype=np.float64) / there_EP.sum(axis=0)
    if correct_EP is None:
        return newest_P.astype(np.float64)
    if by == "forgetting":
        events_P, learnt_P = forgetting_events(correct_EP)
        # Never learnt is infinitely often forgotten; E is more than E epochs have room for, and finite.
        counts_P = np.where(learnt_P, events_P, len(correct_EP))
    else:
        counts_P = forgotten(correct_EP)
    return counts_P + ranks(newest_P) / (newest_P.size + 1)


def _drawn(losses_P: NDArray[np.floating], beta: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Keys whose k highest are a draw without replacement, by weights share ** beta (Efraimidis and Spirakis)."""
    shares_P = np.searchsorted(np.sort(losses_P), losses_P, side="right") / losses_P.size
    return beta * np.log(shares_P) + generator.gumbel(size=losses_P.size)


def _check_ages(ages_N: NDArray[np.int64], candidates_P: NDArray[np.int64], max_age: int | None) -> None:
    old = candidates_P[ages_N[candidates_P] > max_age] if max_age is not None else candidates_P[:0]
    if old.size:
        listed = ", ".join(map(str, old[:_NAMED].tolist())) + (", ..." if old.size > _NAMED else "")
        raise CurationError(
            f"the newest losses of {old.size} samples are older than max_age={max_age} epochs, up to "
            f"{int(ages_N[old].max())} (samples {listed}): score them again, or allow more"
        )
