"""Drawings of detectors by what was kept: precision against the share of the samples, and against seconds.

How: as `tamis.training.reports.drawing.plots`; the same numbers give the same file.
Source: K. Yoshioka et al., Dataset Culling, ICIP 2019, figure 4.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.training.reports.culling.report import Culling, Trained
from tamis.training.reports.drawing.plots import check_form, figure_of, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#f58518", "#4c78a8", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")
_MARKS = "os^Dv*"
_WIDTH, _HEIGHT = 7.0, 3.5  # inches of a panel
_SMALL, _TINY, _GLYPH = 7.5, 6, 0.62  # points of a legend and of a point's name, and a letter in these


def draw_culling(found: Culling, out: str) -> Path:
    """Draw mean average precision against the kept share, and against seconds of training and selecting.

    Args:
        found: of `tamis.training.reports.culling.report.culling`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)
    return save(path, culling_figure(found))


def culling_figure(found: Culling) -> "Figure":
    """What `draw_culling` draws: two panels, a curve for each way of choosing; training on everything is a line.

    Raises:
        ExtraMissing: matplotlib is not installed.
    """
    series = list(dict.fromkeys(one.series for one in found.groups))
    room = 0.7 + max(map(len, series)) * _SMALL * _GLYPH / 72
    with figure_of(_WIDTH + room, 2 * _HEIGHT) as figure:
        for at, what in enumerate(("share of the samples kept", "seconds of training and selecting")):
            axes: Any = figure.add_subplot(2, 1, at + 1)
            for i, name in enumerate(series):
                _curve(axes, [one for one in found.groups if one.series == name], i, by_seconds=at == 1)
            axes.set(xlabel=what, ylabel="mAP", xlim=(0, None))
            axes.grid(visible=True, linewidth=0.3)
            if at == 0:
                axes.set_title(f"{found.dataset}, evaluated on {found.judge}", loc="left")
                axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize=_SMALL)
    return figure


def _curve(axes: Any, groups: Sequence[Trained], i: int, *, by_seconds: bool) -> None:
    """The points of one way of choosing, with the deviations of their runs, by the share that is kept."""
    colour, mark = _COLOURS[i % len(_COLOURS)], _MARKS[i // len(_COLOURS) % len(_MARKS)]
    if groups[0].full:
        colour, mark = "black", "o"
    x = [one.total.mean if by_seconds else one.kept for one in groups]
    y = [one.measures["map"].mean for one in groups]
    up = [one.measures["map"].deviation or 0.0 for one in groups]
    across = [one.total.deviation or 0.0 for one in groups] if by_seconds else None
    axes.errorbar(
        x, y, yerr=up, xerr=across, color=colour, marker=mark, markersize=4, capsize=2, linewidth=1,
        label=groups[0].series,
    )  # fmt: skip
    for one, at, precision in zip(groups, x, y, strict=True):
        if one.full:
            axes.axhline(precision, color=colour, linewidth=0.8, linestyle="--")
        else:
            axes.annotate(one.label, (at, precision), (4, 4), textcoords="offset points", fontsize=_TINY)
