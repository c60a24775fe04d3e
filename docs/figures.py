"""The figures of the explanations, drawn from what the code does: `python docs/figures.py`."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from tamis.training.streaming.resume import Position, Share
from tamis.training.streaming.shuffle import EpochOrder

FOLDER = Path(__file__).parent / "explanation"
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")
SAMPLES, BATCH, STOP = 24, 2, 8


def main() -> None:
    # The same file each time: no time of writing, no random names, text as text.
    mpl.rcParams.update({"svg.hashsalt": "tamis", "svg.fonttype": "none", "font.size": 9})
    for figure in (streaming, house):
        figure().savefig(FOLDER / f"{figure.__name__}.svg", metadata={"Date": None}, bbox_inches="tight")


def streaming() -> Any:
    """One epoch: where samples lie, the order they are read in, and who reads them before and after a stop."""
    order = EpochOrder("figure", SAMPLES, 0, 0).at(np.arange(SAMPLES))
    figure, rows = plt.subplots(3, 1, figsize=(9, 3.4), layout="constrained")
    _row(rows[0], range(SAMPLES), ["#dddddd"] * SAMPLES, "samples as they lie in three shards")
    for shard in range(1, 3):
        rows[0].axvline(shard * SAMPLES / 3, color="black", linewidth=2)
    two = _readers(0, SAMPLES, 2)
    _row(rows[1], order, [COLOURS[two[p]] for p in range(SAMPLES)], "the order of epoch 0, read by 2 ranks")
    three = _readers(STOP, SAMPLES, 3)
    colours = ["#ffffff" if p < STOP else COLOURS[three[p]] for p in range(SAMPLES)]
    _row(rows[2], order, colours, f"stopped after {STOP} samples, gone on with by 3 ranks")
    rows[2].axvline(STOP, color="black", linewidth=2)
    return figure


def house() -> Any:
    """The packages with their wings as they lie on disk: modules of each, and what may import what."""
    figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
    storeys: list[tuple[tuple[str, ...], float]] = [
        (("flows",), 3.3),
        (("training",), 1.65),
        (("curation", "store"), 0),
    ]
    for tops, height in storeys:
        wings = {top: _wings(top) for top in tops}
        left, width = 0.0, 12 / sum(len(w) for w in wings.values())
        for top, colour in zip(tops, COLOURS[storeys.index((tops, height)) :], strict=False):
            space = width * len(wings[top])
            axes.add_patch(plt.Rectangle((left, height), space - 0.1, 1.35, facecolor=colour, alpha=0.18))
            axes.text(left + 0.1, height + 1.12, f"{top}/", weight="bold", va="center")
            for place, (wing, modules) in enumerate(wings[top].items()):
                _room(axes, left + place * width + 0.06, height + 0.1, width - 0.22, wing, modules, colour)
            left += space
    for height in (3.3, 1.65):
        axes.annotate("", (6, height - 0.3), (6, height), arrowprops={"arrowstyle": "->", "linewidth": 1.5})
    axes.text(6.15, 3.13, "imports", va="center")
    axes.set(xlim=(0, 12), ylim=(-0.05, 4.7))
    axes.axis("off")
    return figure


def _wings(top: str) -> dict[str, int]:
    """The folders of a package and how many modules each has; the package's own come first."""
    root = FOLDER.parents[1] / top
    folders = [root, *sorted(p for p in root.iterdir() if (p / "__init__.py").exists())]
    return {f.name if f != root else "": sum(not m.name.startswith("__") for m in f.glob("*.py")) for f in folders}


def _room(axes: Any, left: float, bottom: float, width: float, name: str, modules: int, colour: str) -> None:
    axes.add_patch(plt.Rectangle((left, bottom), width, 0.75, facecolor="white", edgecolor=colour))
    axes.text(left + width / 2, bottom + 0.47, name or "(itself)", ha="center", va="center", fontsize=7.5)
    axes.text(left + width / 2, bottom + 0.2, str(modules), ha="center", va="center", fontsize=7.5, color="#555555")


def _readers(begin: int, size: int, world: int) -> dict[int, int]:
    """Which rank reads each position."""
    return {
        int(position): rank
        for rank in range(world)
        for block in Share(rank, world, BATCH).blocks(size, Position(0, begin))
        for batch in block
        for position in batch
    }


def _row(axes: Any, numbers: Any, colours: list[str], title: str) -> None:
    for place, (number, colour) in enumerate(zip(numbers, colours, strict=True)):
        axes.add_patch(plt.Rectangle((place, 0), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
        axes.text(place + 0.5, 0.5, str(number), ha="center", va="center")
    axes.set(xlim=(0, SAMPLES), ylim=(0, 1), xticks=[], yticks=[])
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_frame_on(False)


if __name__ == "__main__":
    main()
