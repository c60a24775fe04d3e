"""Opening what should be an ordinary file: a named pipe or a device in its place is refused and never waited for."""

import io
import os
import stat

_KINDS = {
    stat.S_IFDIR: "Is a directory",
    stat.S_IFIFO: "Is a named pipe",
    stat.S_IFCHR: "Is a device",
    stat.S_IFBLK: "Is a device",
    stat.S_IFSOCK: "Is a socket",
}


def not_regular(mode: int) -> str | None:
    """What a file is, where it is no regular one."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "Is no regular file")


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: as `open`; also where it is no regular file, with `strerror` saying what it is.
    """
    _refuse(path, os.stat(path).st_mode)  # opening alone does things to some devices
    # Without O_NONBLOCK, opening a named pipe, which may have come in between, waits until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _refuse(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _refuse(path: str | os.PathLike[str], mode: int) -> None:
    kind = not_regular(mode)
    if kind is not None:
        raise OSError(None, kind, os.fspath(path))
