"""What a package's candidate finds in the held-out video it was measured on, at any sample rate.

What: `profiled` replays the answers that the build kept, a bit a frame: recall of events at every k-th frame.
How: looks begin at each of the first k frames with the same chance; an event is found by those beginnings for which one
of its hits is looked at. So the recall is exact, without trials. Events are as labelled, also where pieces cut them.
Cost: labels and time line of the dataset.
Source: A. H. Jiang, thesis, figure 5.6, "Profiled".

Legend: M held-out frames.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store.errors import DatasetNotFound, SelectionNotFound
from tamis.store.packages import Candidate, Package
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.data import data_of
from tamis.training.mainstream.trainer.evaluating import unpack_hits
from tamis.training.mainstream.trainer.timeline import pieces_of

Bools = NDArray[np.bool_]

STRIDES = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 75, 100)


class Profiled(NamedTuple):
    """Recall in a video.

    Attributes:
        fps: frames a second, falling.
        recall: of events, for each.
        events: how many there were.
    """

    fps: tuple[float, ...]
    recall: tuple[float, ...]
    events: int


def profiled(store: Store, package: Package, candidate: Candidate) -> Profiled | None:
    """What a candidate finds in its held-out video.

    Args:
        store: that has the data which the package was built of.
        package: the package.
        candidate: of it.

    Returns:
        None where that data is not here, is no video, or has no event in it.
    """
    if "hits" not in candidate.metrics:
        return None
    try:
        data = data_of(store, PackageConfig.model_validate(package.config))
    except (DatasetNotFound, SelectionNotFound):
        return None  # imported from another store
    frames = data.judged.frames()
    pieces = [] if frames is None else pieces_of(frames, data.held.samples_N)
    if frames is None or not pieces or candidate.metrics["held"] != len(data.held.samples_N):
        return None
    hits_M = unpack_hits(candidate.metrics["hits"], candidate.metrics["held"])
    inside_M = data.held.labels_N == data.event
    seconds_M = frames.seconds_N[data.held.samples_N]
    step = float(np.median(np.concatenate([np.diff(seconds_M[piece]) for piece in pieces])))
    events = [piece[a:b] for piece in pieces for a, b in stretches(inside_M[piece])]
    if not events:
        return None
    strides = [k for k in STRIDES if k == 1 or k <= max(map(len, pieces))]
    recall = tuple(recall_at(k, [hits_M[event] for event in events]) for k in strides)
    return Profiled(tuple(1 / (step * k) for k in strides), recall, len(events))


def recall_at(stride: int, events: list[Bools]) -> float:
    """Mean share of the beginnings at which a look hits an event.

    Args:
        stride: every how many frames there is a look.
        events: hits on the frames of each, one event or more.
    """
    found = [len(np.unique(np.flatnonzero(hits) % stride)) / stride for hits in events]
    return float(np.mean(found))


def stretches(inside: Bools) -> list[tuple[int, int]]:
    """Where runs of true begin, and where they end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
