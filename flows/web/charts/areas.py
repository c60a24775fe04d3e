"""Quantile bands over epochs, and many points as shaded cells."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from tamis.flows.web.charts import svg

_SHADES = 6


def bands(title: str, xs: Sequence[float], quantiles: Sequence[Sequence[float]], means: Sequence[float | None],
          names: Sequence[str], x: str, y: str) -> Markup:  # fmt: skip
    """Nested bands around a median, and a dashed mean.

    Args:
        title: what they show.
        xs: [n].
        quantiles: [n][5], rising: two bands and the median.
        means: [n].
        names: of the outer and the inner band.
        x, y: what the axes are.
    """
    if not xs:
        return svg.empty(title)
    every = [value for row in quantiles for value in row] + [m for m in means if m is not None]
    across, down = svg.plane(xs, every, zero=True)
    body = svg.axes(across, down, (x, y))
    for i, class_ in ((0, "band outer"), (1, "band inner")):
        up = [(across(a), down(row[i])) for a, row in zip(xs, quantiles, strict=True)]
        back = [(across(a), down(row[-1 - i])) for a, row in zip(xs, quantiles, strict=True)]
        body.append(svg.path([*up, *reversed(back)], class_, closed=True))
    body.append(svg.path([(across(a), down(row[2])) for a, row in zip(xs, quantiles, strict=True)], "line c0"))
    mean = [(across(a), down(m)) for a, m in zip(xs, means, strict=True) if m is not None]
    if mean:
        body.append(svg.path(mean, "line c1 dashed"))
    first, last = quantiles[0][2], quantiles[-1][2]
    said = f"The median goes from {svg.short(first)} to {svg.short(last)} over {len(xs)} epochs."
    keys = [(names[0], "outer"), (names[1], "inner"), ("median", "c0"), ("mean", "c1")]
    return svg.figure(title, said, body, keys)


def density(
    title: str, cells: Sequence[Sequence[int]], x: tuple[float, float, str], y: tuple[float, float, str]
) -> Markup:
    """How many points lie where, as cells of which the darker have more.

    Args:
        title: what it shows.
        cells: [A][B] counts, by place across and upwards.
        x, y: the values at both ends, and what they are.
    """
    counts = np.asarray(cells, np.int64)
    if not counts.size or not counts.sum():
        return svg.empty(title)
    across = svg.Axis(x[0], x[1], svg.LEFT, svg.WIDTH - svg.RIGHT)
    down = svg.Axis(y[0], y[1], svg.HEIGHT - svg.BOTTOM, svg.TOP + 8)
    wide, high = (x[1] - x[0]) / counts.shape[0], (y[1] - y[0]) / counts.shape[1]
    shades = np.ceil(_SHADES * np.log1p(counts) / np.log1p(counts.max())).astype(int)
    body: list[Markup] = []
    for a, b in np.argwhere(counts):
        left, top = across(x[0] + a * wide), down(y[0] + (b + 1) * high)
        tip = svg.tag("title", f"{counts[a, b]:,} samples")
        place = {"x": left, "y": top, "width": across(x[0] + (a + 1) * wide) - left}
        shade = f"cell s{shades[a, b]}"
        body.append(svg.tag("rect", tip, **place, height=down(y[0] + b * high) - top, class_=shade))
    said = f"{int(counts.sum()):,} samples; darker cells have more, up to {int(counts.max()):,}."
    return svg.figure(title, said, [*svg.axes(across, down, (x[2], y[2])), *body])
