"""Which videos are meant, of which cameras, and when each begins on its camera's time line."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tamis.store.errors import ShardError
from tamis.store.roots.regular import open_regular
from tamis.store.roots.urls import is_remote
from tamis.store.video.opening import length

SUFFIXES = ("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mpg", "mpeg", "h264")
AFTER = "after"  # each video begins where the one before it of its camera ends
_CAMERA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


@dataclass(frozen=True)
class Source:
    """A video of a camera."""

    path: str
    camera: str

    @property
    def video(self) -> str:
        """The file's name, as text."""
        return Path(self.path).name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Placed:
    """A video on its camera's time line.

    Attributes:
        source: the video.
        digest: sha256 of the file.
        start, end: seconds on the time line.
    """

    source: Source
    digest: str
    start: Fraction
    end: Fraction

    def as_json(self) -> dict[str, str]:
        """What is kept of it."""
        shown = {"camera": self.source.camera, "video": self.source.video, "digest": self.digest}
        return shown | {"start": str(self.start), "end": str(self.end)}


def is_video(name: str) -> bool:
    """Whether a file's name is that of a video."""
    return name.lower().rpartition(".")[2] in SUFFIXES and "." in name


def sources_of(given: Sequence[str], camera: str | None = None) -> list[Source]:
    """Videos as they are given on a command line: PATH or CAMERA=PATH.

    Args:
        given: paths. A camera is called as its file is, without the suffix, where it is not named.
        camera: of all of them.

    Raises:
        ShardError: a URL, a camera's name that is none, or one file twice.
    """
    sources = [_source(text, camera) for text in given]
    paths = [str(Path(s.path).resolve()) for s in sources]
    if len(set(paths)) < len(paths):
        raise ShardError(f"{next(p for p in paths if paths.count(p) > 1)} is listed twice: give each video once.")
    return sources


def place(
    sources: Sequence[Source], digests: Sequence[str], start: str, there: Sequence[Mapping[str, str]]
) -> list[Placed]:
    """Videos on the time lines of their cameras.

    Args:
        sources: the videos.
        digests: of each.
        start: seconds, or "after".
        there: what is kept of the dataset's videos (`Placed.as_json`).

    Raises:
        ShardError: two videos of one camera overlap, or a start is none.
    """
    given = start_of(start)
    lines: dict[str, list[tuple[Fraction, Fraction, str]]] = {}
    for one in there:
        lines.setdefault(one["camera"], []).append((Fraction(one["start"]), Fraction(one["end"]), one["video"]))
    placed = list[Placed]()
    for source, digest in zip(sources, digests, strict=True):
        line = lines.setdefault(source.camera, [])
        begin = max((end for _, end, _ in line), default=Fraction(0)) if given is None else given
        end = begin + length(source.path)
        for other_start, other_end, other in line:
            if begin < other_end and other_start < end:
                raise ShardError(
                    f"{other} and {source.video} are both of camera {source.camera} and overlap "
                    f"({float(other_start):g} to {float(other_end):g} s, {float(begin):g} to {float(end):g} s). Name "
                    "their cameras (CAMERA=PATH), or say when they begin (--start after, or --start SECONDS)."
                )
        line.append((begin, end, source.video))
        placed.append(Placed(source, digest, begin, end))
    return placed


def start_of(text: str) -> Fraction | None:
    """When videos begin: seconds, or None for "after"."""
    if text == AFTER:
        return None
    try:
        seconds = Fraction(text)
    except (ValueError, ZeroDivisionError):
        seconds = Fraction(-1)
    if not 0 <= seconds < 10**9:
        raise ShardError(f"{text!r} is no start: expected seconds, 0 or more, or 'after'.")
    return seconds


def rate_of(text: str) -> Fraction | None:
    """Frames a second: a number or a fraction such as 30000/1001; None for "all"."""
    if text == "all":
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1, 10**6) <= rate <= 1000:
        raise ShardError(f"{text!r} is no rate: expected frames per second, such as 1, 0.5 or 30000/1001, or 'all'.")
    return rate


def digest_of(path: str) -> str:
    """sha256 of a file.

    Raises:
        ShardError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ShardError(f"Video {path} cannot be read: {error.strerror or error}. Give existing files.") from error


def _source(text: str, camera: str | None) -> Source:
    name, given, path = text.partition("=")
    if not given or Path(text).exists() or not _CAMERA.match(name):
        name, path = "", text
    if is_remote(path) or "://" in path:
        raise ShardError(f"{path[:200]} is a URL: only local videos are read. Download it first.")
    if name and camera:
        raise ShardError(f"{text!r} names a camera, and so does --camera: give one of them.")
    found = name or camera or re.sub(r"[^A-Za-z0-9_-]", "_", Path(path).stem)[:64].lstrip("_-")
    if not _CAMERA.match(found):
        raise ShardError(
            f"{found!r} is an invalid name for a camera (of {Path(path).name!r}): use 1 to 64 letters, digits, '_' and "
            "'-', beginning with a letter or a digit (CAMERA=PATH)."
        )
    return Source(path, found)
