"""Drawings of reports, as PNG or SVG.

What: `draw_speedups` draws accuracy against seconds, one line a training, one panel a data set and model;
`draw_histogram` how many samples were chosen how often.
How: matplotlib, of the extra `docs`, which is loaded here and nowhere else; without a window and without its global
state. The same numbers give the same file: no time of writing, no random names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.training.errors import ExtraMissing, ReportError
from tamis.training.report import Speedup

if TYPE_CHECKING:
    from tamis.training.looking import Bin

FORMS = (".png", ".svg")
_STYLE: dict[Any, Any] = {"svg.hashsalt": "tamis", "svg.fonttype": "none", "font.size": 9}
_WIDTH, _HEIGHT = 7.0, 4.0  # inches a panel
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
        rows: of `tamis.training.report.speedups`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: nothing to draw, or another kind of file.
    """
    path = check_form(out)
    if not rows:
        raise ReportError("There is no training to draw: train with evaluate_on and evaluate_every first.")
    panels: dict[tuple[str, str | None], list[Speedup]] = {}
    for row in rows:
        panels.setdefault((row.dataset, row.model), []).append(row)

    def draw(figure: Any) -> None:
        for at, ((dataset, model), lines) in enumerate(panels.items()):
            axes = figure.add_subplot(len(panels), 1, at + 1)
            axes.set_title(f"{model} on {dataset}", loc="left")
            _lines(axes, lines)

    return _save(path, draw, len(panels))


def draw_histogram(bins: dict[str, Sequence["Bin"]], out: str, *, weighted: bool = False) -> Path:
    """Draw priority histograms, one panel a selection.

    Args:
        bins: of `tamis.training.looking.histogram`, by the selection's name.
        out: a file, .png or .svg; one that is there is replaced.
        weighted: the bins are of summed weights.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)

    def draw(figure: Any) -> None:
        for at, (name, each) in enumerate(bins.items()):
            axes = figure.add_subplot(len(bins), 1, at + 1)
            axes.bar([one.text for one in each], [one.samples for one in each], color=_COLOURS[0])
            axes.set_title(name, loc="left")
            axes.set(ylabel="samples", xlabel="sum of weights" if weighted else "times chosen")
            axes.set_yscale("symlog", linthresh=1)  # most samples are never chosen; the rest must show beside them
            axes.tick_params(axis="x", labelrotation=45 if len(each) > 8 else 0)

    return _save(path, draw, len(bins))


def _lines(axes: Any, rows: Sequence[Speedup]) -> None:
    colours = iter(_COLOURS * (len(rows) // len(_COLOURS) + 1))
    for row in rows:
        colour = "black" if row.way == "full" else next(colours)
        style = ".--" if row.way == "replay" else ".-"
        axes.plot(row.curve.seconds, row.curve.accuracy, style, color=colour, linewidth=1, label=label(row))
        if row.seconds is not None:
            axes.plot([row.seconds], [row.accuracy], "o", color=colour, fillstyle="none")
    axes.set(xlabel="seconds, selecting included", ylabel="accuracy", xlim=(0, None))
    axes.grid(visible=True, linewidth=0.3)
    many = len(rows) > 6  # then beside the lines, not over them
    axes.legend(
        loc="upper left" if many else "lower right", bbox_to_anchor=(1.02, 1) if many else None, fontsize="small"
    )


def label(row: Speedup) -> str:
    """A training in a few words: how its samples were chosen, optimizer and rate."""
    chosen = "full" if row.way == "full" else f"{row.selection} ({'replayed' if row.way == 'replay' else 'chosen'})"
    return f"{chosen}, {row.optimizer} {row.lr:g}"


def _save(path: Path, draw: Any, panels: int) -> Path:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExtraMissing("Drawing needs matplotlib, which is not installed: pip install 'tamis[docs]'.") from error
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT * panels), layout="constrained")
        draw(figure)
        figure.savefig(path, metadata=metadata, dpi=150)
    return path
