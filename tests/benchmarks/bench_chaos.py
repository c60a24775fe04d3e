"""kill -9 at random moments over every flow and the upkeep of a store, on the direct runner. Is anything ever wrong?

In a round a piece of work runs in a process that has everything imported (`chaosserver`), or as a whole command, and is
killed at a random moment of its usual duration; a third of the time what goes on from there is killed again. Then it
runs to its end, and what readers see of it must be what an undisturbed run gives. Rounds share a store until each work
was done once for each dataset, in random order, gc last: so each begins with what killed ones left. `tamis verify`
looks at the store after every tenth kill, before anything mends it, and at the end, when all answers are compared
again. The ledger is kept in the cache: another call with more kills goes on.

    python tests/benchmarks/run.py chaos --kills 1000 --cache DIR
"""

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchlib import Result, folder
from chaosworks import VARIANTS, WORKS

from tamis.store import Store
from tamis.store.upkeep.verify import verify

HERE = Path(__file__).parent
_AGAIN = 1 / 3  # so often what goes on after a kill is killed too
_VERIFIED = 10  # kills between two looks of verify
_LONGEST = 240.0  # s that anything may take
_MARK = "TAMIS_CHAOS"  # in the environment of a whole command, and of what it starts
WHEN = ("before its first write", "between writes", "after publication")
Question = tuple[str, int]  # work, variant


@dataclass
class Ledger:
    """What came of all rounds so far."""

    kills: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])  # work: when: how many
    completed: dict[str, int] = field(default_factory=dict[str, int])
    missed: int = 0  # rounds whose work was over before its moment
    checks: int = 0
    wrong: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])  # processes
    failed: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    @property
    def all(self) -> int:
        return sum(sum(each.values()) for each in self.kills.values())


