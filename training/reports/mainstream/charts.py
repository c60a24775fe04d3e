"""What figures are made of: panels of lines, and the rows that say the same in numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["line", "dashed", "hits", "misses", "reports", "spans", "limits"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Line:
    """Some points of one name.

    Attributes:
        name: in the legend; "" keeps it out.
        x: across.
        y: upwards; as many, NaN where there is none. Of "spans", where each of x ends; of "limits", nothing.
        style: a line, marks of looks, spans of time, or lines from top to bottom.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style = "line"


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes:
        title: above it.
        across, upwards: names of the axes.
        lines: what is drawn.
        log: whether the axis across is logarithmic.
        shares: whether what goes upwards lies between 0 and 1.
        rows: names of the places 0, 1, ... upwards; none where these are numbers.
    """

    title: str
    across: str
    upwards: str
    lines: tuple[Line, ...]
    log: bool = False
    shares: bool = False
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """One figure.

    Attributes:
        name: as the command line has it.
        figure: of the thesis.
        title: above all panels.
        panels: in their order.
        rows: the same as numbers.
        notes: what is worth knowing beside.
    """

    name: str
    figure: str
    title: str
    panels: tuple[Panel, ...]
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = field(default=())
