"""What tasks on a cluster tell becomes one bar a kind, and a task that runs again counts once."""

from collections.abc import Callable

import pytest
from rich.progress import Progress

from tamis.flows import progress
from tamis.flows.rays.reports import Tally, show


def test_tasks_of_a_kind_are_one_bar_and_a_second_try_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    display, bars = Progress(disable=True), dict[str, Callable[[float, float], None]]()
    monkeypatch.setattr(progress, "_display", display)
    tally = Tally()
    tally.tell("one", "score", 30, 100)
    tally.tell("two", "score", 50, 200)
    tally.tell("three", "train", 1, 4)
    show(tally.counts(), bars)
    assert [(t.description, t.completed, t.total) for t in display.tasks] == [("score", 80, 300), ("train", 1, 4)]
    tally.tell("one", "score", 0, 100)  # its worker was killed
    show(tally.counts(), bars)
    assert [(t.description, t.completed, t.total) for t in display.tasks] == [("score", 50, 300), ("train", 1, 4)]


def test_a_worker_reports_in_place_of_a_terminal() -> None:
    told: list[tuple[str, float]] = []

    def elsewhere(what: str, total: float) -> Callable[[float], None]:
        told.append((what, total))
        return lambda step: told.append((what, step))

    with progress.listening(elsewhere):
        progress.steps("train")(3, 10)
        progress.track("score", 7)(2)
    progress.track("score", 7)(2)
    assert told == [("train", 10), ("train", 3), ("score", 7), ("score", 2)]
