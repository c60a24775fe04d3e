"""Losses as they are handed in: one number a sample."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.errors import CurationError


def flat(losses_B: ArrayLike, what: str = "losses") -> NDArray[np.float64]:
    """As float64 [B].

    Raises:
        CurationError: not one dimension.
    """
    losses = np.asarray(losses_B, np.float64)
    if losses.ndim != 1:
        raise CurationError(f"{what} have the shape {losses.shape}; expected one dimension, a number a sample")
    return losses
