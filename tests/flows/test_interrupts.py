"""Ctrl-C ends what does not come back by itself, with all that it has started, and nothing half-done is visible."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import HEARING

from tamis.store import Store
from tests.flows.test_temporary_server import lives, until

# Each is deaf to a KeyboardInterrupt: a library's code that does not come back, threads that are waited for.
DEAF = {
    "library": 'hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)',
    "threads": 'ThreadPoolExecutor().submit(hashlib.pbkdf2_hmac, "sha256", b"x", b"y", 10**9).result()',
    "cleaning": "clean()",
}
CODE = """
import hashlib, multiprocessing, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from tamis.flows.interrupts import ending_in_time

def clean():
    try:
        time.sleep(600)
    finally:
        time.sleep(600)

if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    worker.start()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with ending_in_time(lambda: print("said", flush=True)):
        threading.Timer(0.5, print, (worker.pid, child.pid), {"flush": True}).start()  # it is deaf by then
        DEAF
"""


@pytest.mark.parametrize("deaf", DEAF)
def test_what_is_deaf_ends_too_with_its_children(deaf: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CODE.replace("DEAF", DEAF[deaf]))
    with subprocess.Popen([*HEARING, sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        children = [int(word) for word in running.stdout.readline().split()]
        running.send_signal(signal.SIGINT)
        try:
            assert running.wait(30) == 130
            assert running.stdout.read() == "said\n"
            until(lambda: not any(map(lives, children)))
        finally:
            running.kill()


def big_shard(path: Path) -> Path:
    """A shard of two samples, one of them of 6 GB of nothing, which take no room on the medium."""
    with path.open("wb") as file:
        for key, size in (("a", 7 << 10), ("b", 6 << 30)):
            for name, length in ((f"{key}.png", size), (f"{key}.cls", 1)):
                info = tarfile.TarInfo(name)
                info.size = length
                file.write(info.tobuf(tarfile.USTAR_FORMAT))
                begins = file.tell()
                file.write(b"1")
                file.seek(begins + -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        file.truncate(file.tell() + 1024)
    return path


def test_hashing_a_large_shard_is_interrupted_and_nothing_shows(tmp_path: Path) -> None:
    store, shard = Store.create(tmp_path / "store"), big_shard(tmp_path / "big.tar")
    add = ["-m", "tamis.flows.start", "--store", store.root.url, "dataset", "add", "big", str(shard), "--json"]
    running = subprocess.Popen(
        [*HEARING, sys.executable, *add], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(opened(running, shard), 60)
    running.send_signal(signal.SIGINT)
    out, said = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, ""), said
    words = "Interrupted. Finished work is saved; run the command again to resume."
    assert json.loads(said) == {"error": "Interrupted", "message": words}
    assert Store.open(store.root.url).datasets.all() == []


def opened(running: subprocess.Popen[str], file: Path) -> Callable[[], bool]:
    def look() -> bool:
        assert running.poll() is None, running.communicate()
        return str(file) in [target(link) for link in Path(f"/proc/{running.pid}/fd").iterdir()]

    def target(link: Path) -> str:
        try:
            return os.readlink(link)
        except FileNotFoundError:  # closed by now
            return ""

    return look
