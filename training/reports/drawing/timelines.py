"""Drawings of kept frames on the time lines of cameras, as PNG or SVG.

What: `draw_timeline` draws a panel a camera: a mark for each kept frame, a row a selection, and above them the curve of
the scores, where there are some.
How: as `tamis.training.reports.drawing.plots`; the same numbers give the same file.
Cost: a second for some ten thousand frames.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tamis.training.reports.culling.clock import clock
from tamis.training.reports.culling.timeline import Timeline
from tamis.training.reports.drawing.plots import check_form, figure_of, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#f58518", "#4c78a8", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")
_INK = "#555555"
_WIDTH, _ROW, _CURVE, _MARGIN = 9.0, 0.16, 0.9, 0.45  # inches of a panel, a row of marks, a curve, and between
_SMALL = 7.5  # points of a legend


def draw_timeline(found: Timeline, out: str) -> Path:
    """Draw kept frames on the time lines of their cameras.

    Args:
        found: of `tamis.training.reports.culling.timeline.timeline`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)
    return save(path, timeline_figure(found))


def timeline_figure(found: Timeline) -> "Figure":
    """What `draw_timeline` draws: a panel a camera.

    Raises:
        ExtraMissing: matplotlib is not installed.
    """
    cameras = list(dict.fromkeys(line.camera for line in found.lines))
    names = list(dict.fromkeys(line.selection for line in found.lines))
    rows = _ROW * len(names)
    height = rows + _MARGIN + (_CURVE if found.curves else 0)
    with figure_of(_WIDTH, height * len(cameras) + 0.5) as figure:
        for at, camera in enumerate(cameras):
            axes: Any = figure.add_subplot(len(cameras), 1, at + 1)
            _panel(axes, found, camera, rows / (height - _MARGIN))
            axes.set_title(camera, loc="left", fontsize=_SMALL)
            if at == 0:
                axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=_SMALL)
    return figure


def _panel(axes: Any, found: Timeline, camera: str, share: float) -> None:
    """Marks in the lower share of a panel, the curve above them."""
    lines = [line for line in found.lines if line.camera == camera]
    place = axes.get_xaxis_transform()  # seconds across, shares of the panel upwards
    look: dict[str, Any]
    for i, line in enumerate(lines):
        y, name = share * (i + 0.5) / len(lines), line.selection
        look = {"color": _COLOURS[i % len(_COLOURS)], "marker": "|", "markersize": 7}
        axes.plot(line.at, [y] * line.kept, linestyle="none", transform=place, label=name, **look)
    curve = found.curves.get(camera)
    if curve is None:
        axes.set(ylim=(0, 1), yticks=[])
    else:
        known_F = np.isfinite(curve.scores_F)  # between frames that were not looked at, the curve goes on
        look = {"color": _INK, "linewidth": 0.7, "marker": ".", "markersize": 1.5, "label": found.measure}
        axes.plot(curve.seconds_F[known_F], curve.scores_F[known_F], **look)
        low, high = axes.get_ylim()
        axes.set_ylim(low - (high - low) * share / (1 - share), high)
        axes.tick_params(axis="y", labelsize=_SMALL)
    begins, ends = lines[0].begins, lines[0].ends
    room = 0.01 * (ends - begins) or 0.5
    axes.set_xlim(begins - room, ends + room)
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    axes.tick_params(axis="x", labelsize=_SMALL)
