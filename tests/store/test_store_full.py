"""A full medium: StoreFull says so, what was there is whole, and the same call goes through once there is room."""

import errno
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from strict import STRICT

from tamis.store.errors import is_full

CHILD = Path(__file__).with_name("store_full_child.py")


def may_mount() -> bool:
    """Whether this process may mount in a name space of its own, as root or as a user."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs `unshare -rm`; the next test covers what a limit can")
def test_small_file_system_filled_to_the_last_byte(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=12m none "{tmp_path}" && exec {shlex.join(STRICT)} "{CHILD}" "{tmp_path}" tmpfs'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    command = [*STRICT, str(CHILD), str(tmp_path), "rlimit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EFBIG, "x"), True),
        (OSError(errno.EACCES, "x"), False),
        (RuntimeError("Generic LocalFileSystem error: No space left on device (os error 28)"), True),
        (RuntimeError("Disk quota exceeded (os error 122)"), True),
        (RuntimeError("Unable to open /data/quota/x: Permission denied (os error 13)"), False),
        (ValueError("anything else"), False),
    ],
)
def test_telling_a_full_medium_from_other_trouble(error: Exception, full: bool) -> None:
    assert is_full(error) is full
