"""From looks to events: a run of hits opens an event, a gap closes it.

What: `Noticing` is one application's state. `votes` hits at consecutive looks open an event; it begins at the first of
them and is reported at the last. It closes after so many misses in a row, or after so many seconds without a hit
(`Gap`), and ends at its last hit.
How: looks that failed or frames that were dropped are no looks: they neither add to a run of hits nor break it. While
an event is open a single hit prolongs it. An event that is open when the run ends is closed there.
Cost: none to speak of.
Source: A. Jiang, thesis, 2020, section 5.3.5 (X-voting); when an event ends is our choice.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

from tamis.training.errors import RunnerError

USUAL = "3"


class Gap(NamedTuple):
    """What closes an event.

    Attributes:
        misses: looks without a hit in a row; None where seconds count.
        seconds: since the last hit; None where misses count.
    """

    misses: int | None
    seconds: float | None

    @classmethod
    def of(cls, text: str) -> Self:
        """From "3" (misses) or "2s" (seconds).

        Raises:
            RunnerError: it is neither.
        """
        found = re.fullmatch(r"(\d{1,9})|(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})s", text.strip())
        if found is None or float(found[1] or found[2]) <= 0:
            raise RunnerError(
                f"{text!r} closes no event: expected a number of misses in a row, such as 3, or seconds without a hit, "
                "such as 2s."
            )
        return cls(int(found[1]), None) if found[1] else cls(None, float(found[2]))


@dataclass
class Noticed:
    """An event that was found.

    Attributes:
        begins: seconds of its first hit.
        reported: seconds of the hit that opened it.
        ends: seconds of its last hit so far.
        hits, looks: of its application from `begins` to `ends`.
        score: the highest of its hits.
    """

    begins: float
    reported: float
    ends: float
    hits: int
    looks: int
    score: float


class Noticing:
    """The events of one application.

    Args:
        votes: consecutive hits that open an event, at least 1.
        gap: what closes it.

    Attributes:
        event: that is open; None where none is.
    """

    def __init__(self, votes: int, gap: Gap) -> None:
        self.votes, self.gap = votes, gap
        self.event: Noticed | None = None
        self._run = 0
        self._first, self._score = 0.0, 0.0
        self._missed = 0

    def look(self, seconds: float, hit: bool, score: float) -> tuple[Noticed | None, Noticed | None]:
        """Take a look into account.

        Args:
            seconds: of the frame.
            hit: whether the application saw its event.
            score: of the event's class.

        Returns:
            The event that ended before this look, and the one that was opened by it; None for neither.
        """
        late = self.gap.seconds is not None and self.event is not None and seconds - self.event.ends > self.gap.seconds
        ended = self.close() if late else None
        if not hit:
            return ended or self._miss(), None
        self._first, self._score = (seconds, score) if not self._run else (self._first, max(self._score, score))
        self._run += 1
        if self.event is not None:
            self._extend(self.event, seconds, score)
        elif self._run >= self.votes:
            self.event = Noticed(self._first, seconds, seconds, self._run, self._run, self._score)
            return ended, self.event
        return ended, None

    def close(self) -> Noticed | None:
        """The event that is open, which it is no more."""
        ended, self.event, self._missed = self.event, None, 0
        self._run = 0
        return ended

    def _miss(self) -> Noticed | None:
        self._run = 0
        if self.event is None:
            return None
        self._missed += 1
        return self.close() if self._missed == self.gap.misses else None

    def _extend(self, event: Noticed, seconds: float, score: float) -> None:
        event.ends = seconds
        event.hits, event.looks = event.hits + 1, event.looks + self._missed + 1
        event.score, self._missed = max(event.score, score), 0
