"""Which boxes count: those of a score and a size, as the authors' code has it and as the paper does.

The paper counts boxes of score .2 and more. The authors' code drops boxes below .5 or of a side below 20 pixels before
anything else, so that its own floor of .2 never acts. Both are here by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tamis.curation.culling.detections import Detections
from tamis.curation.errors import CurationError

Preset = Literal["authors", "paper"]


@dataclass(frozen=True)
class Floors:
    """The least that a box must have to count.

    Attributes:
        score: 0 to 1; a box of this score counts.
        side: pixels of the shorter side.

    Raises:
        CurationError: a score outside 0 to 1, or a negative side.
    """

    score: float
    side: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.score <= 1 and self.side >= 0):
            raise CurationError(
                f"floors are a score of {self.score} and a side of {self.side}; expected 0 to 1, and at least 0 pixels"
            )

    def kept(self, detections: Detections) -> Detections:
        """The boxes that count."""
        kept_B = detections.scores_B >= self.score
        if self.side > 0:
            sides_B2 = detections.sides_B2
            kept_B &= (sides_B2[:, 0] >= self.side) & (sides_B2[:, 1] >= self.side)
        return detections.only(kept_B)


PRESETS: Mapping[Preset, Floors] = {"authors": Floors(0.5, 20.0), "paper": Floors(0.2)}
"""The authors' code (score .5, side 20 pixels), and the paper (score .2)."""
