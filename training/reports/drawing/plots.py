"""Drawings of reports, as PNG or SVG.

What: `draw_speedups` draws accuracy against seconds, one line a training run, one panel a dataset and model;
`draw_histogram` how many samples were chosen how often.
How: matplotlib, of the extra `docs`, which is loaded here and nowhere else; without a window and without its global
state. The same numbers give the same file: no time of writing, no random names.
"""

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.training.errors import ExtraMissing, ReportError
from tamis.training.reports.speedup import Speedup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tamis.training.reports.priority import Bin

FORMS = (".png", ".svg")
_STYLE: dict[Any, Any] = {"svg.hashsalt": "tamis", "svg.fonttype": "none", "font.size": 9}
_WIDTH, _HEIGHT = 7.0, 4.0  # inches a panel, its legend beside it
_SMALL, _LINE, _GLYPH = 7.5, 1.6, 0.62  # a legend's points, and a line and a letter in these
_MARKS = ".s^Dv*"  # of trainings of one colour
_DPI, _PIXELS = 150, 60_000  # the latter: the most that a picture's side may have
_COLUMN, _NAME = 40, 40  # lines a column of a legend, letters a name
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")


def check_form(out: str, forms: Sequence[str] = FORMS) -> Path:
    """The file that a drawing goes to.

    Raises:
        ReportError: its suffix is no form that can be drawn.
    """
    path = Path(out)
    if path.suffix.lower() not in forms:
        raise ReportError(f"{out!r}: expected a file that ends in {' or '.join(forms)}.")
    return path


def draw_speedups(rows: Sequence[Speedup], out: str) -> Path:
    """Draw accuracy against seconds; full training in black, and a ring where each run reached the accuracy compared.

    Args:
        rows: of `tamis.training.reports.speedup.speedups`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: nothing to draw, or another kind of file.
    """
    path = check_form(out)
    return save(path, speedup_figure(rows))


def speedup_figure(rows: Sequence[Speedup]) -> "Figure":
    """What `draw_speedups` draws: a panel a dataset and model, its legend beside it.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: nothing to draw.
    """
    if not rows:
        raise ReportError("There is no training run to plot: train with evaluate_on and evaluate_every first.")
    panels: dict[tuple[str, str | None], list[Speedup]] = {}
    for row in rows:
        panels.setdefault((row.dataset, row.model), []).append(row)
    heights = list(map(_height, panels.values()))
    with figure_of(_WIDTH + max(map(_legend_width, panels.values())), sum(heights)) as figure:
        grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
        for at, ((dataset, model), lines) in enumerate(panels.items()):
            axes = figure.add_subplot(grid[at])
            axes.set_title(f"{model} on {dataset}", loc="left")
            _lines(axes, lines)
        return figure


def draw_histogram(bins: dict[str, Sequence["Bin"]], out: str, *, weighted: bool = False) -> Path:
    """Draw priority histograms, one panel a selection.

    Args:
        bins: of `tamis.training.reports.priority.histogram`, by the selection's name.
        out: a file, .png or .svg; one that is there is replaced.
        weighted: the bins are of summed weights.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)
    with figure_of(_WIDTH, _HEIGHT * len(bins)) as figure:
        for at, (name, each) in enumerate(bins.items()):
            axes = figure.add_subplot(len(bins), 1, at + 1)
            axes.bar([one.text for one in each], [one.samples for one in each], color=_COLOURS[0])
            axes.set_title(name, loc="left")
            axes.set(ylabel="samples", xlabel="sum of weights" if weighted else "times chosen")
            axes.set_yscale("symlog", linthresh=1)  # most samples are never chosen; the rest must show beside them
            axes.tick_params(axis="x", labelrotation=45 if len(each) > 8 else 0)
    return save(path, figure)


def _lines(axes: Any, rows: Sequence[Speedup]) -> None:
    chosen = 0
    for row in rows:
        colour, mark = "black", "."
        if row.way != "full":
            colour, mark = _COLOURS[chosen % len(_COLOURS)], _MARKS[chosen // len(_COLOURS) % len(_MARKS)]
            chosen += 1
        look: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 6 if mark == "." else 3, "linewidth": 1}
        line = "--" if row.way == "replay" else "-"
        axes.plot(row.curve.seconds, row.curve.accuracy, linestyle=line, label=label(row), **look)
        if row.seconds is not None:
            axes.plot([row.seconds], [row.accuracy], "o", color=colour, fillstyle="none")
    axes.set(xlabel="seconds, selecting included", ylabel="accuracy", xlim=(0, None))
    axes.grid(visible=True, linewidth=0.3)
    # Beside the lines, whatever their number: within the axes it would lie on some of them.
    columns = _columns(rows)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize=_SMALL, ncols=columns)


def _columns(rows: Sequence[Speedup]) -> int:
    return -(-len(rows) // _COLUMN)


def _height(rows: Sequence[Speedup]) -> float:
    """Inches a panel needs for its legend."""
    return max(_HEIGHT, 1.0 + min(len(rows), _COLUMN) * _SMALL * _LINE / 72)


def _legend_width(rows: Sequence[Speedup]) -> float:
    """Inches, about."""
    longest = max(len(label(row)) for row in rows)
    return _columns(rows) * (0.6 + longest * _SMALL * _GLYPH / 72)


def label(row: Speedup) -> str:
    """A training run in a few words: how its samples were chosen, optimizer and rate."""
    way = "replayed" if row.way == "replay" else "chosen"
    chosen = "full" if row.way == "full" else f"{_short(row.selection or '')} ({way})"
    return f"{chosen}, {row.optimizer} {row.lr:g}"


def _short(name: str) -> str:
    """A long name without its middle: what tells versions apart stands at its end."""
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[1 - _NAME // 2 :]}"


@contextmanager
def figure_of(width: float, height: float) -> Generator["Figure"]:
    """A figure of so many inches, to be drawn on within."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExtraMissing("Drawing needs matplotlib, which is not installed: pip install 'tamis[docs]'.") from error
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def save(path: Path, figure: "Figure") -> Path:
    import matplotlib as mpl

    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    drawn = io.BytesIO()  # first: what is in the file is whole, whatever happens meanwhile
    with mpl.rc_context(_STYLE):
        dpi = min(_DPI, _PIXELS / max(figure.get_size_inches()))
        figure.savefig(drawn, format=path.suffix[1:].lower(), metadata=metadata, dpi=dpi)
    path.write_bytes(drawn.getvalue())
    return path
