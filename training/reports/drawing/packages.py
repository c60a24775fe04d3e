"""A drawing of an M-Package (figure 5.4 of the thesis), as PNG or SVG.

What: `draw_package` draws accuracy per frame against frozen layers: every candidate, and the Pareto frontier as a line.
How: as in `tamis.training.reports.drawing.plots`; matplotlib is of the extra `docs`.
"""

from pathlib import Path
from typing import Any

from tamis.store.packages import Package
from tamis.training.reports.drawing.plots import check_form, figure_of, save


def draw_package(package: Package, out: str) -> Path:
    """Draw a package's candidates.

    Args:
        package: a published one.
        out: a file, .png or .svg; one that is there is replaced.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: another kind of file.
    """
    path = check_form(out)
    frontier = [one for one in package.candidates if one.pareto]
    with figure_of(5.0, 3.5) as figure:
        axes: Any = figure.add_subplot()
        axes.plot([one.frozen for one in frontier], [one.accuracy for one in frontier], label="Pareto frontier")
        axes.plot([one.frozen for one in package.candidates], [one.accuracy for one in package.candidates], "o",
                  label="candidates", markersize=4)  # fmt: skip
        axes.set(xlabel="frozen layers", ylabel="accuracy per frame", title=package.ref)
        axes.grid(visible=True, linewidth=0.3)
        axes.legend()
    return save(path, figure)
