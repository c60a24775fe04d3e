"""Curves through points: the monotone piecewise cubic, and the nearest values that do not fall.

What: what `tamis.curation.selective.priority` draws through the points of F.
How: `monotone_cubic` gives each inner point the weighted harmonic mean of the slopes on its two sides, or 0 where these
differ in sign; the ends get the three-point formula, kept to a slope that does not overshoot. `pooled` is the algorithm
of pooled adjacent violators.
Cost: O(B log P) to evaluate; O(P) to make.
Source: F. N. Fritsch, J. Butland, SIAM J. Sci. Stat. Comput. 5, 1984; R. E. Barlow et al., Statistical Inference under
Order Restrictions, 1972.

Legend: P points, B places where a curve is evaluated.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def monotone_cubic(x_P: Doubles, y_P: Doubles) -> Callable[[Doubles], Doubles]:
    """The curve through (x, y), for places between the first and the last x.

    Args:
        x_P: rising, at least two.
        y_P: in [0, 1].

    Returns:
        A function from float64 [B] to float64 [B] in [0, 1]; NaN to NaN.
    """
    widths, slopes = np.diff(x_P), np.diff(y_P) / np.diff(x_P)
    tangents_P = _tangents(widths, slopes)
    left, right = tangents_P[:-1], tangents_P[1:]
    squares, cubes = (3 * slopes - 2 * left - right) / widths, (left + right - 2 * slopes) / widths**2
    inner = x_P[1:-1]

    def curve(at_B: Doubles) -> Doubles:
        piece_B = inner.searchsorted(at_B, "right")
        t_B = at_B - x_P[piece_B]
        y_B = ((cubes[piece_B] * t_B + squares[piece_B]) * t_B + left[piece_B]) * t_B + y_P[piece_B]
        return np.clip(y_B, 0, 1)  # but for rounding it is there already

    return curve


def _tangents(widths: Doubles, slopes: Doubles) -> Doubles:
    if len(slopes) == 1:
        return np.repeat(slopes, 2)
    before, after = slopes[:-1], slopes[1:]
    weights, others = 2 * widths[1:] + widths[:-1], widths[1:] + 2 * widths[:-1]
    turning = before * after <= 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # where it turns the mean is not used
        means = (weights + others) / (weights / before + others / after)
    inner = np.where(turning, 0.0, means)
    ends = _end(widths[0], widths[1], slopes[0], slopes[1]), _end(widths[-1], widths[-2], slopes[-1], slopes[-2])
    return np.concatenate(([ends[0]], inner, [ends[1]]))


def _end(width: float, next_width: float, slope: float, next_slope: float) -> float:
    """The slope at an end: of the parabola through three points, unless the curve would leave the range of two."""
    tangent = ((2 * width + next_width) * slope - width * next_slope) / (width + next_width)
    if tangent * slope <= 0:
        return 0.0
    if slope * next_slope <= 0 and abs(tangent) > 3 * abs(slope):
        return 3 * slope
    return tangent


def pooled(values_P: Sequence[float]) -> tuple[float, ...]:
    """The values nearest to these, in the sum of squares, of those that never fall."""
    blocks: list[tuple[float, int]] = []  # sum and count of neighbours that share a value
    for value in values_P:
        total, count = value, 1
        while blocks and blocks[-1][0] * count >= total * blocks[-1][1]:
            before, members = blocks.pop()
            total, count = total + before, count + members
        blocks.append((total, count))
    return tuple(total / count for total, count in blocks for _ in range(count))
