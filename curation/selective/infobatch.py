"""InfoBatch: leave out some of the samples with a loss below the mean, and weigh those that stay for the others.

What it does:
    For an epoch, each sample whose last loss is strictly below the mean of the last losses is left out with
    probability r; those of them that stay weigh 1/(1 - r), all others 1. So the expected sum of the weighted gradients
    is the sum over all samples. The first epoch is complete, and so are those after a part delta of the training.

When to use it:
    Where the whole dataset is trained on for many epochs and the final accuracy must not suffer; the paper saves 20 to
    40 % of the cost. The loss of a batch is the sum of the weighted losses over the size of the batch; over
    the sum of the weights, the weights would cancel.

Cost:
    O(N) an epoch.

Departures from the paper:
    A sample that was never measured, or whose last loss is NaN or infinite, stays with weight 1, and does not count in
    the mean; the authors' code begins with a constant in place of losses. Each sample is left out on its own
    (Bernoulli), as the paper's equation has it; the code draws a fixed number.

Reference:
    Z. Qin et al. InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning. ICLR 2024, arXiv:2303.04947:
    soft pruning, expectation rescaling, annealing.

Legend: N samples.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.errors import CurationError
from tamis.curation.selective.losses import flat


def prune(losses_N: ArrayLike, *, ratio: float = 0.5, generator: np.random.Generator) -> NDArray[np.float32]:
    """The weight of each sample in an epoch.

    Args:
        losses_N: the last loss of each sample, [N]; NaN where it was never measured.
        ratio: r, the probability with which a sample below the mean is left out, in [0, 1).
        generator: N numbers are drawn from it.

    Returns:
        float32 [N]: 0 for those left out, 1/(1 - r) for those below the mean that stay, 1 for the others.

    Raises:
        CurationError: `ratio` is out of range, or losses that are not of one dimension.
    """
    if not 0 <= ratio < 1:
        raise CurationError(f"a ratio of {ratio!r}; expected a number from 0 up to, but not, 1: the part to leave out")
    below_N = below_mean(flat(losses_N))
    left_N = below_N & (generator.random(len(below_N)) < ratio)
    weights_N = np.where(below_N, np.float32(1 / (1 - ratio)), np.float32(1))
    weights_N[left_N] = 0
    return weights_N


def below_mean(losses_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which losses are strictly below the mean of the finite ones; none that is NaN or infinite."""
    finite_N = np.isfinite(losses_N)
    finite = losses_N[finite_N]
    if not len(finite):
        return finite_N
    # Rounding must not put the mean of equal losses above them.
    mean = min(max(float(finite.mean()), float(finite.min())), float(finite.max()))
    return finite_N & (losses_N < mean)


def is_complete(epoch: int, epochs: int, *, delta: float = 0.875) -> bool:
    """Whether an epoch is trained on everything: the first one, and those from delta * epochs on.

    Args:
        epoch: from 0.
        epochs: of the whole training.
        delta: in [0, 1].

    Raises:
        CurationError: `delta` is out of range.
    """
    if not 0 <= delta <= 1:
        raise CurationError(
            f"a delta of {delta!r}; expected a number in [0, 1]: the part of the epochs that are pruned"
        )
    return epoch == 0 or epoch >= delta * epochs
