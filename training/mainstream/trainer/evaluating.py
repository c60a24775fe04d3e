"""How good a candidate is on held-out samples.

What: `judge` makes, of the class that a candidate gave each sample, its accuracy on a frame, its rates of true and of
false positives, and on video how its misses follow each other. Which candidates are on the Pareto frontier is told
where they are published (`tamis.store.packages.pareto_of`).
How: a hit is a sample that a candidate takes for the event's class. Accuracy is over all classes. Misses are counted
over consecutive held-out frames of one event (`tamis.training.mainstream.events.measuring`).
Cost: a few passes over arrays of the held-out samples.
Source: A. Jiang, thesis, 2021, sections 5.2 and 5.3.1.

Legend: M held-out samples.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.training.mainstream.events.measuring import measure_rates

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_RULE_OF_THREE = 3  # n samples without an error: the rate is at most 3 / n, at 95 %


@dataclass(frozen=True)
class Judged:
    """A candidate on held-out samples.

    Attributes:
        accuracy: share of samples whose class is right.
        tpr: share of hits among samples of the event.
        fpr: share of hits among the others.
        miss_after_miss: P(miss | miss) over consecutive frames of an event; None where nothing could be counted.
        correlation: c of that, 0 to 1; None likewise.
        events, others: how many samples are of the event, and how many not.
        misses: samples of the event that are no hits.
    """

    accuracy: float
    tpr: float
    fpr: float
    miss_after_miss: float | None
    correlation: float | None
    events: int
    others: int
    misses: int


def judge(predicted_M: Ints, labels_M: Ints, event: int, pieces: Sequence[Ints] = ()) -> Judged:
    """What a candidate is worth.

    Args:
        predicted_M: the class that it gives each sample.
        labels_M: the class of each; some are the event, and some are not.
        event: the class that is the event.
        pieces: places of consecutive frames of a video.
    """
    hits_M, inside_M = predicted_M == event, labels_M == event
    found = measure_rates([inside_M], [hits_M])
    again = None
    if any(inside_M[piece].any() for piece in pieces):
        chain = measure_rates([inside_M[piece] for piece in pieces], [hits_M[piece] for piece in pieces])
        again = None if math.isnan(chain.miss_after_miss) else chain
    return Judged(
        float((predicted_M == labels_M).mean()), found.tpr, found.fpr,
        None if again is None else again.miss_after_miss, None if again is None else again.correlation,
        int(inside_M.sum()), int((~inside_M).sum()), int((inside_M & ~hits_M).sum()),
    )  # fmt: skip


def doubts(found: Judged) -> list[str]:
    """What is worth saying of an accuracy of exactly 0 or 1: so few samples cannot show it."""
    if found.accuracy not in (0.0, 1.0):
        return []
    samples, never = found.events + found.others, "no error" if found.accuracy else "no right answer"
    most = min(1.0, _RULE_OF_THREE / samples)
    return [
        f"{never} on {samples} held-out samples, {found.events} of them of the event: a rate of up to {most:.1%} would "
        "show none (95 %)"
    ]


def pack_hits(hits_M: Bools) -> str:
    """Hits as text, a bit each (base64, the first sample in the highest bit)."""
    return base64.b64encode(np.packbits(hits_M).tobytes()).decode("ascii")


def unpack_hits(text: str, count: int) -> Bools:
    """What `pack_hits` packed of so many samples."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)
