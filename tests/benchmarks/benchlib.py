"""What every benchmark shares: a result, medians of interleaved runs, CPU time with workers, and a table.

A benchmark is a module `bench_NAME.py` with `run(quick, data) -> list[Result]`. Ours and the peer (or the limit of the
machine) are measured in turn in one process, so that whatever else the machine does hits both alike.
"""

import contextlib
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        name: what was done.
        ours: its figure; lower is better.
        unit: of the figure.
        against: what it is compared with; empty where the target is a figure of its own.
        other: the figure of that.
        target: what the ratio, or without `other` the figure itself, must not exceed; None where it is for information.
        note: sizes, conditions.
    """

    name: str
    ours: float
    unit: str
    against: str = ""
    other: float | None = None
    target: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.other if self.other else None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) <= self.target


def medians(repeats: int, *work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Median seconds of each piece of work. One unmeasured turn warms caches; then they take turns."""
    seconds: list[list[float]] = [[] for _ in work]
    for turn in range(repeats + 1):
        for piece, taken in zip(work, seconds, strict=True):
            started = clock()
            piece()
            if turn:
                taken.append(clock() - started)
    return [statistics.median(taken) for taken in seconds]


def cpu_seconds() -> float:
    """CPU time of this process, of the processes below it that run, and of all that ended: a `clock`.

    Processes that a fork server started are below it. What those that run have used is told in steps of 10 ms.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_used, below(os.getpid())))


def below(pid: int) -> list[int]:
    """The processes that a process started, and those that they started, that still run; none without /proc."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            found += map(int, task.read_text().split())
    return [*found, *(each for child in found for each in below(child))]


def _used(pid: int) -> float:
    """CPU time of a process and of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def peak() -> float:
    """Megabytes that this process held at most. `ru_maxrss` of a process that was started begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@contextlib.contextmanager
def folder(kept: str | None = None) -> Iterator[Path]:
    """A folder that goes away afterwards, or one under TAMIS_BENCH_CACHE that stays for the next time."""
    cache = os.environ.get("TAMIS_BENCH_CACHE")
    if cache and kept:
        path = Path(cache) / kept
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tamis-bench-") as name:
        yield Path(name)


def table(results: list[Result]) -> str:
    """The results as text, one line each."""
    head = ("what", "ours", "against", "other", "ratio", "target", "", "note")
    rows = [head, *(_row(r) for r in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(r: Result) -> tuple[str, ...]:
    return (
        r.name, _figure(r.ours, r.unit), r.against, "" if r.other is None else _figure(r.other, r.unit),
        "" if r.ratio is None else f"{r.ratio:.2f}", "" if r.target is None else f"<= {r.target:g}",
        {True: "ok", False: "MISSED", None: ""}[r.met], r.note,
    )  # fmt: skip


def _figure(value: float, unit: str) -> str:
    return f"{value:.3f} {unit}" if unit == "s" else f"{value:.4g} {unit}" if value < 1e4 else f"{value:g} {unit}"
