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
    streaming().savefig(FOLDER / "streaming.svg", metadata={"Date": None}, bbox_inches="tight")


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
