"""Where results go: JSON lines as they come, and rows of the store part by part.

What: `Lines` writes an object a line; `Recorder` keeps looks and events of one run in the store's tables `looks` and
`events`, and the run itself in `runs`, of kind "mainstream".
How: rows are gathered, and written every so many of them or seconds by a thread of their own, each part in one commit:
it shows at once and as a whole, and what a killed run wrote stays. Looks go before the events found in them. Of the
rows that wait while a part is written there are at most so many: then the run waits.
Cost: a part takes some milliseconds in a folder, beside the run.
"""

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any, Literal, TextIO

from tamis.store import Store
from tamis.store.keys import check_name
from tamis.training.mainstream.runner.checking import Check
from tamis.training.mainstream.runner.executing import Failure, Look
from tamis.training.mainstream.runner.noticing import Noticed

KIND = "mainstream"
Kinds = Literal["looks", "hits", "events"]
_SECONDS = 30.0  # from one part to the next
_ROWS = 1 << 14  # of a part
_MOST = 1 << 18  # that may wait


class Lines:
    """Writes JSON lines.

    Args:
        file: to write to.
        kinds: "looks" for all, "hits" without the looks that are no hits, or "events" alone.
    """

    def __init__(self, file: TextIO, kinds: Kinds) -> None:
        self._file, self._kinds = file, kinds

    def look(self, package: str, look: Look) -> None:
        """A look, where it is wanted."""
        if self._kinds == "looks" or (self._kinds == "hits" and look.hit):
            self._write(
                "look", application=look.application, package=package, frame=look.frame, seconds=look.seconds,
                hit=look.hit, score=look.score, ms=look.ms,
            )  # fmt: skip

    def failure(self, package: str, failure: Failure) -> None:
        """An application that failed."""
        self._write(
            "failure", application=failure.application, package=package, seconds=failure.seconds, error=failure.error,
            off=failure.off,
        )  # fmt: skip

    def event(
        self, kind: Literal["opened", "event"], application: str, package: str, votes: int, event: Noticed
    ) -> None:
        """An event that was opened, or is over."""
        self._write(kind, **event_fields(application, package, votes, event))

    def check(self, package: str, check: Check) -> None:
        """What all candidates say of a frame."""
        hits = {str(branch): hit for branch, hit in check.hits.items()}
        self._write(
            "check", application=check.application, package=package, frame=check.frame, seconds=check.seconds, hits=hits
        )

    def other(self, kind: str, **fields: Any) -> None:
        """Anything else."""
        self._write(kind, **fields)

    def flush(self) -> None:
        """Let readers have what was written."""
        self._file.flush()

    def _write(self, kind: str, **fields: Any) -> None:
        rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in fields.items()}
        self._file.write(json.dumps({"kind": kind, **rounded}, allow_nan=False) + "\n")


class Recorder:
    """Keeps one run in the store; a context manager.

    Args:
        store: the store.
        run: the run's key.
        source: the source's name.
        dataset: that the run is judged by; "" for none.
        config: what is worth knowing of the run, plain JSON.
        seconds: from one part to the next.
    """

    def __init__(
        self, store: Store, run: str, *, source: str, dataset: str, config: Mapping[str, Any], seconds: float = _SECONDS
    ) -> None:
        self._store, self._run, self._source, self._seconds = store, check_name(run, "run"), source, seconds
        store.runs.begin(kind=KIND, key=run, dataset=dataset, config=config, alone=True)
        self._looks, self._events = list[dict[str, Any]](), list[dict[str, Any]]()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tamis-results")
        self._writing: Future[None] | None = None
        self._since = monotonic()

    def look(self, package: str, look: Look) -> None:
        """Keep a look."""
        self._looks.append(
            {
                "application": look.application, "package": package, "frame": look.frame, "seconds": look.seconds,
                "hit": look.hit, "score": look.score, "ms": look.ms,
            }
        )  # fmt: skip

    def event(self, application: str, package: str, votes: int, event: Noticed) -> None:
        """Keep an event that is over."""
        self._events.append(event_fields(application, package, votes, event))

    def write(self) -> None:
        """Write a part, where it is time for one. What went wrong with the last is raised."""
        waiting = len(self._looks) + len(self._events)
        if waiting < _ROWS and monotonic() - self._since < self._seconds:
            return
        if self._writing is None or self._writing.done() or waiting >= _MOST:
            self._hand_over()

    def finish(self, metrics: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Write what is left, and make the run final."""
        try:
            self._hand_over()
            self._settle()
        finally:
            self._pool.shutdown()
        self._store.runs.finish(self._run, metrics=metrics, seconds=seconds)

    def fail(self, error: str) -> None:
        """Write what is left, and say why the run ended."""
        try:
            self._hand_over()
            self._settle()
        finally:
            self._pool.shutdown()
            self._store.runs.fail(self._run, error)

    def _hand_over(self) -> None:
        self._settle()
        looks, events = self._looks, self._events
        self._looks, self._events, self._since = [], [], monotonic()
        if looks or events:
            self._writing = self._pool.submit(self._put, looks, events)

    def _put(self, looks: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        self._store.runs.add_looks(self._run, self._source, looks)
        self._store.runs.add_events(self._run, self._source, events)

    def _settle(self) -> None:
        if self._writing is not None:
            done, self._writing = self._writing, None
            done.result()


def event_fields(application: str, package: str, votes: int, event: Noticed) -> dict[str, Any]:
    """An event as a row or a line."""
    return {
        "application": application, "package": package, "begins": event.begins, "ends": event.ends,
        "reported": event.reported, "votes": votes, "hits": event.hits, "looks": event.looks, "score": event.score,
    }  # fmt: skip
