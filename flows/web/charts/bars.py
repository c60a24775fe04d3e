"""Bars: counts by class, histograms, and the parts of a whole."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tamis.flows.web.charts import svg

_ROW, _END = 18, 62  # pixels of a row, and of its figure
_LETTERS, _WIDE = 18, 6.6  # letters of a name, and pixels of one


def bars(title: str, names: Sequence[str], series: Mapping[str, Sequence[float]], *, share: bool = False) -> Markup:
    """Bars from left to right, a row a name, one bar a series in it.

    Args:
        title: what they show.
        names: of the rows.
        series: values of each by its name; the first is drawn in front and written beside its bar.
        share: values are shares.
    """
    if not names or not series:
        return svg.empty(title)
    high = max((v for values in series.values() for v in values), default=0) or 1
    left = 16 + _WIDE * max(len(_cut(name)) for name in names)
    width = svg.WIDTH - left - _END
    body: list[Markup] = []
    for row, name in enumerate(names):
        top = row * _ROW
        body.append(svg.text(left - 8, top + 13, _cut(name), "end"))
        for at, (label, values) in reversed([*enumerate(series.items())]):
            tip = svg.tag("title", f"{name}: {label} {_written(values[row], share)}")
            long, thick = max(0.0, width * values[row] / high), 8 if at == 0 else 14
            place = {"x": left, "y": top + 9 - thick / 2, "width": long, "height": thick, "rx": 1.5}
            body.append(svg.tag("rect", tip, **place, class_=f"bar {'c0' if at == 0 else 'behind'}"))
        ends = [width * values[row] / high for values in series.values()]
        body.append(svg.text(left + max(ends) + 6, top + 13, _written(next(iter(series.values()))[row], share)))
    keys = [(label, "c0" if at == 0 else "behind") for at, label in enumerate(series)]
    most = max(zip(next(iter(series.values())), names, strict=True))
    said = f"{len(names)} rows; the largest is {most[1]} with {_written(most[0], share)}."
    return svg.figure(title, said, body, keys if len(keys) > 1 else (), len(names) * _ROW + 4)


def histogram(title: str, edges: Sequence[float], series: Mapping[str, Sequence[float]], x: str) -> Markup:
    """How many values fall between two edges.

    Args:
        title: what it shows.
        edges: [n + 1], rising.
        series: [n] counts of each by its name; the second is drawn in front of the first, as a part of it.
        x: what the values are.
    """
    if len(edges) < 2:
        return svg.empty(title)
    highest = max(1.0, *(float(c) for counts in series.values() for c in counts))
    across, down = svg.plane([edges[0], edges[-1]], [0.0, highest], zero=True)
    body = svg.axes(across, down, (x, "samples"))
    for at, (label, counts) in enumerate(series.items()):
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            if count:
                tip = svg.tag("title", f"{svg.short(low)} to {svg.short(high)}: {label} {count:,.0f}")
                left, top = across(low), down(float(count))
                place = {"x": left + 0.5, "y": top, "width": max(0.8, across(high) - left - 1)}
                colour = "behind" if at == 0 and len(series) > 1 else "c0"
                body.append(svg.tag("rect", tip, **place, height=max(0.8, down(0) - top), class_=f"bar {colour}"))
    keys = [(label, "behind" if at == 0 and len(series) > 1 else "c0") for at, label in enumerate(series)]
    totals = "; ".join(f"{label}: {sum(counts):,.0f} samples" for label, counts in series.items())
    said = f"{totals}, from {svg.short(edges[0])} to {svg.short(edges[-1])}."
    return svg.figure(title, said, body, keys if len(keys) > 1 else ())


def stack(title: str, parts: Mapping[str, float], written: Mapping[str, str]) -> Markup:
    """The parts of a whole, side by side on one bar.

    Args:
        title: what the whole is.
        parts: by name; those of 0 are left out.
        written: how each is written.
    """
    there = {name: value for name, value in parts.items() if value and value > 0}
    total = sum(there.values())
    if not total:
        return svg.empty(title, "Nothing was measured.")
    body: list[Markup] = []
    left = 0.0
    for at, (name, value) in enumerate(there.items()):
        long = svg.WIDTH * value / total
        tip = svg.tag("title", f"{name}: {written[name]}, {value / total:.1%}")
        place = {"x": left, "y": 0, "width": max(0.5, long - 1), "height": 18}
        body.append(svg.tag("rect", tip, **place, class_=f"bar c{at % 6}"))
        left += long
    names = [(f"{name} {written[name]}", f"c{at % 6}") for at, name in enumerate(there)]
    return svg.figure(title, ", ".join(name for name, _ in names) + ".", body, names, 18)


def _cut(name: str) -> str:
    return name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"


def _written(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else svg.short(float(value))
