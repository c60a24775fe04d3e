"""What a machine gives to flows: versions, shared memory, open files, room, and whether a store can be written.

Each look adds facts, and problems that say what to do. The store is tried by what tamis does for its clock anyway: a
file of no bytes is written beside the tables and removed at once.
"""

import os
import resource
import shutil
import tempfile
import time
from importlib import metadata
from typing import Any

from tamis.flows.server.persistent import default_home, state
from tamis.store import Store
from tamis.store.errors import TamisError

_SHARED = "/dev/shm"
_SHM, _FILES, _ROOM = 16e6, 1024, 1e9  # bytes, files, bytes: below these something is bound to fail
_APART = 5.0  # s between two clocks


def versions(found: dict[str, Any], problems: list[str]) -> None:
    """Whether what is installed is within the bounds that tamis asks for."""
    from packaging.requirements import Requirement  # comes with Prefect

    try:
        asked = [Requirement(one) for one in metadata.requires("tamis") or ()]
    except metadata.PackageNotFoundError:  # it runs from a checkout: nothing states the bounds
        return
    for one in asked:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            there = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            problems.append(f'{one.name} is not installed: pip install "{one.name}{one.specifier}"')
            continue
        if not one.specifier.contains(there, prereleases=True):
            needed = f'pip install "{one.name}{one.specifier}"'
            problems.append(f"{one.name} is {there}, and tamis needs {one.specifier}: {needed}")


def limits(found: dict[str, Any], problems: list[str]) -> None:
    """Shared memory, which code of one's own may need, and how many files may be open."""
    if os.path.isdir(_SHARED):
        shared = shutil.disk_usage(_SHARED)
        found["/dev/shm"] = f"{_size(shared.free)} of {_size(shared.total)} free"
        if shared.free < _SHM:
            problems.append(
                f"/dev/shm has {_size(shared.free)} left. tamis' streams do not use it, but torch's DataLoader "
                "hangs where it is full: start a container with --shm-size=1g"
            )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found["open files"] = "unlimited" if soft == resource.RLIM_INFINITY else soft
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        most = "" if hard == resource.RLIM_INFINITY else f" (at most {hard} here)"
        problems.append(f"only {soft} files may be open at once: `ulimit -n 4096`{most}, or LimitNOFILE= in a unit")
    room(found, problems, "temporary files", tempfile.gettempdir())


def room(found: dict[str, Any], problems: list[str], what: str, folder: str) -> None:
    """Free space of a folder's disk."""
    usage = shutil.disk_usage(folder)
    found[f"free space, {what}"] = f"{_size(usage.free)} of {_size(usage.total)}"
    if usage.free < _ROOM:
        problems.append(f"{folder} has {_size(usage.free)} left: make room, such as by `tamis gc`, before flows run")


def service(found: dict[str, Any], _: list[str]) -> None:
    """The service that runs on this machine with a server of its own in the usual place."""
    running = state(default_home())
    found["service"] = "none" if running is None else f"process {running['process']}, {running.get('file')}"
    if running is not None:
        found["service's server"] = running["url"]


def writable(store: Store, found: dict[str, Any], problems: list[str]) -> None:
    """Whether the store takes a file, and what time its medium has."""
    path = store.root.path
    try:
        began = time.time()
        apart = store.root.clock() - (began + time.time()) / 2
    except (TamisError, OSError) as error:
        found["access"] = "read only"
        who = (
            "" if path is None else f" This process is user {os.geteuid()}; the folder belongs to {path.stat().st_uid}."
        )
        problems.append(f"the store cannot be written: {error}{who}")
        return
    found["access"] = "read and write"
    found["clock"] = f"{abs(apart):.1f} s {'ahead of' if apart < 0 else 'behind'} the store's medium"
    if abs(apart) > _APART:
        problems.append(
            f"this machine's clock is {abs(apart):.0f} s {'ahead of' if apart < 0 else 'behind'} the store's: what is "
            "stale or unfinished is told by time. Synchronise both (NTP)"
        )


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
