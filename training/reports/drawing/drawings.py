"""Drawings of costs, frontiers, confidences and similarities, as PNG or SVG.

What: `draw_costs` draws stacked bars (thesis on Selective-Backprop, figure 3.11), `draw_frontier` error against seconds
and backprops with the Pareto points filled (figures 3.8, 3.14 and 3.15), `draw_confidence` target confidence and
accuracy by percentile (figures 3.9 and 3.10), `draw_similarity` gradients of parts beside those of batches (3.5).
How: as `tamis.training.reports.drawing.plots`; the same numbers give the same file.
Cost: a second.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.training.errors import ReportError
from tamis.training.reports.costs import PARTS, Cost
from tamis.training.reports.drawing.plots import check_form, figure_of, save
from tamis.training.reports.traces import AXES, Axis, Trace

if TYPE_CHECKING:
    from tamis.training.reports.confidence import Confidence
    from tamis.training.reports.frontier import Frontier
    from tamis.training.reports.similarity import Similarity

_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")
_MARKS = "os^Dv*"  # of groups of one colour
_WIDTH, _HEIGHT, _BAR = 7.0, 3.5, 0.45  # inches of a panel, and of a bar
_SMALL, _GLYPH = 7.5, 0.62  # a legend's points, and a letter in these
_PALE = 0.3  # of what is no Pareto point


def draw_costs(rows: Sequence[Cost], out: str) -> Path:
    """Draw where the seconds of runs went: a bar a run.

    Args:
        rows: of `tamis.training.reports.costs.costs`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: nothing to draw, or another kind of file.
    """
    path = check_form(out)
    if not rows:
        raise ReportError("There is no training run to plot.")
    with figure_of(_WIDTH + _room(PARTS), 1.2 + _BAR * len(rows)) as figure:
        axes, left = figure.add_subplot(), [0.0] * len(rows)
        for part, colour in zip(PARTS, _COLOURS, strict=False):
            wide = [max(getattr(row.parts, part) or 0.0, 0.0) for row in rows]
            axes.barh(range(len(rows)), wide, left=left, color=colour, label=part.replace("_", " "))
            left = [a + b for a, b in zip(left, wide, strict=True)]
        names = [f"{row.label} ({row.run[:6]})" for row in rows]
        axes.set_yticks(range(len(rows)), names, fontsize=_SMALL)
        axes.invert_yaxis()
        axes.set(xlabel="seconds")
        _legend(axes)
    return save(path, figure)


def draw_frontier(found: "Frontier", out: str) -> Path:
    """Draw error against seconds and, where that is known, against backprops; Pareto points are filled.

    Args:
        found: of `tamis.training.reports.frontier.frontier`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)
    labels = [group.label for group in found.groups]
    axes_of: list[Axis] = [axis for axis in AXES if any(one.costs(axis) is not None for one in found.traces)]
    with figure_of(_WIDTH + _room(labels), _HEIGHT * len(axes_of)) as figure:
        for at, axis in enumerate(axes_of):
            axes = figure.add_subplot(len(axes_of), 1, at + 1)
            _curves(axes, axis, found.traces, labels)
            axes.set(xlabel=axis, ylabel=found.measure, xlim=(0, None))
            axes.grid(visible=True, linewidth=0.3)
            if at == 0:
                axes.set_title(f"{found.dataset}, evaluated on {found.judge}", loc="left")
                _legend(axes)
    return save(path, figure)


def draw_confidence(rows: Sequence["Confidence"], out: str) -> Path:
    """Draw target confidence and accuracy by percentile, a line a run.

    Args:
        rows: of `tamis.training.reports.confidence.confidences`; at least one.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)
    with figure_of(_WIDTH + _room([row.label for row in rows]), 2 * _HEIGHT) as figure:
        for at, (name, what) in enumerate((("confidence", "target confidence"), ("accuracy", "accuracy"))):
            axes = figure.add_subplot(2, 1, at + 1)
            for i, row in enumerate(rows):
                look: dict[str, Any] = {"color": _COLOURS[i % len(_COLOURS)], "linewidth": 1.2}
                line = "-" if i < len(_COLOURS) else "--"
                axes.plot(row.percentile, getattr(row, name), linestyle=line, label=row.label, **look)
            axes.set(xlabel="percentile of target confidence", ylabel=what, xlim=(0, 100), ylim=(0, 1.02))
            axes.grid(visible=True, linewidth=0.3)
            if at == 0:
                axes.set_title(rows[0].dataset, loc="left")
                _legend(axes)
    return save(path, figure)


def draw_similarity(found: "Similarity", out: str) -> Path:
    """Draw cosine and share of equal signs against selectivity, with standard errors.

    Args:
        found: of `tamis.training.reports.similarity.similarity`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path, parts = check_form(out), list(dict.fromkeys(row.part for row in found.rows))
    with figure_of(_WIDTH + _room(parts), 2 * _HEIGHT) as figure:
        for at, (name, what) in enumerate((("cosine", "cosine similarity"), ("signs", "share of equal signs"))):
            axes = figure.add_subplot(2, 1, at + 1)
            for colour, part in zip(_COLOURS, parts, strict=False):
                mine = sorted((row for row in found.rows if row.part == part), key=lambda row: row.selectivity)
                bars = [getattr(row, f"{name}_error") or 0.0 for row in mine]
                share, values = [row.selectivity for row in mine], [getattr(row, name) for row in mine]
                axes.errorbar(share, values, bars, color=colour, marker="o", markersize=3, capsize=3, label=part)
            axes.set(xlabel="share of the batch", ylabel=what, xlim=(0, 1.02))
            axes.grid(visible=True, linewidth=0.3)
            if at == 0:
                axes.set_title(f"{found.model} on {found.dataset}, batches of {found.batch_size}", loc="left")
                _legend(axes)
    return save(path, figure)


def _curves(axes: Any, axis: Axis, traces: Sequence[Trace], labels: Sequence[str]) -> None:
    """A pale line with hollow points for each run, its Pareto points filled; one entry of the legend a group."""
    named = set[str]()
    for one in traces:
        costs, i = one.costs(axis), labels.index(one.label)
        colour, mark = _COLOURS[i % len(_COLOURS)], _MARKS[i // len(_COLOURS) % len(_MARKS)]
        name = {} if one.label in named else {"label": one.label}
        named.add(one.label)
        if costs is None:
            axes.plot([], [], mark, color=colour, markersize=4, **name)
            continue
        axes.plot(costs, one.error, color=colour, alpha=_PALE, linewidth=1, marker=mark, markersize=4, fillstyle="none")
        best = [(c, e) for c, e, is_best in zip(costs, one.error, one.optimal[axis], strict=True) if is_best]
        axes.plot([c for c, _ in best], [e for _, e in best], mark, color=colour, markersize=4, **name)


def _legend(axes: Any) -> None:
    """Beside the lines, whatever their number: within the axes it would lie on some of them."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize=_SMALL)


def _room(labels: Sequence[str]) -> float:
    """Inches that a legend takes, about."""
    return 0.7 + max(map(len, labels)) * _SMALL * _GLYPH / 72
