"""Elements of SVG, and what all charts share: a frame with axes, a title and a text for those who do not see it.

How: colours are classes, which the style sheet gives a value by light and dark. Every text is escaped.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 220  # of a chart, in its own units: about CSS pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
_LETTER = 6.2  # the width of a letter of an axis


def tag(name: str, content: object = "", /, **attributes: object) -> Markup:
    """An element; `class_` is the attribute "class", and underscores in names are hyphens."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    said = Markup("").join(Markup(' {}="{}"').format(key, _number(value)) for key, value in given)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), said, content)


def joined(parts: Sequence[Markup]) -> Markup:
    """Elements one after another."""
    return Markup("").join(parts)


def text(x: float, y: float, said: object, anchor: str = "start", class_: str = "tick") -> Markup:
    """A text at a place."""
    return tag("text", escape(str(said)), x=x, y=y, text_anchor=anchor, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    said = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("Z" if closed else "")
    return tag("path", d=said, class_=class_)


def figure(title: str, said: str, body: Sequence[Markup], names: Sequence[tuple[str, str]] = (),
           height: float = HEIGHT) -> Markup:  # fmt: skip
    """A chart with its title above and its legend below.

    Args:
        title: what it shows.
        said: what can be seen, for those who do not see it.
        body: elements.
        names: (name, class of its colour) of what is drawn; () for no legend.
        height: of the chart.
    """
    drawn = tag(
        "svg", tag("title", escape(title)) + tag("desc", escape(said)) + joined(body),
        viewBox=f"0 0 {WIDTH} {_number(height)}", role="img", aria_label=f"{title}. {said}",
    )  # fmt: skip
    keys = [tag("li", tag("i", class_=f"swatch {class_}") + escape(name)) for name, class_ in names]
    legend = tag("ul", joined(keys), class_="legend") if keys else Markup("")
    return tag("figure", tag("figcaption", escape(title)) + drawn + legend, class_="chart")


def empty(title: str, said: str = "Nothing to draw.") -> Markup:
    """In place of a chart."""
    content = tag("figcaption", escape(title)) + tag("p", escape(said), class_="quiet")
    return tag("figure", content, class_="chart")


@dataclass(frozen=True)
class Axis:
    """Values on a line.

    Attributes:
        low, high: at its ends.
        start, end: where the ends are.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value is."""
        width = self.high - self.low
        share = (value - self.low) / width if width else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values on it."""
        width = self.high - self.low
        if not (width > 0 and math.isfinite(width)):
            return [self.low]
        raw = width / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
        begin = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(begin, math.floor(self.high / step + 1e-9) + 1)]


def over(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Axis:
    """An axis that has all values, and 0 where `zero` says so."""
    there = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(there), max(there)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = (low - 0.5, high + 0.5) if not zero or not low == high == 0 else (0.0, 1.0)
    return Axis(low, high, start, end)


def axes(
    x: Axis, y: Axis, names: tuple[str, str], write: tuple[Callable[[float], str], Callable[[float], str]] | None = None
) -> list[Markup]:
    """Lines at round values, and what they are."""
    across, down = write or (short, short)
    made: list[Markup] = []
    for value in y.ticks(5):
        made.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value), class_="grid"))
        made.append(text(LEFT - 6, y(value) + 3.5, down(value), "end"))
    for value in x.ticks(6):
        made.append(text(x(value), HEIGHT - BOTTOM + 15, across(value), "middle"))
    made.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"))
    made.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, names[0], "middle", "label"))
    made.append(text(LEFT, TOP - 1, names[1], "start", "label"))
    return made


def plane(xs: Sequence[float], ys: Sequence[float], *, zero: bool = False) -> tuple[Axis, Axis]:
    """The axes of a chart over some points."""
    return (
        over(xs, LEFT, WIDTH - RIGHT),
        over(ys, HEIGHT - BOTTOM, TOP + 8, zero=zero),
    )


def short(value: float) -> str:
    """A value of an axis."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{value / scale:.3g}{unit}"
    return f"{value:.6g}" if size >= 1 or not size else f"{value:.3g}"


def _number(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
