"""Pursuits in processes: the same answers, errors where they were asked for, and processes that are killed."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from tamis.curation.errors import BudgetError, CurationError, NonFiniteError
from tamis.curation.omp import processes as pursuers_module
from tamis.curation.omp.problem import Problem, Pursued
from tamis.curation.omp.processes import Pursuers
from tamis.curation.omp.solver import pursue_each


def problems(k: int = 20) -> list[Problem]:
    """The digits, a problem a class: pixels that add up to those of all."""
    pixels, labels = load_digits(return_X_y=True)
    rows = [pixels[labels == c].astype(np.float32) for c in range(10)]
    return [Problem(each, each.sum(0, dtype=np.float64), k + c) for c, each in enumerate(rows)]


def large(n: int = 5000, d: int = 500, k: int = 1000) -> Problem:
    """A problem of a few seconds."""
    rows = np.random.default_rng(0).random((n, d)).astype(np.float32)
    return Problem(rows, rows.sum(0, dtype=np.float64), k)


def one_by_one(wanted: list[Problem], **how: float) -> list[Pursued]:
    with threadpool_limits(1, user_api="blas"):
        return list(pursue_each(wanted, **how))


def same(found: list[Pursued], expected: list[Pursued]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.weights.tobytes() == other.weights.tobytes()
        assert one.objectives.tobytes() == other.objectives.tobytes()
        assert (one.objective, one.stopped) == (other.objective, other.stopped)
        assert (one.rows.dtype, one.weights.dtype) == (np.int64, np.float64)


@pytest.fixture(scope="module")
def two() -> Iterator[Pursuers]:
    with Pursuers(2) as pursuers:
        yield pursuers


def workers(pursuers: Pursuers) -> list[int]:
    return [process.pid for process in pursuers._processes if process is not None]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(happened: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not happened():
        time.sleep(0.02)
    return happened()


class TestAnswers:
    @pytest.mark.parametrize("how", [{}, {"lam": 0.01, "spare": 0.2}, {"tolerance": 0.01}])
    def test_same_to_the_bit_as_here(self, two: Pursuers, how: dict[str, float]) -> None:
        same(list(two.pursue(problems(), **how)), one_by_one(problems(), **how))

    def test_numbers_of_numpy(self, two: Pursuers) -> None:
        [first, *_] = problems()
        asked = Problem(first.rows_ND.astype(np.float64)[:, ::1], first.target_D.astype(np.int64), np.int64(20))
        same(list(two.pursue([asked], lam=np.float32(0.5))), one_by_one([first]))

    def test_none_that_helps(self, two: Pursuers) -> None:
        rows = -np.eye(3, dtype=np.float32)
        [found] = two.pursue([Problem(rows, np.ones(3), 2)])
        assert found.stopped == "optimal"
        assert found.rows.tolist() == found.weights.tolist() == []

    def test_no_problems(self, two: Pursuers) -> None:
        assert list(two.pursue([])) == []

    def test_few_problems_are_made_ahead(self, two: Pursuers) -> None:
        made = list[int]()

        def one_at_a_time() -> Iterator[Problem]:
            for number, problem in enumerate(problems()):
                made.append(number)
                yield problem

        answers = two.pursue(one_at_a_time())
        next(answers)
        assert len(made) == 3
        answers.close()
        same(list(two.pursue(problems()[:3])), one_by_one(problems()[:3]))  # what was left of it is in nobody's way

    def test_the_processes_load_no_torch_and_not_the_main_module(self, tmp_path: Path) -> None:
        """A script without `if __name__ == "__main__"` is not run again."""
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent("""
            import sys
            import numpy as np
            from tamis.curation.omp.problem import Problem
            from tamis.curation.omp.processes import Pursuers
            print("run")
            with Pursuers(1) as pursuers:
                [found] = pursuers.pursue([Problem(np.eye(3, dtype=np.float32), np.ones(3), 2)])
                print(found.rows.tolist(), [p.poll() for p in pursuers._processes])
                maps = open(f"/proc/{pursuers._processes[0].pid}/maps").read()
                print("torch" in maps)
            """)
        )
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        assert done.stdout.split("\n") == ["run", "[0, 1] [None]", "False", ""]
        assert done.stderr == ""


class TestErrors:
    def test_are_those_of_a_pursuit(self, two: Pursuers) -> None:
        good = problems()[0]
        bad = Problem(np.where(np.arange(len(good.rows_ND))[:, None] == 4, np.nan, good.rows_ND), good.target_D, 2)
        with pytest.raises(NonFiniteError, match=r"1 of \d+ rows .* \(samples 4\)"):
            list(two.pursue([good, bad, good]))
        with pytest.raises(BudgetError):
            list(two.pursue([Problem(good.rows_ND, good.target_D, 10_000)]))
        with pytest.raises(CurationError, match="lam of 0 or more"):
            list(two.pursue([good], lam=-1))
        with pytest.raises(CurationError, match="100 bytes of memory are too few"):
            list(two.pursue([good], memory=100))
        with pytest.raises(CurationError, match=r"expected floats \[N, D\] and \[D\]"):
            list(two.pursue([Problem(good.rows_ND, np.ones(3), 2)]))
        with pytest.raises(CurationError, match="expected floats"):
            list(two.pursue([Problem(good.rows_ND.astype(np.int64), good.target_D, 2)]))
        with pytest.raises(NonFiniteError):
            list(two.pursue([Problem(good.rows_ND.astype(np.float64) * 1e300, good.target_D, 2)]))
        same(list(two.pursue(problems())), one_by_one(problems()))

    def test_count(self) -> None:
        with pytest.raises(ValueError, match="at least 1 process"):
            Pursuers(0)


class TestKilled:
    def test_a_process_that_is_killed_at_work_costs_no_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = [large(k=300), *problems()]
        asked, ask = threading.Event(), pursuers_module._write

        def written(*args: Any) -> None:
            ask(*args)
            asked.set()

        monkeypatch.setattr(pursuers_module, "_write", written)
        with Pursuers(1) as pursuers, threadpool_limits(1, user_api="blas"):
            answers = pursuers.pursue(wanted)

            def kill() -> None:
                asked.wait()
                os.kill(workers(pursuers)[0], signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            found = list(answers)
            killer.join()
            assert not any(map(alive, workers(pursuers)))
            same(found, one_by_one(wanted))

    def test_all_killed(self) -> None:
        with Pursuers(2) as pursuers:
            for pid in workers(pursuers):
                os.kill(pid, signal.SIGKILL)
            with threadpool_limits(1, user_api="blas"):
                same(list(pursuers.pursue(problems())), one_by_one(problems()))
            assert not any(map(alive, workers(pursuers)))

    def test_none_could_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with Pursuers(2) as pursuers, threadpool_limits(1, user_api="blas"):
            assert workers(pursuers) == []
            same(list(pursuers.pursue(problems())), one_by_one(problems()))

    def test_another_package_of_the_same_name_nearby_is_not_loaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "tamis").mkdir()
        (tmp_path / "tamis" / "__init__.py").write_text("open('witness', 'w')")
        monkeypatch.chdir(tmp_path)
        with Pursuers(1) as pursuers:
            same(list(pursuers.pursue(problems())), one_by_one(problems()))
            assert all(map(alive, workers(pursuers)))
        assert not (tmp_path / "witness").exists()

    def test_closing_ends_processes_at_work(self) -> None:
        with Pursuers(2) as pursuers:
            pids, wanted = workers(pursuers), [large(), large(), large()]
            closing = threading.Timer(0.5, pursuers.close)
            closing.start()
            with pytest.raises(CancelledError):
                list(pursuers.pursue(wanted))
            closing.join()
            assert not any(map(alive, pids))
            with pytest.raises(CancelledError):
                list(pursuers.pursue(problems()))

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_processes_end_with_the_one_that_started_them(self, how: signal.Signals) -> None:
        script = textwrap.dedent("""
            import signal
            import numpy as np
            from tamis.curation.omp.problem import Problem
            from tamis.curation.omp.processes import Pursuers
            signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell ignore it
            rows = np.random.default_rng(0).random((3000, 300)).astype(np.float32)
            with Pursuers(2) as pursuers:
                print(*(p.pid for p in pursuers._processes), flush=True)
                for _ in pursuers.pursue(Problem(rows, rows.sum(0), 200) for _ in range(1000)):
                    print("solved", flush=True)
            """)
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            pids = [int(pid) for pid in process.stdout.readline().split()]
            assert process.stdout.readline() == "solved\n"
            assert all(map(alive, pids))
            process.send_signal(how)
            process.wait(30)
            assert eventually(lambda: not any(map(alive, pids)))
