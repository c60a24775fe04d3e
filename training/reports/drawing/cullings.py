"""Drawings of detectors by what was kept: precision against the share of the samples, and against seconds.

How: as `tamis.training.reports.drawing.plots`; the same numbers give the same file.
Source: K. Yoshioka et al., Dataset Culling, ICIP 2019, figure 4.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.training.reports.culling.report import Culling, Trained
from tamis.training.reports.drawing.plots import check_form, figure_of, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#f58518", "#4c78a8", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")
_MARKS = "os^Dv*"
_WIDTH, _HEIGHT, _SMALL, _GLYPH = 7.0, 3.5, 7.5, 0.62  # inches of a panel; a legend's points, and a letter in these


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
    """What `draw_culling` draws: two panels; training on everything is a line across both.

    Raises:
        ExtraMissing: matplotlib is not installed.
    """
    room = 0.7 + max(len(one.label) for one in found.groups) * _SMALL * _GLYPH / 72
    with figure_of(_WIDTH + room, 2 * _HEIGHT) as figure:
        for at, what in enumerate(("share of the samples kept", "seconds of training and selecting")):
            axes: Any = figure.add_subplot(2, 1, at + 1)
            for i, one in enumerate(found.groups):
                _point(axes, one, i, by_seconds=at == 1)
            axes.set(xlabel=what, ylabel="mAP", xlim=(0, None))
            axes.grid(visible=True, linewidth=0.3)
            if at == 0:
                axes.set_title(f"{found.dataset}, evaluated on {found.judge}", loc="left")
                axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize=_SMALL)
    return figure


def _point(axes: Any, one: Trained, i: int, *, by_seconds: bool) -> None:
    precision, x = one.measures["map"], one.total.mean if by_seconds else one.kept
    colour, mark = _COLOURS[i % len(_COLOURS)], _MARKS[i // len(_COLOURS) % len(_MARKS)]
    if one.full:
        colour, mark = "black", "o"
        axes.axhline(precision.mean, color=colour, linewidth=0.8, linestyle="--")
    across = one.total.deviation if by_seconds else None
    axes.errorbar(
        [x], [precision.mean], yerr=precision.deviation, xerr=across, color=colour, marker=mark, markersize=4,
        capsize=2, linestyle="none", label=one.label,
    )  # fmt: skip
