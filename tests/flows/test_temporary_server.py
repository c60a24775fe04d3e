"""The temporary Prefect server: it goes with its process, has a home of its own, and knows of no proxy."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from terminal import HEARING

from tamis.flows.server.temporary import _PREFIX, _spare_loopback, temporary_server

# Starts a server, says which process it is, and waits. Nothing that it needs has been imported by the server yet.
STARTING = """
import sys, time
from tamis.flows.server import temporary as temporary_server
print(temporary_server._start().process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "temporary"
    made.mkdir()
    return made


@pytest.fixture
def starting(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has just started a server, and the server's process id."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [*HEARING, sys.executable, "-c", STARTING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as one:
        assert one.stdout is not None
        yield one, int(one.stdout.readline())
        one.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_server_goes_with_its_parent(
    starting: tuple[subprocess.Popen[str], int], folder: Path, how: signal.Signals
) -> None:
    parent, server = starting
    (home,) = folder.glob(f"{_PREFIX}*")
    parent.send_signal(how)
    assert parent.wait(10) == -how
    until(lambda: not lives(server))
    assert not home.exists(), "it takes its folder along"


def test_what_a_killed_server_left_is_removed_by_the_next_and_nothing_else(
    starting: tuple[subprocess.Popen[str], int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamis.flows.server import temporary as temporary_server

    _, server = starting
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(temporary_server, "_FRESH", -1.0)
    (home,) = folder.glob(f"{_PREFIX}*")
    (folder / f"{_PREFIX}link").symlink_to(home)
    (folder / "tamis-other").mkdir()
    temporary_server._sweep()
    assert home.exists(), "a server that runs keeps its folder"
    os.kill(server, signal.SIGKILL)
    until(lambda: not lives(server))
    temporary_server._sweep()
    assert not home.exists()
    assert (folder / "tamis-other").exists()


def test_a_server_that_cannot_start_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own log tells: here a Python without Prefect, as far as it can see."""
    from tamis.flows.errors import ServerFailed
    from tamis.flows.server import temporary as temporary_server

    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))  # for a server that failed, the database that is kept goes
    (folder / "uvicorn.py").write_text("raise RuntimeError('no such luck')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    made = temporary_server._start()
    try:
        with pytest.raises(ServerFailed, match=r"exit code 1 \(RuntimeError: no such luck\)"):
            temporary_server._wait(made, 60)
    finally:
        made.stop()
    assert not list(folder.glob(f"{_PREFIX}*"))


# A flow on the server that runs, whatever proxies the environment names.
FLOW = """
import sys
from tamis.flows.server import temporary as temporary_server
temporary_server.tell_prefect(sys.argv[1])
from prefect import flow
@flow
def one() -> int:
    return 1
print(one())
"""


def test_a_flow_runs_behind_proxies_that_are_dead_or_of_no_kind(tmp_path: Path) -> None:
    dead = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks://127.0.0.1:9", "NO_PROXY": "example.org"}
    clean = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "PREFECT_API_URL"}
    ran = subprocess.run(
        [sys.executable, "-c", FLOW, temporary_server()], capture_output=True, text=True, timeout=120, check=False,
        env=clean | dead | {"PREFECT_LOGGING_LEVEL": "CRITICAL"}, cwd=tmp_path,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr


@pytest.mark.parametrize(
    ("given", "spared", "proxies"),
    [
        ({"HTTP_PROXY": "http://h:9", "NO_PROXY": "a.org"}, "a.org,127.0.0.1", {"HTTP_PROXY": "http://h:9"}),
        ({"ALL_PROXY": "socks://h:9", "https_proxy": "h:9"}, "127.0.0.1", {"https_proxy": "h:9"}),
        ({"all_proxy": "http://h:9", "no_proxy": "*"}, "*", {"all_proxy": "http://h:9"}),
        ({"NO_PROXY": "a.org", "no_proxy": "b.org,127.0.0.1"}, "b.org,127.0.0.1", {}),
        ({"HTTP_PROXY": ""}, "127.0.0.1", {"HTTP_PROXY": ""}),
    ],
)
def test_what_becomes_of_proxies(
    given: dict[str, str], spared: str, proxies: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")  # so that they are as before, afterwards
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    _spare_loopback()
    left = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    assert left == proxies | {"no_proxy": spared, "NO_PROXY": spared}


def lives(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def until(reached: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not in {seconds} s"
        time.sleep(0.02)
