"""Drawings of loss history, as PNG or SVG: bands, probability, data map.

What: `draw_losses` draws one of `KINDS` for one run. `bands`: quantiles of the losses over epochs. `probability`: with
which probability the chosen samples of each epoch were chosen (thesis on Selective-Backprop, figure 3.6). `datamap`:
each sample by the mean and the standard deviation of its confidence (Dataset Cartography).
How: the numbers are those of `tamis.store.history`; the same numbers give the same file.
Cost: a second; a data map of 10^6 samples is drawn as a picture inside of an SVG.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tamis.store import history
from tamis.training.errors import ReportError
from tamis.training.reports.drawing.plots import check_form, figure_of, save

if TYPE_CHECKING:
    from tamis.store import Store

_BLUE, _WIDTH, _HEIGHT = "#4c78a8", 7.0, 4.0
_POINTS = 20_000  # more are drawn as pixels


def draw_losses(store: "Store", run: str, kind: str, out: str) -> Path:
    """Draw the loss history of a run.

    Args:
        store: an open store.
        run: a run's key, or the beginning of it.
        kind: a name in `KINDS`.
        out: a file, .png or .svg; one that is there is replaced.

    Returns:
        The file.

    Raises:
        ExtraMissing: matplotlib is not installed.
        ReportError: nothing to draw, or another kind of file or drawing.
        RunNotFound: no such run, or it has no losses.
    """
    path = check_form(out)
    if kind not in KINDS:
        raise ReportError(f"{kind!r} is no kind of drawing: expected {', '.join(KINDS)}.")
    key = history.with_losses(store, run)
    found = store.runs.get(key)
    with figure_of(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_subplot()
        axes.set_title(f"{found.model or found.key[:12]} on {found.dataset}", loc="left")
        KINDS[kind](store, key, axes)
        axes.grid(visible=True, linewidth=0.3)
    return save(path, figure)


def _draw_bands(store: "Store", run: str, axes: Any) -> None:
    rows = [row for row in history.bands(store, run) if row["finite"]]
    if not rows:
        raise ReportError(f"Run {run[:12]} has no finite loss: there is nothing to draw.")
    _bands(axes, rows)
    axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None))


def _draw_probability(store: "Store", run: str, axes: Any) -> None:
    rows = history.probabilities(store, run)
    if not rows:
        raise ReportError(
            f"Run {run[:12]} recorded no probability of a chosen sample: this drawing is for runs that select as they "
            "train."
        )
    _bands(axes, rows)
    axes.set(xlabel="epoch", ylabel="probability of the chosen samples", ylim=(0, 1))


def _draw_datamap(store: "Store", run: str, axes: Any) -> None:
    points = history.datamap(store, run)
    if not len(points):
        raise ReportError(f"Run {run[:12]} has no finite loss of its own epochs: there is nothing to draw.")
    known = points["correctness"].null_count == 0
    colours: dict[str, Any] = {"c": np.asarray(points["correctness"]), "vmin": 0, "vmax": 1} if known else {"c": _BLUE}
    drawn = axes.scatter(
        np.asarray(points["variability"]), np.asarray(points["confidence"]), s=4, linewidths=0, alpha=0.6,
        rasterized=len(points) > _POINTS, **colours,
    )  # fmt: skip
    if known:
        axes.figure.colorbar(drawn, label="share of epochs predicted right")
    axes.set(xlabel="variability: standard deviation of the confidence", ylabel="mean confidence", ylim=(0, 1))
    axes.set_xlim(left=0)


def _bands(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Nested bands of equal shares around the median, and the mean."""
    epochs = [row["epoch"] for row in rows]
    lines = np.array([row["quantiles"] for row in rows], np.float64)
    half = len(history.SHARES) // 2
    for i in range(half):
        share = history.SHARES[-1 - i] - history.SHARES[i]
        look: dict[str, Any] = {"color": _BLUE, "alpha": 0.2 + 0.2 * i, "linewidth": 0}
        axes.fill_between(epochs, lines[:, i], lines[:, -1 - i], label=f"{share:.0%} of the samples", **look)
    axes.plot(epochs, lines[:, half], color=_BLUE, label="median")
    axes.plot(epochs, [row["mean"] for row in rows], color="black", linestyle="--", linewidth=1, label="mean")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=7.5)


KINDS: dict[str, Callable[["Store", str, Any], None]] = {
    "bands": _draw_bands,
    "probability": _draw_probability,
    "datamap": _draw_datamap,
}
