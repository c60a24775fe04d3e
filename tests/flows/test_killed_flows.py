"""Flows that are killed, again and again, finish what is left; nothing half-done is ever visible."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from terminal import HEARING

from tamis.flows.server.temporary import _PREFIX
from tamis.store import Store
from tests.flows.test_temporary_server import lives, until

# Runs `tamis` and kills itself (SIGKILL) right after its n-th write to the store.
DYING = """
import os, signal, sys
from tamis.store.roots.roots import Root
from tamis.store.tables.tables import Tables

left, within = int(sys.argv[1]), 0

def dying(write):
    def wrapped(*args, **kwargs):  # a publication counts once, whatever files it is made of
        global left, within
        within += 1
        answer = write(*args, **kwargs)
        within -= 1
        left -= within == 0
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return wrapped

for owner, names in ((Root, ("put", "put_new")), (Tables, ("append", "publish", "replace"))):
    for name in names:
        setattr(owner, name, dying(getattr(owner, name)))

from tamis.flows.cli.app import main
main(sys.argv[2:])
"""


def command(*arguments: object, server: str | None = None) -> dict[str, Any]:
    """How to start a process of its own, on a Prefect server or without one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PREFECT_API_URL", None)
    if server is not None:
        environment["PREFECT_API_URL"] = server
    return {"args": [sys.executable, *map(str, arguments)], "env": environment, "text": True}


def die_after(
    writes: int, store: Path, *arguments: object, server: str | None = None
) -> subprocess.CompletedProcess[str]:
    given = command("-c", DYING, writes, "--store", store, *arguments, server=server)
    return subprocess.run(**given, capture_output=True, timeout=240, check=False)


def everything(store: Store) -> list[dict[str, Any]]:
    return store.query("select metric, sample, value from scores order by metric, sample").to_pylist()


def test_scoring_killed_at_its_writes(digits: dict[str, list[Path]], tmp_path: Path, prefect_server: str) -> None:
    """Each try dies after three or four writes, now on a server, now without; the scores are in the end those of a flow
    that was never killed."""
    score = ("score", "uncertainty", "--dataset", "digits", "--proxy", "preact8", "--epochs", 2, "--batch-size", 64,
             "--augment", "none", "--json")  # fmt: skip
    for name in ("whole", "killed"):
        Store.create(tmp_path / name).datasets.add("digits", digits["train"])
    killed = Store.open(tmp_path / "killed")
    for tried in range(30):
        server = prefect_server if tried == 1 else None
        done = die_after(3 + tried % 2, tmp_path / "killed", *score, server=server)
        assert len(everything(killed)) in (0, 6 * 1498), "scores show whole or not at all"
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    else:
        pytest.fail("30 tries made no end of it")
    assert tried > 2
    assert die_after(10**9, tmp_path / "whole", *score).returncode == 0
    assert everything(killed) == everything(Store.open(tmp_path / "whole"))
    assert [r.status for r in killed.runs.all()] == ["finished", "finished"]


def test_indexing_and_selecting_killed_at_every_write(digits: dict[str, list[Path]], tmp_path: Path) -> None:
    where = tmp_path / "store"
    store = Store.create(where)
    commands = (
        ("dataset", "add", "digits", *digits["train"]),
        ("select", "random", "--dataset", "digits", "--budget", "40%"),
    )
    for arguments, view in zip(commands, ("samples", "selection_samples"), strict=True):
        for writes in range(1, 9):
            done = die_after(writes, where, *arguments)
            visible = store.query(f"select count(*) as n from {view}").to_pylist()[0]["n"]
            if done.returncode == 0:
                break
            assert visible in (0, {"samples": 1498, "selection_samples": 599}[view])
            assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.returncode == 0, done.stderr
        assert writes > 1
    assert store.datasets.get("digits").samples == 1498
    assert len(store.selections.all()) == 1


def test_interrupt_is_clean_and_the_same_command_goes_on(digits: dict[str, list[Path]], tmp_path: Path) -> None:
    where = tmp_path / "store"
    store = Store.create(where)
    store.datasets.add("digits", digits["train"])
    train = ("-m", "tamis.flows.cli", "--store", where, "train", "--dataset", "digits", "--model", "preact8",
             "--epochs", 4, "--batch-size", 16, "--augment", "none")  # fmt: skip
    given = command(*train)
    given["args"] = [*HEARING, *given["args"]]
    running = subprocess.Popen(**given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _until(lambda: bool(store.root.list("checkpoints")), running)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "run the command again to resume" in said
    assert "Traceback" not in said
    assert store.query("select count(*) as n from runs where status = 'finished'").to_pylist() == [{"n": 0}]
    finished = subprocess.run(**command(*train), capture_output=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr
    assert [r.status for r in store.runs.all()] == ["finished"]


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGINT,
        *(pytest.param(s, marks=pytest.mark.nightly) for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_a_command_takes_its_temporary_server_along(
    digits: dict[str, list[Path]], tmp_path: Path, how: signal.Signals
) -> None:
    """However it ends: a terminal sends a Ctrl-C, and word of its own end, to all that it has started."""
    where, temporary = tmp_path / "store", tmp_path / "temporary"
    temporary.mkdir()
    store = Store.create(where)
    store.datasets.add("digits", digits["train"])
    given = command("-m", "tamis.flows.cli", "--store", where, "train", "--dataset", "digits", "--model", "preact8",
                    "--epochs", 1000, "--batch-size", 16, "--augment", "none", "--runner", "prefect")  # fmt: skip
    given["env"] |= {"TMPDIR": str(temporary)}
    given["args"] = [*HEARING, *given["args"]]
    running = subprocess.Popen(**given, stderr=subprocess.PIPE, start_new_session=True)
    _until(lambda: bool(store.root.list("checkpoints")), running)
    (home,) = temporary.glob(f"{_PREFIX}*")
    (server,) = processes(str(home))
    os.killpg(running.pid, how)
    _, said = running.communicate(timeout=30)  # Prefect's own attempts to report would take a minute
    until(lambda: not lives(server))
    assert not home.exists()
    assert running.returncode == (130 if how == signal.SIGINT else -how), said
    assert said.count("run the command again to resume") == (how == signal.SIGINT)
    assert "Traceback" not in said
    assert store.runs.all()[0].status != "finished"


def processes(argument: str) -> list[int]:
    """The processes that were started with an argument."""
    found: list[int] = []
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # gone by now
            if argument in words.read_text().split("\0"):
                found.append(int(words.parent.name))
    return found


def _until(reached: Any, running: subprocess.Popen[str]) -> None:
    """Wait for something that a process does; one that fails at it is not left running."""
    deadline = time.monotonic() + 240
    with contextlib.ExitStack() as giving_up:
        giving_up.callback(running.communicate)
        giving_up.callback(running.kill)
        while not reached():
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline, "not reached in 240 s"
            time.sleep(0.02)
        giving_up.pop_all()
