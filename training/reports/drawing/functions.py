"""Drawings of prioritisation functions (figures 4.3 and 4.4 of the thesis), as PNG or SVG.

What: `draw_functions` draws probability of selection against a loss's share of the history, one line a function.
How: as in `tamis.training.reports.drawing.plots`; matplotlib is of the extra `docs`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tamis.curation.selective.priority import Priority
from tamis.training.errors import ReportError
from tamis.training.reports.drawing.plots import check_form, figure_of, save

_PLACES = 501


def draw_functions(functions: Mapping[str, Priority], out: str) -> Path:
    """Draw functions into one panel.

    Args:
        functions: by what they are called.
        out: a file, .png or .svg; one that is there is replaced.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: nothing to draw, or another kind of file.
    """
    path = check_form(out)
    if not functions:
        raise ReportError("There is no prioritisation function to plot: name one (tamis priority ls).")
    shares = np.linspace(0, 1, _PLACES)
    with figure_of(5.0, 3.5) as figure:
        axes: Any = figure.add_subplot()
        for name, function in functions.items():
            axes.plot(shares, function(shares), label=name)
        axes.set(xlabel="share of the history", ylabel="probability of selection", xlim=(0, 1), ylim=(0, 1.05))
        axes.grid(visible=True, linewidth=0.3)
        axes.legend()
    return save(path, figure)
