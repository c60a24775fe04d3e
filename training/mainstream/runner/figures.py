"""What a run came to: rates, latencies, hits, events and failures of each application.

How: latencies are kept of the newest 16,384 looks, so memory does not grow. The rate that was achieved is that of the
looks from the first to the last, on the source's clock.
Cost: the median and the 95th percentile are computed when they are asked for.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tamis.training.mainstream.runner.deploying import Deployed
from tamis.training.mainstream.runner.executing import Failure, Look

_KEPT = 1 << 14


@dataclass
class Figures:
    """One application's.

    Attributes:
        looks, hits, events, failures: how many.
        first, last: seconds of the first and the last look.
        ms: latencies of the newest looks.
        error: what it raised last.
    """

    looks: int = 0
    hits: int = 0
    events: int = 0
    failures: int = 0
    first: float = 0.0
    last: float = 0.0
    ms: deque[float] = field(default_factory=lambda: deque[float](maxlen=_KEPT))
    error: str | None = None

    def look(self, look: Look) -> None:
        """Count a look."""
        self.first = self.first if self.looks else look.seconds
        self.looks, self.hits, self.last = self.looks + 1, self.hits + look.hit, look.seconds
        self.ms.append(look.ms)

    def failure(self, failure: Failure) -> None:
        """Count a failure."""
        self.failures, self.error = self.failures + 1, failure.error

    @property
    def fps(self) -> float | None:
        """Looks a second of the source's clock; None where there were not two."""
        return (self.looks - 1) / (self.last - self.first) if self.last > self.first else None

    def latency(self) -> tuple[float | None, float | None]:
        """Median and 95th percentile, milliseconds."""
        if not self.ms:
            return None, None
        middle, high = np.percentile(np.asarray(self.ms), (50, 95))
        return float(middle), float(high)


def application_rows(known: Iterable[Deployed], figures: Mapping[str, Figures], off: set[str]) -> list[dict[str, Any]]:
    """A row for each application.

    Args:
        known: every one that ran, as it ran last.
        figures: by application.
        off: applications that are switched off.
    """
    rows = list[dict[str, Any]]()
    for one in known:
        name = one.planned.name
        mine = figures.get(name) or Figures()
        middle, high = mine.latency()
        rows.append(
            {
                "application": name, "package": one.package.ref, "branch": one.planned.branch,
                "branchpoint": one.branchpoint, "fps": one.planned.fps, "achieved": mine.fps, "ms": middle,
                "ms_p95": high, "looks": mine.looks, "hits": mine.hits, "events": mine.events,
                "failures": mine.failures, "off": name in off, "error": mine.error,
            }
        )  # fmt: skip
    return rows
