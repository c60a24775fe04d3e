"""Input resolution: the smallest images on which a student still agrees with its teacher.

What: going down from full scale, the student's mean precision loss (`tamis.curation.culling.precision`) at each scale
is compared with that at full scale; the search ends at the first scale whose excess is over the bound, and the one
before is the answer. Smaller scales are not looked at any more: nobody has to score them.
When: after culling, before training: smaller images make training and inference cheaper, about with the square of the
scale.
Cost: a pass of the student over some frames for each scale that is tried.
Departs: the authors' code has no such search; the paper reduces "the size of each image until detection degrades".
Losses must not be standardized: z-scores have the same mean at every scale.
Source: K. Yoshioka, E. Lee, S. Wong, M. Horowitz. Dataset Culling. ICIP 2019, arXiv:1902.00173.
Legend: N frames.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError


@dataclass(frozen=True)
class Resolution:
    """The answer to a search.

    Attributes:
        scale: the smallest scale that will do.
        losses: the mean precision loss at each scale that was tried, the largest scale first.
        frames: how many frames have a loss at all of them.
    """

    scale: float
    losses: Mapping[float, float]
    frames: int


def smallest_scale(
    scales: Sequence[float], losses_at: Callable[[float], NDArray[np.floating]], *, bound: float
) -> Resolution:
    """Find the smallest scale that will do.

    Args:
        scales: above 0, in any order; the largest is full scale.
        losses_at: gives the precision loss of each of N frames at a scale, [N], NaN where not looked at; it is called
            from the largest scale down, no more often than needed.
        bound: how much more than at full scale the mean loss may be, at least 0.

    Raises:
        CurationError: no scales, equal or bad ones, a bad bound, or no frame with a loss at all scales.
    """
    down = sorted(scales, reverse=True)
    if not down or len(set(down)) < len(down) or not (down[-1] > 0 and down[0] < np.inf):
        raise CurationError(f"scales are {list(scales)}; expected different numbers above 0, at least one")
    if not 0 <= bound < np.inf:
        raise CurationError(f"bound is {bound}; expected a finite loss, at least 0")
    tried = [_losses(losses_at, down[0])]
    common_N = np.isfinite(tried[0])
    for scale in down[1:]:
        tried.append(_losses(losses_at, scale, like=tried[0]))
        common_N &= np.isfinite(tried[-1])
        if _mean(tried[-1], common_N, scale) > _mean(tried[0], common_N, scale) + bound:
            break
    means = [_mean(losses_N, common_N, scale) for scale, losses_N in zip(down, tried, strict=False)]
    # By the frames that all have: what passed by more frames is asked again.
    within = next((i for i, mean in enumerate(means) if mean > means[0] + bound), len(means))
    return Resolution(down[within - 1], dict(zip(down, means, strict=False)), int(common_N.sum()))


def _losses(
    losses_at: Callable[[float], NDArray[np.floating]], scale: float, like: NDArray[np.floating] | None = None
) -> NDArray[np.floating]:
    losses_N = losses_at(scale)
    if losses_N.ndim != 1 or (like is not None and losses_N.shape != like.shape):
        expected = "[N]" if like is None else f"{list(like.shape)}, the frames of full scale"
        raise CurationError(f"the losses at scale {scale} are {list(losses_N.shape)}; expected {expected}")
    return losses_N


def _mean(losses_N: NDArray[np.floating], of_N: NDArray[np.bool_], scale: float) -> float:
    if not of_N.any():
        raise CurationError(
            f"no frame has a precision loss at scale {scale} and all larger ones; expected the same frames at each"
        )
    return float(losses_N[of_N].mean())
