"""Lines over a plane: accuracy over seconds, loss over epochs, trade-offs."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tamis.flows.web.charts import svg

COLOURS = 6
_DOTS = 40  # points of a curve, up to which each is marked


def lines(title: str, curves: Sequence[Mapping[str, Any]], x: str, y: str, *, zero: bool = False) -> Markup:
    """Curves of the same two measures.

    Args:
        title: what they show.
        curves: name, x [n] and y [n] of each; `dots` for points that no line joins. Points without a value are left
            out.
        x, y: what the axes are.
        zero: the upright axis begins at 0.
    """
    drawn = [(str(c["name"]), _points(c), bool(c.get("dots"))) for c in curves]
    drawn = [one for one in drawn if one[1]]
    if not drawn:
        return svg.empty(title)
    every = [point for _, points, _ in drawn for point in points]
    across, down = svg.plane([p[0] for p in every], [p[1] for p in every], zero=zero)
    body = svg.axes(across, down, (x, y))
    for at, (name, points, dots) in enumerate(drawn):
        colour = f"c{at % COLOURS}"
        placed = [(across(a), down(b)) for a, b in points]
        if not dots and len(points) > 1:
            body.append(svg.path(placed, f"line {colour}"))
        if dots or len(points) <= _DOTS:
            for (a, b), (left, top) in zip(points, placed, strict=True):
                tip = svg.tag("title", f"{name}: {svg.short(a)}, {svg.short(b)}")
                body.append(svg.tag("circle", tip, cx=left, cy=top, r=4 if dots else 2.5, class_=f"dot {colour}"))
    names = [(name, f"c{at % COLOURS}") for at, (name, _, _) in enumerate(drawn)]
    return svg.figure(title, _said(drawn, x, y), body, names if len(drawn) > 1 else ())


def _points(curve: Mapping[str, Any]) -> list[tuple[float, float]]:
    pairs = zip(curve["x"], curve["y"], strict=True)
    return [(float(a), float(b)) for a, b in pairs if a is not None and b is not None]


def _said(drawn: Sequence[tuple[str, Sequence[tuple[float, float]], bool]], x: str, y: str) -> str:
    def one(name: str, points: Sequence[tuple[float, float]]) -> str:
        (a, b), (c, d) = points[0], points[-1]
        return f"{name}: {y} from {svg.short(b)} at {x} {svg.short(a)} to {svg.short(d)} at {x} {svg.short(c)}"

    return "; ".join(one(name, points) for name, points, _ in drawn[:COLOURS]) + "."
