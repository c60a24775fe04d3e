"""Candidates against each other: what they disagree on while they run tells claims that cannot be true.

What: `Checking.step` lets, every so many seconds, all candidates of the packages that look at a frame answer it, not
only those that are planned. `monitored` reads what was counted, from a run in the store or from its JSON lines, by
package; `tamis.training.mainstream.scheduling.replanning` holds claims against it.
How: the base runs up to the last branchpoint, and each candidate behind its own. A frame that a candidate fails on is
not counted for its application.
Cost: of each check the whole base and all candidates once; with one a minute, nothing to speak of.
Source: Jiang, thesis, section 5.3.3, "Potential Threat Model".
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tamis.store import Store
from tamis.training.errors import RunnerError
from tamis.training.mainstream.runner.deploying import Schedule
from tamis.training.mainstream.runner.executing import answered
from tamis.training.mainstream.runner.pictures import Frame
from tamis.training.mainstream.scheduling.monitoring import Agreement


class Check(NamedTuple):
    """What all candidates of an application say of one frame.

    Attributes:
        application: its name.
        frame: number in the source.
        seconds: on the source's clock.
        hits: whether each saw the event, by branch.
    """

    application: str
    frame: int
    seconds: float
    hits: dict[int, bool]


class Checking:
    """Checks candidates now and then.

    Args:
        every: seconds of the source from one check to the next.
    """

    def __init__(self, every: float) -> None:
        self._every = Fraction(every)
        self._last = dict[str, Fraction]()
        self._counted = dict[str, Agreement]()

    def step(self, schedule: Schedule, frame: Frame, names: Iterable[str]) -> list[Check]:
        """The checks of one frame.

        Args:
            schedule: that runs, with its candidates.
            frame: that was looked at.
            names: the applications that looked.
        """
        found = list[Check]()
        for name in names:
            last = self._last.get(name)
            if last is not None and frame.seconds < last + self._every:
                continue
            self._last[name] = frame.seconds
            hits = _hits(schedule, frame, name)
            if hits is not None:
                found.append(Check(name, frame.number, float(frame.seconds), hits))
                self._count(name, hits)
        return found

    def told(self, application: str) -> dict[str, Any]:
        """For the summary of an application: frames, branches, and on how many frames two of them differed."""
        counted = self._counted.get(application)
        if counted is None:
            return {}
        return {
            "checks": {
                "frames": counted.frames, "branches": [*counted.branches], "differ": counted.differ_OO.tolist(),
            }
        }  # fmt: skip

    def _count(self, name: str, hits: Mapping[int, bool]) -> None:
        branches, counted = tuple(sorted(hits)), self._counted.get(name)
        if counted is None or counted.branches != branches:  # a plan has brought other candidates
            counted = self._counted[name] = Agreement(branches)
        counted.add(hits)


@torch.inference_mode()
def _hits(schedule: Schedule, frame: Frame, name: str) -> dict[int, bool] | None:
    """Hit or miss of each candidate by branch; None where one fails."""
    one, candidates = schedule.applications[name], schedule.candidates[name]
    base, found, at = schedule.bases[one.package.base], dict[int, bool](), 0
    values = frame.fitted(schedule.trees[one.tree].fit).to(schedule.device)
    for branch in sorted(candidates):
        for here in range(at, branch):
            values = base.segment(here, here + 1).eval()(values)
        at, rest, crossing = branch, candidates[branch], values
        said = answered(lambda rest=rest, crossing=crossing: rest(crossing), one.event)
        if isinstance(said, Exception):
            return None
        found[branch] = said[0]
    return found


def monitored(store: Store, sources: Sequence[str]) -> dict[str, Agreement]:
    """What was counted, by package (name@version).

    Args:
        store: with the runs.
        sources: keys of runs, or files of JSON lines.

    Raises:
        RunNotFound: no such run.
        RunnerError: nothing was checked there, or a file does not hold JSON lines.
    """
    found = dict[str, Agreement]()
    for source in sources:
        some = _of_lines(Path(source)) if Path(source).is_file() else _of_run(store, source)
        if not some:
            raise RunnerError(
                f"{source} has no checks of candidates: run the plan with --check-every SECONDS, and give that run or "
                "its JSON lines."
            )
        for package, counted in some:
            found[package] = found[package].plus(counted) if package in found else counted
    return found


def _of_run(store: Store, key: str) -> list[tuple[str, Agreement]]:
    rows: list[dict[str, Any]] = store.runs.get(key).metrics.get("applications", [])
    return [
        (row["package"], Agreement(tuple(told["branches"]), told["frames"], np.asarray(told["differ"], np.int64)))
        for row in rows
        if (told := row.get("checks"))
    ]


def _of_lines(path: Path) -> list[tuple[str, Agreement]]:
    found = dict[tuple[str, tuple[int, ...]], Agreement]()
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], 1):  # behind the last newline is what is being written
        try:
            told = json.loads(line)
            if told["kind"] != "check":
                continue
            package, hits = str(told["package"]), {int(branch): bool(hit) for branch, hit in told["hits"].items()}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunnerError(f"{path}, line {number}, is none of `tamis package run`: {line[:80]!r}.") from error
        branches = tuple(sorted(hits))
        found.setdefault((package, branches), Agreement(branches)).add(hits)
    return [(package, counted) for (package, _), counted in found.items()]
