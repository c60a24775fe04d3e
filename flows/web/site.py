"""What the pages share: the store, images, and a bounded memory of what was read last.

Cost: arrays of at most `Arrays.most` bytes are kept; a dataset of more than `SAMPLES` samples is not read whole for a
chart, which says so.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamis.flows.web.errors import BadQuestion
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Selection

if TYPE_CHECKING:
    from tamis.flows.web.thumbnails import Thumbnails

SAMPLES = 20_000_000
_FRESH = 5.0  # s that a dataset's row is trusted: its shards may be moved
Ints = NDArray[np.int64]
Round = tuple[Ints, NDArray[np.float32]]


class Arrays:
    """What was read last, forgotten beyond so many bytes; used by many threads.

    Args:
        most: bytes.
    """

    def __init__(self, most: int = 256 << 20) -> None:
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable, read: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """What is kept under a key, read where it is not."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        found = read()
        count = size(found)
        with self._lock:
            if key not in self._kept and count <= self._most:
                self._kept[key] = found, count
                self.bytes += count
            while self.bytes > self._most:
                _, (_, gone) = self._kept.popitem(last=False)
                self.bytes -= gone
        return found


@dataclass
class Site:
    """A store, as pages show it.

    Attributes:
        store: open.
        thumbnails: images.
        prefect: address of the page of the Prefect server that is configured; None where none is.
        arrays: what was read last.
    """

    store: Store
    thumbnails: "Thumbnails"
    prefect: str | None = None
    arrays: Arrays = field(default_factory=Arrays)
    _datasets: dict[str, tuple[float, Dataset]] = field(default_factory=dict[str, tuple[float, Dataset]])

    def dataset(self, ref: str) -> Dataset:
        """A dataset; one that was asked for some seconds ago is not read again.

        Raises:
            DatasetNotFound: there is none.
        """
        at, found = self._datasets.get(ref, (0.0, None))
        if found is None or time.monotonic() - at > _FRESH:
            found = self.store.datasets.get(ref)
            if len(self._datasets) > 64:
                self._datasets.clear()
            self._datasets[ref] = time.monotonic(), found
        return found

    def rounds(self, selection: Selection) -> list[Round]:
        """Samples and weights of every round, in rank order."""
        key = "rounds", selection.key, selection.digest
        return self.arrays.get(key, selection.read_rounds, lambda all_: sum(s.nbytes + w.nbytes for s, w in all_))

    def labels(self, dataset: Dataset) -> Ints:
        """[N] class numbers.

        Raises:
            BadQuestion: it has too many samples to be read for a page.
        """
        check_small(dataset)
        return self.arrays.get(("labels", dataset.key), dataset.labels, lambda array: array.nbytes)

    def scores(self, run: str, metric: str, dataset: Dataset) -> NDArray[np.float64]:
        """[N] scores by sample.

        Raises:
            BadQuestion: the dataset has too many samples to be read for a page.
            RunNotFound, SelectionError: as `Runs.scores`.
        """
        check_small(dataset)

        def read() -> NDArray[np.float64]:
            return self.store.runs.scores(run, metric, dataset.samples)

        return self.arrays.get(("scores", run, metric, dataset.samples), read, lambda array: array.nbytes)


def check_small(dataset: Dataset) -> None:
    """Refuse to read a dataset whole that is too large for it.

    Raises:
        BadQuestion: it has more than SAMPLES samples.
    """
    if dataset.samples > SAMPLES:
        raise BadQuestion(
            f"{dataset.ref} has {dataset.samples:,} samples: charts over a whole dataset are drawn up to {SAMPLES:,}. "
            "Ask with SQL, or with `tamis report`."
        )
