"""Running a schedule: a thread reads, this one computes, results go out, plans are exchanged.

What: `Runner.run` goes on until the source ends or it is stopped, and gives a summary.
How: between two frames, and only there, a new schedule takes over: applications that stay keep their place in time and
the events that they have open. Events of those that go are closed.
Bounded: the queue, latencies, rows that wait. With labels, the events found are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from tamis.training.errors import RunnerError
from tamis.training.mainstream.runner.checking import Checking
from tamis.training.mainstream.runner.deploying import Deployed, Schedule
from tamis.training.mainstream.runner.executing import Executor, Failure, Look
from tamis.training.mainstream.runner.figures import Figures, application_rows
from tamis.training.mainstream.runner.judging import Found, Labels, judge_events
from tamis.training.mainstream.runner.noticing import Gap, Noticed, Noticing
from tamis.training.mainstream.runner.pictures import Frame
from tamis.training.mainstream.runner.queue import FrameQueue
from tamis.training.mainstream.runner.rates import Rates
from tamis.training.mainstream.runner.reading import Reading, Wanted
from tamis.training.mainstream.runner.reloading import Reloader
from tamis.training.mainstream.runner.results import Lines, Recorder
from tamis.training.mainstream.runner.sources import Source
from tamis.training.mainstream.runner.stopping import Control

_SHOWN = 20  # damages in a summary
_NAP = 0.1  # s for which a frame is waited for before signals and plans are looked at


@dataclass(frozen=True)
class Options:
    """How a schedule is run.

    Attributes:
        real: whether a file is played at its own pace, frames being dropped where that is too fast.
        queue: frames that may wait.
        stall: seconds that a source may be silent.
        close_after: what closes an event; see `tamis.training.mainstream.runner.noticing.Gap`.
        failures: in a row, after which an application is switched off.

    Raises:
        RunnerError: nothing closes an event like that.
    """

    real: bool = False
    queue: int = 8
    stall: float = 10.0
    close_after: str = "3"
    failures: int = 3

    def __post_init__(self) -> None:
        Gap.of(self.close_after)


class Runner:
    """Runs one schedule, and those that take its place, on one source.

    Args:
        schedule: to begin with.
        source: of frames.
        options: how.
        lines: of results; None for none.
        recorder: into the store; None for none.
        reloader: of plans; None where the schedule stays.
        labels: that the run is judged by; None for none.
        checking: of candidates against each other; None for none.
        say: is told what happens beside the results.
        progress: called with seconds of the source that were done since.

    Attributes:
        figures: by application.
        executor: of the schedule that runs.
    """

    def __init__(
        self,
        schedule: Schedule,
        source: Source,
        options: Options,
        *,
        lines: Lines | None = None,
        recorder: Recorder | None = None,
        reloader: Reloader | None = None,
        labels: Labels | None = None,
        checking: Checking | None = None,
        say: Callable[[str], None] = lambda _: None,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._source, self._options, self._gap = source, options, Gap.of(options.close_after)
        self._lines, self._recorder, self._reloader, self._labels = lines, recorder, reloader, labels
        self._say, self._progress, self._checking = say, progress, checking
        self.executor = Executor(schedule, patience=options.failures)
        self.figures, self._known = dict[str, Figures](), dict[str, Deployed]()
        self._noticing = dict[str, Noticing]()
        self._found = dict[str, list[Found]]()
        self._queue = FrameQueue[Frame](options.queue, drops=options.real or source.live)
        self._reading = Reading(source, self._queue, _wanted(schedule), real=options.real)
        self._processed, self._reloads, self._reached, self._working = 0, 0, 0.0, 0.0
        self._enter(schedule)

    def run(self, control: Control | None = None) -> dict[str, Any]:
        """Go on until the end; the summary.

        Args:
            control: stops it.

        Raises:
            SourceStalled: the source was silent.
            RunnerError: every application was switched off.
            ShardError: the source cannot be read.
        """
        told, began = control or Control(), perf_counter()
        try:
            self._reading.start()
            while not told.stop and not self._queue.over:
                self._exchange(told)
                frame = self._queue.get(_NAP, self._options.stall)
                if frame is not None:
                    self._frame(frame)
                if self._recorder is not None:
                    self._recorder.write()
            self._close(self._noticing)
            summary = self._summary(told.stop, perf_counter() - began)
        except BaseException as error:
            if self._recorder is not None:
                self._recorder.fail(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._reading.stop(1.0)
        if self._recorder is not None:
            self._recorder.finish(summary, {"total": summary["wall"], "computing": self._working})
        return summary

    def _frame(self, frame: Frame) -> None:
        began = perf_counter()
        answers = self.executor.step(frame)
        for said in answers:
            if isinstance(said, Look):
                self._look(said)
            else:
                self._failure(said)
        self._check(frame, [said.application for said in answers])
        if self._lines is not None:
            self._lines.flush()
        seconds = float(frame.seconds)
        self._processed += 1
        self._progress(seconds - self._reached)
        self._reached = seconds
        self._working += perf_counter() - began
        if self.executor.off and len(self.executor.off) == len(self.executor.schedule.applications):
            errors = "; ".join(f"{name}: {self.figures[name].error}" for name in sorted(self.executor.off))
            raise RunnerError(f"Every application failed and was switched off: {errors}.")

    def _look(self, look: Look) -> None:
        name, package = look.application, self._package(look.application)
        self.figures[name].look(look)
        if self._lines is not None:
            self._lines.look(package, look)
        if self._recorder is not None:
            self._recorder.look(package, look)
        noticing = self._noticing[name]
        ended, opened = noticing.look(look.seconds, look.hit, look.score)
        if ended is not None:
            self._event(name, noticing.votes, ended)
        if opened is not None and self._lines is not None:
            self._lines.event("opened", name, package, noticing.votes, opened)

    def _check(self, frame: Frame, names: list[str]) -> None:
        if self._checking is None:
            return
        for check in self._checking.step(self.executor.schedule, frame, names):
            if self._lines is not None:
                self._lines.check(self._package(check.application), check)

    def _failure(self, failure: Failure) -> None:
        name = failure.application
        self.figures[name].failure(failure)
        if self._lines is not None:
            self._lines.failure(self._package(name), failure)
        if failure.off:
            self._say(f"Application {name} is switched off after {self._options.failures} failures: {failure.error}")

    def _event(self, name: str, votes: int, event: Noticed) -> None:
        package = self._package(name)
        self.figures[name].events += 1
        if self._labels is not None:
            self._found.setdefault(name, []).append(Found(event.begins, event.ends))
        if self._lines is not None:
            self._lines.event("event", name, package, votes, event)
        if self._recorder is not None:
            self._recorder.event(name, package, votes, event)

    def _exchange(self, control: Control) -> None:
        """Let a new schedule take over, where there is one."""
        if self._reloader is None:
            return
        if control.reload:
            control.reload = False
            self._reloader.ask()
        made = self._reloader.poll()
        if isinstance(made, str):
            self._say(f"The new plan is refused, the old one goes on: {made}")
        elif made is not None:
            self._take_over(made)

    def _take_over(self, made: Schedule) -> None:
        new, old = made.applications, self.executor.schedule.applications
        kept = {name for name in new if name in old and old[name].package.ref == new[name].package.ref}
        self._close({name: one for name, one in self._noticing.items() if name not in kept})
        self.executor = Executor(made, patience=self._options.failures, last=self.executor.last)
        self._reading.wanted = _wanted(made, self._reading.wanted.rates)
        self._enter(made)
        self._reloads += 1
        self._say(f"A new plan has taken over at {self._reached:.1f} s: {len(new)} applications.")

    def _enter(self, schedule: Schedule) -> None:
        before, self._noticing = self._noticing, {}
        for name, one in schedule.applications.items():
            self.figures.setdefault(name, Figures())
            self._known[name] = one
            there = before.get(name) or Noticing(one.planned.votes, self._gap)
            there.votes = one.planned.votes
            self._noticing[name] = there

    def _close(self, some: dict[str, Noticing]) -> None:
        for name, noticing in some.items():
            ended = noticing.close()
            if ended is not None:
                self._event(name, noticing.votes, ended)
        if self._lines is not None:
            self._lines.flush()

    def _package(self, name: str) -> str:
        return self._known[name].package.ref

    def _summary(self, stop: int, wall: float) -> dict[str, Any]:
        rows = application_rows(self._known.values(), self.figures, self.executor.off)
        damage = self._source.told.damage
        if self._labels is not None:
            rows = [row | self._verdict(row["application"], self._labels) for row in rows]
        if self._checking is not None:
            rows = [row | self._checking.told(row["application"]) for row in rows]
        return {
            "source": self._source.name, "ended": "stopped" if stop else "source ended", "seconds": self._reached,
            "wall": wall, "frames": self._reading.read, "processed": self._processed, "dropped": self._queue.dropped,
            "speed": self._reading.read / wall, "reloads": self._reloads,
            "refused": 0 if self._reloader is None else self._reloader.refused, "damaged": len(damage),
            "damage": damage[:_SHOWN], "applications": rows,
        }  # fmt: skip

    def _verdict(self, name: str, labels: Labels) -> dict[str, Any]:
        """Against the labels, beside what was planned; nothing for an application that came later."""
        planned = self._known[name].planned
        stretches = labels.stretches.get(name)
        if stretches is None:
            return {}
        found = judge_events(stretches, self._found.get(name, []), self._reached)
        return {
            "recall": found.recall, "precision": found.precision, "f1": found.f1, "labelled": found.events,
            "found": found.found, "false": found.false, "planned_recall": planned.recall,
            "planned_precision": planned.precision, "planned_f1": planned.f1,
        }  # fmt: skip


def _wanted(schedule: Schedule, before: Rates | None = None) -> Wanted:
    return Wanted(Rates(schedule.members(), None if before is None else before.last), schedule.fits())
