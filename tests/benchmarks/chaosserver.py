"""A process that has everything imported and forks a process for each piece of work: python chaosserver.py

It reads lines of JSON, [work, store, variant, file for what it says], and answers each with two lines: the number of
the process, and, when that is over, its exit code. The process has a session of its own. What one had to import, those
after it find imported: it is in the file beside the one for what it says.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import chaosworks

PREPARE = "prepare"  # as a piece of work: make the store that all begin with, for so many variants


def main() -> None:
    print(0, flush=True)  # ready
    for line in sys.stdin:
        work, store, variant, said = json.loads(line)
        child = os.fork()  # this process has only imported
        if child == 0:
            _work(work, Path(store), variant, Path(said))
        print(child, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            _import(json.loads(_imported(Path(said)).read_text()))
        print(code, flush=True)


def _imported(said: Path) -> Path:
    return said.with_name("imported.json")


def _import(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):  # made by a module as it ran, and in no file
            importlib.import_module(name)


def _work(work: str, store: Path, variant: int, said: Path) -> None:
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    code, there = 1, set(sys.modules)
    try:
        do = chaosworks.prepare if work == PREPARE else chaosworks.WORKS[work].do
        assert do is not None, f"{work} is a whole command"
        do(store, variant)
        _imported(said).write_text(json.dumps([name for name in sys.modules if name not in there]))
        code = 0
    except BaseException:  # noqa: BLE001 - told, whatever it is
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
