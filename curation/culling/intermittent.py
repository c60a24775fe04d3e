"""Intermittent sampling: every n-th sample, the baseline for video.

What it does:
    k samples evenly over the candidates' order: sample floor((i N + r) / k) for i = 0 to k - 1, with r = 0, or with
    `random_phase` drawn from 0 to N - 1. All weights are 1.

When to use it:
    As the baseline that Dataset Culling and other choices from video have to beat, or to thin out frames where nothing
    is known of them. The order of the candidates has to be that of time; frames of several cameras that stand one after
    the other share the budget by their length. Whatever repeats at the same rate, such as a traffic light, is seen in
    one phase only.

Cost:
    O(k) time; no model and no signal.

Departures from the paper:
    The paper says no more than the name. Here the number of samples is exactly k, also where N / k is not whole.

Reference:
    K. Yoshioka, E. Lee, S. Wong, M. Horowitz. Dataset Culling. ICIP 2019, arXiv:1902.00173 ("intermittent sampling").

Legend: N candidates, k chosen samples.
"""

import numpy as np

from tamis.curation.budget import check_count
from tamis.curation.contract import Choice, Inputs


def select_intermittent(
    inputs: Inputs, *, k: int, random_phase: bool = False, generator: np.random.Generator
) -> Choice:
    """Choose `k` samples evenly over the candidates' order.

    Args:
        inputs: the candidates, in the order of time.
        k: how many samples to choose.
        random_phase: begin anywhere in the first interval, so that every sample is as likely as any other.
        generator: draws the phase.

    Returns:
        The choice in the order of the candidates, with weights of 1.

    Raises:
        BudgetError: `k` is out of range.
    """
    n, k = inputs.n, check_count(k, inputs.n)
    phase = int(generator.integers(n)) if random_phase else 0
    return Choice((np.arange(k, dtype=np.int64) * n + phase) // k, np.ones(k, np.float32))