class Server:
    """Starts work in processes that can be killed."""

    def __init__(self) -> None:
        paths = (HERE, HERE.parent, os.environ.get("PYTHONPATH", ""))
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
        self.environment.pop("PREFECT_API_URL", None)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        command = [sys.executable, HERE / "chaosserver.py"]
        self._process = subprocess.Popen(command, env=self.environment, start_new_session=True, **pipes)
        self._line()

    def close(self) -> None:
        self._process.communicate(timeout=_LONGEST)

    def run(self, asked: Question, store: Path, kill_after: float = _LONGEST) -> tuple[int, float]:
        """Run a piece of work.

        Args:
            asked: which.
            store: on what.
            kill_after: seconds after which it is killed.

        Returns:
            Its exit code, and the seconds that it took.
        """
        said, began = store.parent / "said.txt", time.monotonic()
        said.unlink(missing_ok=True)
        work = WORKS.get(asked[0])  # None: the store is made
        if work is None or work.command is None:
            code = self._forked(asked, store, said, kill_after)
        else:
            code = self._command(work.command(asked[1]), store, said, kill_after)
        return code, time.monotonic() - began

    def _forked(self, asked: Question, store: Path, said: Path, kill_after: float) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([asked[0], str(store), asked[1], str(said)]) + "\n")
        self.session = int(self._line())
        if not self._ready(kill_after):
            os.kill(self.session, signal.SIGKILL)
        return int(self._line())

    def _command(self, words: tuple[str, ...], store: Path, said: Path, kill_after: float) -> int:
        command = [sys.executable, "-m", "tamis.flows.cli", "--store", store, *words]
        mine = self.environment | {_MARK: str(store)}
        with said.open("wb") as file:
            running = subprocess.Popen(command, env=mine, stdout=file, stderr=file, start_new_session=True)
        self.session = running.pid
        try:
            return running.wait(kill_after)
        except subprocess.TimeoutExpired:
            running.kill()
            return running.wait()

    def _ready(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _line(self) -> str:
        if not self._ready(_LONGEST):
            raise TimeoutError("the server of the chaos benchmark does not answer")
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def left(self, store: Path) -> list[str]:
        """What still runs of the work that ended last, five seconds later; it is killed now."""
        until = time.monotonic() + 5
        while (there := list(_left(self.session, f"{_MARK}={store}"))) and time.monotonic() < until:
            time.sleep(0.02)
        for pid, _ in there:
            os.kill(pid, signal.SIGKILL)
        return [words for _, words in there]


def _left(session: int, mark: str) -> Iterator[tuple[int, str]]:
    """Processes of a session, or with a mark in their environment, that run."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            mine = int(fields[3]) == session or mark in (path / "environ").read_text(errors="replace").split("\0")
            if mine and fields[0] not in "ZX":
                yield int(path.name), (path / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # over by now, or another's


class Chaos:
    """A folder with the store that all begin with, the one that is killed at, and the ledger."""

    def __init__(self, path: Path, server: Server, works: tuple[str, ...], variants: int) -> None:
        self.path, self.server, self.variants = path, server, variants
        self.asked = [
            (name, variant) for variant in range(variants) for name in works
            if variant == 0 or WORKS[name].command is None  # which take longest
        ]  # fmt: skip
        self._ledger, self._undisturbed, self._ready = path / "ledger.json", path / "undisturbed.json", path / "ready"
        self.ledger = Ledger(**json.loads(self._ledger.read_text())) if self._ledger.exists() else Ledger()
        self.usual = self._once()

    def _once(self) -> dict[str, list[Any]]:
        """By question what an undisturbed run takes, in seconds, and gives; the store that all begin with is made."""
        if self._undisturbed.exists():
            return json.loads(self._undisturbed.read_text())
        shutil.rmtree(self._ready, ignore_errors=True)
        self._done(("prepare", self.variants), self._ready)
        whole = Path(shutil.copytree(self._ready, self.path / "whole"))
        found: dict[str, list[Any]] = {}
        for asked in _in_order(self.asked):
            seconds = self._done(asked, whole)
            found[str(asked)] = [seconds, _answer(whole, asked)]
        assert not verify(Store.open(whole), shards=False).problems
        shutil.rmtree(whole)
        self._undisturbed.write_text(json.dumps(found))
        return found

    def _done(self, asked: Question, store: Path) -> float:
        """The seconds that something takes, which must succeed."""
        code, seconds = self.server.run(asked, store)
        assert code == 0, (self.path / "said.txt").read_text()
        return seconds

    def until(self, kills: int) -> Ledger:
        """Kill until there were so many."""
        while self.ledger.all < kills:
            self._generation(random.Random(self.ledger.all), kills)
        return self.ledger

    def _generation(self, draw: random.Random, kills: int) -> None:
        """Every piece of work for every dataset once, on one store."""
        store = self.path / "killed"
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self._ready, store)
        done: list[Question] = []
        for asked in _in_order(self.asked, draw):
            if self.ledger.all >= kills:
                break
            self._round(draw, asked, store)
            done.append(asked)
        self._verify(store, "at the end")
        for asked in done:
            self._compare(store, asked, "at the end")
        self._save()

    def _round(self, draw: random.Random, asked: Question, store: Path) -> None:
        ledger, usual = self.ledger, min(self.usual[str(one)][0] for one in self.asked if one[0] == asked[0])
        for turn in range(5):
            there = _files(store)
            code, _ = self.server.run(asked, store, draw.random() * usual)
            ledger.left += [f"{asked}: {words}" for words in self.server.left(store)]
            if code != -signal.SIGKILL:
                ledger.missed += 1
                self._ended(asked, code)
                break
            by = ledger.kills.setdefault(asked[0], dict.fromkeys(WHEN, 0))
            by[WHEN[self._when(store, asked, there)]] += 1
            if ledger.all % _VERIFIED == 0:
                self._verify(store, f"after a kill of {asked}")
            if draw.random() > _AGAIN or turn == 4:
                break
        code, _ = self.server.run(asked, store)
        self._ended(asked, code)
        ledger.completed[asked[0]] = ledger.completed.get(asked[0], 0) + (code == 0)
        ledger.left += [f"{asked}, to its end: {words}" for words in self.server.left(store)]
        self._compare(store, asked, "when it had been killed")
        self._save()

    def _when(self, store: Path, asked: Question, there: set[str]) -> int:
        """Which of WHEN it was."""
        if _files(store) == there:
            return 0
        return 2 if _answer(store, asked) == self.usual[str(asked)][1] else 1

    def _ended(self, asked: Question, code: int) -> None:
        if code != 0:
            self.ledger.failed.append(f"{asked} ended with {code}: {(self.path / 'said.txt').read_text()[-2000:]}")

    def _compare(self, store: Path, asked: Question, when: str) -> None:
        if (found := json.loads(json.dumps(_answer(store, asked)))) != self.usual[str(asked)][1]:
            self.ledger.wrong.append(f"{asked} {when}: {found} for {self.usual[str(asked)][1]}"[:2000])

    def _verify(self, store: Path, when: str) -> None:
        self.ledger.checks += 1
        self.ledger.problems += [f"{when}: {one}" for one in verify(Store.open(store)).problems]

    def _save(self) -> None:
        self._ledger.write_text(json.dumps(vars(self.ledger), indent=1))


def _answer(store: Path, asked: Question) -> Any:
    return WORKS[asked[0]].answer(Store.open(store), asked[1])


def _files(store: Path) -> set[str]:
    return {str(path) for path in store.rglob("*")}


def _in_order(asked: list[Question], draw: random.Random | None = None) -> list[Question]:
    """Shuffled; those that come last at the end."""
    if draw is not None:
        asked = draw.sample(asked, len(asked))
    return sorted(asked, key=lambda one: WORKS[one[0]].last)


@contextmanager
def serving() -> Generator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


def chaos(path: Path, kills: int, works: tuple[str, ...] = tuple(WORKS), variants: int = VARIANTS) -> Ledger:
    """Kill until there were so many kills, those of earlier calls in the same folder included."""
    with serving() as server:
        return Chaos(path, server, works, variants).until(kills)


def run(quick: bool, data: Path | None) -> list[Result]:
    kills = int(os.environ.get("TAMIS_BENCH_KILLS", 100))
    with folder("chaos") as path:
        ledger = chaos(path, 2, ("index", "select"), 1) if quick else chaos(path, kills)
    return results(ledger)


def results(ledger: Ledger) -> list[Result]:
    """The table: what went wrong, and by work how many kills there were, and when."""
    for one in (*ledger.failed, *ledger.wrong, *ledger.problems, *ledger.left):
        print(f"  {one}")
    total, done = Counter[str](), Counter(ledger.completed)
    for by in ledger.kills.values():
        total.update(by)
    note = f"{ledger.all} kills, {sum(ledger.completed.values())} rounds; {ledger.missed} were over before their moment"
    return [
        Result("reruns that failed", len(ledger.failed), "", target=0, note=note),
        Result("answers unlike those of undisturbed runs", len(ledger.wrong), "", target=0),
        Result("problems found by verify", len(ledger.problems), "", target=0, note=f"{ledger.checks} looks"),
        Result("processes left over", len(ledger.left), "", target=0),
        *(
            Result(f"kills of {work}", sum(by.values()), "", note=f"{_said(by)}; {done[work]} rounds")
            for work, by in ledger.kills.items()
        ),
        Result("kills", ledger.all, "", note=_said(total)),
    ]  # fmt: skip


def _said(by: dict[str, int]) -> str:
    return ", ".join(f"{by[when]} {when}" for when in WHEN)
