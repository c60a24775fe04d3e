"""How good candidates are on held-out samples.

What: `rates` makes, of what a candidate said of each held-out sample, the accuracy of a frame, the
rate of true and of false positives, each with its count; `discordance` says on which share of the samples two
candidates differ. Which candidates are on the Pareto frontier is told where they are published
(`tamis.store.packages.pareto_of`).
How: a hit is a sample that a candidate takes for the event's class. Accuracy is over all classes.
Source: A. Jiang, thesis, 2021, section 5.3.1; discordance, "Potential Threat Model" of section 5.3.3.
Cost: a few passes over arrays of the held-out samples.

Legend: M held-out samples, C candidates.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
RULE_OF_THREE = 3  # n samples without an error: the rate is at most 3 / n, at 95 %


@dataclass(frozen=True)
class Rates:
    """Of one candidate on held-out samples.

    Attributes:
        accuracy: share of samples whose class is right.
        tpr: share of hits among samples of the event.
        fpr: share of hits among the others.
        events, others: how many samples these are.
    """

    accuracy: float
    tpr: float
    fpr: float
    events: int
    others: int


def rates(hits_M: Bools, right_M: Bools, inside_M: Bools) -> Rates:
    """Rates of a candidate.

    Args:
        hits_M: it says that the event is there.
        right_M: its class is right.
        inside_M: the event is there. Some samples are, and some are not.
    """
    events = int(inside_M.sum())
    others = len(inside_M) - events
    return Rates(
        float(right_M.mean()), int((hits_M & inside_M).sum()) / events, int((hits_M & ~inside_M).sum()) / others,
        events, others,
    )  # fmt: skip


def doubts(found: Rates) -> list[str]:
    """What is worth saying of rates that are exactly 0 or 1: so few samples cannot show them."""
    said = list[str]()
    if found.accuracy in (0.0, 1.0):
        never = "no error" if found.accuracy else "no right answer"
        most = min(1.0, RULE_OF_THREE / (found.events + found.others))
        said.append(
            f"{never} on {found.events + found.others} held-out samples, of which {found.events} of the event: a rate "
            f"of up to {most:.1%} would show none (95 %)"
        )
    return said


def discordance(hits_CM: Bools) -> npt.NDArray[np.float64]:
    """[C, C] on which share of the samples two candidates differ; symmetric, 0 on the diagonal."""
    signs_CM = np.where(hits_CM, 1.0, -1.0)
    return (1 - signs_CM @ signs_CM.T / hits_CM.shape[1]) / 2


def pack_hits(hits_M: Bools) -> str:
    """Hits as text, a bit each (base64, the first sample in the highest bit)."""
    return base64.b64encode(np.packbits(hits_M).tobytes()).decode("ascii")


def unpack_hits(text: str, count: int) -> Bools:
    """What `pack_hits` packed of so many samples."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)
