"""Drawings of Mainstream's figures, as PNG or SVG.

What: `draw_chart` draws one figure into a file, a panel beside the other.
How: as `tamis.training.reports.drawing.plots`; the same numbers give the same file.
Source: A. H. Jiang, thesis, figures 5.4 to 5.15.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tamis.training.reports.drawing.plots import check_form, figure_of, save
from tamis.training.reports.mainstream.charts import Chart, Line, Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#f58518", "#4c78a8", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac", "#333333")
_WIDTH, _HEIGHT, _ROW = 4.2, 3.2, 0.3  # inches of a panel, and of an application's row
_LONG = 9.0  # inches of a time line
_ABREAST = 3  # panels
_SMALL, _TITLE = 7.0, 9.0  # points
_MARKS: dict[str, dict[str, Any]] = {
    "hits": {"color": "#54a24b", "marker": "|", "markersize": 9, "markeredgewidth": 1.2},
    "misses": {"color": "#bab0ac", "marker": "|", "markersize": 6},
    "reports": {"color": "#e45756", "marker": "v", "markersize": 5},
}


def draw_chart(chart: Chart, out: str) -> Path:
    """Draw a figure.

    Args:
        chart: of `tamis.training.reports.mainstream.report.mainstream`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)
    return save(path, chart_figure(chart))


def chart_figure(chart: Chart) -> "Figure":
    """What `draw_chart` draws.

    Raises:
        ExtraMissing: matplotlib is not installed.
    """
    lines = [panel for panel in chart.panels if panel.rows]
    if lines:
        height = sum(0.8 + _ROW * len(panel.rows) for panel in lines)
        across, size = 1, (_LONG, height + 0.3)
    else:
        across = 2 if len(chart.panels) == 4 else min(_ABREAST, len(chart.panels))
        size = (_WIDTH * across, _HEIGHT * -(-len(chart.panels) // across) + 0.3)
    with figure_of(*size) as figure:
        figure.suptitle(chart.title, fontsize=_TITLE, x=0.02, ha="left")
        for at, panel in enumerate(chart.panels):
            axes: Any = figure.add_subplot(-(-len(chart.panels) // across), across, at + 1)
            _panel(axes, panel)
    return figure


def _panel(axes: Any, panel: Panel) -> None:
    for i, line in enumerate(panel.lines):
        _line(axes, line, _COLOURS[i % len(_COLOURS)])
    axes.set(xlabel=panel.across, ylabel=panel.upwards)
    if panel.title:
        axes.set_title(panel.title, loc="left", fontsize=_SMALL)
    if panel.log:
        axes.set_xscale("log")
    if panel.rows:
        axes.set_yticks(range(len(panel.rows)), panel.rows, fontsize=_SMALL)
        axes.set_ylim(len(panel.rows) - 0.5, -0.5)  # the first on top
    else:
        axes.set_ylim(0, 1.02 if panel.shares else None)
        axes.grid(visible=True, linewidth=0.3)
    if any(line.name for line in panel.lines):
        beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0} if panel.rows else {}
        axes.legend(fontsize=_SMALL - 1, **beside)


def _line(axes: Any, line: Line, colour: str) -> None:
    name = line.name or None
    if line.style == "limits":
        for i, x in enumerate(line.x):
            axes.axvline(x, color="#777777", linewidth=0.8, linestyle=":", label=name if i == 0 else None)
    elif line.style == "spans":
        for i, (a, b) in enumerate(zip(line.x, line.y, strict=True)):
            axes.axvspan(a, b, color="#eeeecc", linewidth=0, label=name if i == 0 else None)
    elif line.style in _MARKS:
        axes.plot(line.x, line.y, linestyle="none", label=name, **_MARKS[line.style])
    else:
        dashed = line.style == "dashed"
        mark = "." if len(line.x) < 20 else None
        axes.plot(line.x, np.asarray(line.y, float), "--" if dashed else "-", color=colour, marker=mark, markersize=4,
                  linewidth=1.4, label=name)  # fmt: skip
