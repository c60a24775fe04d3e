"""Which process is at work on a run, and whether it is gone.

A process is named by machine, boot, number and start, so that another one that got the same number is not taken for it.
Of other machines nothing can be told: what runs there is taken to run.
"""

import functools
import json
import os
import socket
from pathlib import Path


def this_process() -> str:
    """What names the process that calls: a text to keep."""
    pid = os.getpid()
    return json.dumps({"host": socket.gethostname(), "boot": _boot(), "pid": pid, "start": _start(pid)})


def is_gone(process: str | None) -> bool:
    """Whether a process that is known by what `this_process` said is on this machine and is over."""
    try:
        said = json.loads(process) if process else {}
        if said.get("host") != socket.gethostname() or not isinstance(said.get("pid"), int):
            return False
        return said.get("boot") != _boot() or _start(said["pid"]) != said.get("start") or not _lives(said["pid"])
    except (ValueError, AttributeError):
        return False


def who(process: str | None) -> str:
    """A process that is known by what `this_process` said, for people."""
    try:
        said = json.loads(process) if process else {}
        return f"process {said['pid']} on {said['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""  # no such thing on this system: its number must do


def _start(pid: int) -> str:
    """When a process began, in the system's own count; "" where it is over or nobody can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
