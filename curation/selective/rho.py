"""RHO-LOSS: of a large batch train on the samples with the largest reducible loss.

What it does:
    The reducible holdout loss of a sample is its loss under the model as it is now, minus its irreducible loss: that
    under a model that was trained on other data. The n_b samples of a large batch with the largest one are trained on.
    It is low for what is learnt already, and for what cannot be learnt (wrong labels, noise): both models get it
    wrong.

When to use it:
    On large, noisy or redundant data, in one or few passes. The paper trains on a tenth of each large batch
    (n_b/n_B = 32/320). The irreducible losses are computed once, by a small model, and stored; the data that this model
    was trained on must not be among the candidates.

Cost:
    O(n log n) for a large batch of n, beside its forward pass.

Departures from the paper:
    Equal values go by position, lowest first. A sample with a loss that is NaN or infinite is never selected, so fewer
    may be.

Reference:
    S. Mindermann et al. Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt. ICML
    2022, arXiv:2206.07137, equation 3 and Algorithm 1.

Legend: B samples of the large batch, k selected.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.errors import CurationError
from tamis.curation.selective.losses import flat


def select_reducible(losses_B: ArrayLike, irreducible_B: ArrayLike, *, count: int) -> NDArray[np.int64]:
    """The samples with the largest reducible loss.

    Args:
        losses_B: under the model as it is now, [B].
        irreducible_B: under the model trained on other data, [B].
        count: how many to select, n_b, at least 1.

    Returns:
        Positions in the large batch, int64 [k], the largest reducible loss first; k is `count`, or the number of
        samples whose losses are finite where that is less.

    Raises:
        CurationError: `count` is below 1, or the two are not of one length and dimension.
    """
    losses, irreducible = flat(losses_B), flat(irreducible_B, "irreducible losses")
    if len(losses) != len(irreducible):
        raise CurationError(
            f"{len(losses)} losses and {len(irreducible)} irreducible losses; expected one of each a sample"
        )
    if count < 1:
        raise CurationError(f"{count} samples asked for; expected at least 1")
    candidates = np.flatnonzero(np.isfinite(losses) & np.isfinite(irreducible))
    reducible = losses[candidates] - irreducible[candidates]
    return candidates[np.argsort(-reducible, kind="stable")[:count]]
