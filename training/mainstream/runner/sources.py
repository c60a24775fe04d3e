"""Where frames come from: a video, a folder of images, or a live source.

What: `open_source` tells which of them is meant. All give frames in the order of a clock of their own, which begins
with the first frame.
How: videos are read by `tamis.store.video`: local regular files only, damage skipped up to the next key frame and told.
Images of a folder are in the order of their names, numbers by their value; their time is their place at a given rate,
or their name, in seconds. A URL or a capture device is opened only where the user names one.
Memory: that of a frame or two.
"""

import os
import re
import stat
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Protocol

from tamis.store.shards.images import IMAGES
from tamis.store.video.opening import length, opened, opened_live
from tamis.store.video.sampling import Told, pictures, pictures_of
from tamis.training.errors import RunnerError
from tamis.training.mainstream.runner.pictures import Encoded, Frame

NAMES = "names"  # a folder whose names are times
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_MISSING = 1  # s of what its container says that a whole video may lack
_LONGER = 5.0  # s that a read may take beyond the time after which the source has stalled: then its thread ends


class Source(Protocol):
    """Frames on a clock.

    Attributes:
        name: as results have it.
        live: whether frames come by themselves and cannot be waited for.
        told: what is wrong with it, filled as it is read.
    """

    name: str
    live: bool
    told: Told

    def total(self) -> float | None:
        """Seconds that it lasts, as far as that is known."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Its frames, in rising order of time."""
        ...


class Video:
    """A video file; see `tamis.store.video.sampling`."""

    live = False

    def __init__(self, path: str) -> None:
        self.name, self.told, self._path = Path(path).name, Told(), path
        with opened(path):
            pass  # refused now, if it must be

    def total(self) -> float | None:
        """What its container says."""
        return float(length(self._path))

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be decoded."""
        for number, (seconds, pixels) in enumerate(pictures(self._path, None, self.told, seeking=False)):
            yield Frame(number, seconds, pixels, perf_counter())
        whole = length(self._path)
        if not self.told.untimed and whole - self.told.end > _MISSING:
            self.told.damage.append(f"ends at {float(self.told.end):.3f} of {float(whole):.3f} s")


class Folder:
    """A folder of images.

    Args:
        path: the folder.
        rate: images a second in the order of their names; None where names are seconds.

    Raises:
        RunnerError: no images, or names that are no times.
    """

    live = False

    def __init__(self, path: str, rate: Fraction | None) -> None:
        self.name, self.told, self._rate = Path(path).name, Told(), rate
        found = [one for one in Path(path).iterdir() if one.suffix[1:].lower() in IMAGES and one.is_file()]
        if not found:
            raise RunnerError(f"{path} has no images: expected files of {', '.join(IMAGES)}.")
        if rate is not None:
            order = sorted(found, key=lambda one: _natural(one.name))
            self._timed = [(Fraction(i) / rate, one) for i, one in enumerate(order)]
            return
        timed = sorted((_time_of(one), one) for one in found)
        if twice := next((b for (a, _), (b, _) in pairwise(timed) if a == b), None):
            raise RunnerError(f"{path} has two images of {float(twice):g} s: each name must be another time.")
        self._timed = [(seconds - timed[0][0], one) for seconds, one in timed]

    def total(self) -> float | None:
        """Until the last image."""
        return float(self._timed[-1][0])

    def frames(self) -> Iterator[Frame]:
        """Every image that can be read; what is damaged is told when it is decoded."""
        for number, (seconds, path) in enumerate(self._timed):
            try:
                data = path.read_bytes()
            except OSError as error:
                self.told.damage.append(f"at {float(seconds):.3f} s: {path.name}: {error.strerror}")
                continue
            yield Frame(number, seconds, Encoded(data, path.suffix[1:].lower(), path.name), perf_counter())


class Live:
    """A URL or a capture device.

    Args:
        where: URL, or path of the device.
        stall: seconds after which it has stalled.
        device: which of the two.
    """

    live = True

    def __init__(self, where: str, stall: float, *, device: bool = False) -> None:
        self.name, self.told = _without_password(where), Told()
        self._where, self._timeout, self._device = where, stall + _LONGER, device

    def total(self) -> float | None:
        """Nobody knows."""
        return None

    def frames(self) -> Iterator[Frame]:
        """Frames as they come."""
        with opened_live(self._where, self.name, self._timeout, self._device) as video:
            for number, (seconds, pixels) in enumerate(pictures_of(video, None, self.told, seeking=False)):
                yield Frame(number, seconds, pixels, perf_counter())


def open_source(text: str, *, rate: str | None = None, stall: float = 10.0) -> Source:
    """What a name means.

    Args:
        text: a video, a folder of images, a URL, or a capture device.
        rate: of a folder: images a second, or "names".
        stall: of a live source: seconds after which it has stalled.

    Raises:
        RunnerError: there is nothing of that name; a folder has no rate, or something else has one.
        ShardError: no video.
    """
    kind = _kind(text)
    if kind != "folder" and rate is not None:
        raise RunnerError(f"{text} has a clock of its own: a rate of images is for folders.")
    if kind == "live":
        return Live(text, stall)
    if kind == "device":
        return Live(text, stall, device=True)
    return Folder(text, _rate(text, rate)) if kind == "folder" else Video(text)


def _kind(text: str) -> str:
    if _URL.match(text):
        if text.lower().startswith("file:"):
            raise RunnerError(f"{text} names a file as a URL: give its path.")
        return "live"
    try:
        mode = os.stat(text).st_mode
    except (OSError, ValueError) as error:
        raise RunnerError(
            f"There is no {text[:200]!r}: expected a video, a folder of images, a URL such as rtsp://camera/stream, or "
            "a capture device."
        ) from error
    if stat.S_ISCHR(mode):
        return "device"
    return "folder" if stat.S_ISDIR(mode) else "video"


def _rate(text: str, rate: str | None) -> Fraction | None:
    if rate is None:
        raise RunnerError(
            f"{text} is a folder of images, which has no clock: say how many of them are a second (--image-fps 10), or "
            f"that their names are seconds (--image-fps {NAMES})."
        )
    if rate == NAMES:
        return None
    try:
        found = Fraction(rate)
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if not 0 < found <= 1000:
        raise RunnerError(f"{rate!r} is no rate of images: expected images a second, such as 10 or 0.5, or {NAMES!r}.")
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name by their value."""
    return [
        (int(part), "") if part.isdigit() and part.isascii() else (-1, part) for part in re.split(r"([0-9]+)", name)
    ]


def _time_of(path: Path) -> Fraction:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", path.stem):
        raise RunnerError(f"{path.name} is no time: expected seconds as a name, such as 12.5{path.suffix}.")
    return Fraction(path.stem)


def _without_password(where: str) -> str:
    """A URL as results and messages may have it."""
    return re.sub(r"//[^/@]*@", "//", where.split("?")[0])
