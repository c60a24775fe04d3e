"""Boxes on images: what a student and a teacher found, each in a colour of its own.

What: `open_layers` takes the boxes of runs out of the store; a `Layer` draws those of a sample on its image and says
how many there are.
How: an image may be scaled, and its boxes are with it: a line is on the outermost pixels that belong to the box. Lines
of the second run lie inside those of the first, so that boxes on which both agree show both colours.
Cost: one read of each run's boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from tamis.store import Store
from tamis.store.boxes import LOOKED, Boxes
from tamis.store.datasets import Dataset
from tamis.training.errors import ReportError

COLOURS = ((245, 133, 24), (30, 90, 200))  # of the first run, and of the second
_LINE = 1 / 250  # of an image's longer side, a line's width


@dataclass(frozen=True)
class Layer:
    """The boxes of a run.

    Attributes:
        name: what the legend calls it.
        colour: RGB.
        boxes: of the whole dataset.
        least_score: boxes with a lower score are not shown.
        place: how many layers lie outside of this one.
    """

    name: str
    colour: tuple[int, int, int]
    boxes: Boxes
    least_score: float
    place: int

    def count(self, sample: int) -> int | None:
        """Boxes of a sample that are shown; None where the run did not look at it, or failed on it."""
        return len(self._corners(sample)) if self.boxes.status_N[sample] == LOOKED else None

    def draw(self, image: Image.Image, sample: int, size: tuple[int, int]) -> None:
        """Draw the boxes of a sample.

        Args:
            image: that is drawn on, scaled.
            sample: which.
            size: width and height of the image as it is stored.
        """
        pen, across, down = ImageDraw.Draw(image), image.width / size[0], image.height / size[1]
        line = max(1, round(max(image.size) * _LINE))
        for x1, y1, x2, y2 in self._corners(sample):
            left, top = round(x1 * across), round(y1 * down)
            right, bottom = max(left, round(x2 * across) - 1), max(top, round(y2 * down) - 1)
            inset = min(self.place * line, (right - left) // 2, (bottom - top) // 2)
            pen.rectangle((left + inset, top + inset, right - inset, bottom - inset), outline=self.colour, width=line)

    def _corners(self, sample: int) -> list[list[float]]:
        here = self.boxes.frame(sample)
        return self.boxes.corners_B4[here][self.boxes.scores_B[here] >= self.least_score].tolist()


def open_layers(store: Store, dataset: Dataset, runs: Sequence[str], least_score: float) -> tuple[Layer, ...]:
    """The boxes of runs: first the student's, then the teacher's.

    Args:
        store: the store.
        dataset: that they looked at.
        runs: keys, or the beginnings of them; two at most.
        least_score: boxes with a lower score are left out.

    Raises:
        RunNotFound, SelectionError: a run has no boxes of this dataset.
        ReportError: more than two runs, or one of them twice.
    """
    found = [store.runs.get(run) for run in runs]
    if len(found) > len(COLOURS) or len({run.key for run in found}) < len(found):
        raise ReportError(
            f"{len(runs)} runs of boxes: expected up to {len(COLOURS)} different ones, a student's and a teacher's."
        )
    layers: list[Layer] = []
    for place, (run, colour) in enumerate(zip(found, COLOURS, strict=False)):
        name = f"{run.model or run.kind} ({run.key[:6]}), score {least_score:g} and more"
        layers.append(Layer(name, colour, store.runs.boxes(run.key, dataset), least_score, place))
    return tuple(layers)
