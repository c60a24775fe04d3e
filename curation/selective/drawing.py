"""Draw samples by their probabilities of selection, one uniform number each: the coin of Selective-Backprop.

What it does:
    Each sample of a batch is selected with its own probability, independently of the others ("choose" in Algorithm 1).

When to use it:
    After `tamis.curation.selective.priority`; in StaleSB again for each epoch, with the same probabilities.

Cost:
    Two microseconds for a batch of 128.

Departures from the paper:
    A sample whose probability is NaN, because its loss was no number, is never selected; it still takes a number from
    the generator, so that the draws of the others stay what they are.

Reference:
    A. Jiang. Thesis, 2020, Algorithm 1.

Legend: B samples of a batch.
"""

import numpy as np
from numpy.typing import NDArray


def draw(probabilities_B: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which samples are selected.

    Args:
        probabilities_B: [B] in [0, 1], or NaN: 1 is always selected, 0 and NaN never.
        generator: B numbers are drawn from it.

    Returns:
        bool [B].
    """
    return generator.random(len(probabilities_B)) < probabilities_B
