"""Frames of a video at a rate.

What: of each point k / fps of the video's time line, the first frame at or after it; each frame once. Times are exact
fractions, counted from the stream's first time stamp. A video without time stamps is timed by number and average rate.
How: frames are decoded in order. Where the container has an index and a key frame lies far enough ahead, and not
behind the point that is looked for, decoding goes on from it: the frames are the same as when all are decoded. A
key frame that turns out to be later than the point (an index counts in the order of decoding) is given up for one
before it, then for decoding on. Damage is skipped up to the next key frame, and told. Pictures are turned as the
stream's display matrix says. Colours are converted by the frame's own tags; untagged ones are taken for BT.601.
Cost: decoding of what lies between the key frame before a point and the point; memory for a few frames.
"""

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.store.video.converting import Converter
from tamis.store.video.opening import Opened, opened, pyav, why

_MOST_DAMAGE = 1000  # that is told apart: a live source may go on for ever
_AHEAD = 12  # frames that must be saved: a seek empties the decoder, which then has to be filled again


@dataclass
class Told:
    """What else there is to say of a video, complete when its frames have been read.

    Attributes:
        untimed: whether it has no time stamps.
        damage: what is wrong, and from where on; empty where nothing is.
        end: seconds at which the last decoded frame ends.
        decoded: how many frames were decoded.
    """

    untimed: bool = False
    damage: list[str] = field(default_factory=list[str])
    end: Fraction = Fraction(0)
    decoded: int = 0


@dataclass(frozen=True)
class Timed:
    """A decoded frame of PyAV, and when it is."""

    frame: Any
    seconds: Fraction


def pictures(
    path: str, fps: Fraction | None, told: Told, *, after: Fraction | None = None, seeking: bool = True
) -> Iterator[tuple[Fraction, npt.NDArray[np.uint8]]]:
    """Frames as arrays.

    Args:
        path: of the video.
        fps: points a second; None for every frame.
        told: is filled on the way.
        after: only frames later than this, as though the earlier ones had been read.
        seeking: False decodes everything.

    Yields:
        (seconds since the video's beginning, uint8 [H, W, 3]).

    Raises:
        ShardError: it cannot be opened.
    """
    with opened(path) as video:
        yield from pictures_of(video, fps, told, after=after, seeking=seeking)


def pictures_of(
    video: Opened, fps: Fraction | None, told: Told, *, after: Fraction | None = None, seeking: bool = True
) -> Iterator[tuple[Fraction, npt.NDArray[np.uint8]]]:
    """As `pictures`, of a video that is open."""
    converter = Converter()
    for timed in _Reader(video, told, seeking).at(fps, after):
        turns = round(timed.frame.rotation / 90) % 4  # counter-clockwise
        yield timed.seconds, np.ascontiguousarray(np.rot90(converter.rgb(timed.frame), turns))


class _Reader:
    """Decodes a video forwards, with leaps."""

    def __init__(self, video: Opened, told: Told, seeking: bool) -> None:
        self._video, self._told = video, told
        self._keys = video.keys if seeking else ()
        self._origin, self._number = video.origin, 0
        self._last: Fraction | None = None
        self._frames = self._decode()

    def at(self, fps: Fraction | None, after: Fraction | None) -> Iterator[Timed]:
        """The frames of the points; see `pictures`."""
        point = Fraction(0) if after is None else _next_point(after, fps)
        while (found := self._first_from(point, after)) is not None:
            yield found
            after = found.seconds
            if fps is None:  # no leap can save anything from here on
                yield from self._later(after)
                return
            point = _next_point(after, fps)

    def _later(self, than: Fraction) -> Iterator[Timed]:
        for timed in self._frames:
            if timed.seconds > than:
                than = timed.seconds
                yield timed

    def _first_from(self, point: Fraction, after: Fraction | None) -> Timed | None:
        leap = self._leap(point)
        first = [] if leap is None else self._from(leap, point)
        for timed in itertools.chain(first, self._frames):
            if timed.seconds >= point and (after is None or timed.seconds > after):
                return timed
        return None

    def _leap(self, point: Fraction) -> int | None:
        """The place in `keys` of a key frame ahead that is not behind a point, where leaping to it saves enough."""
        if self._origin is None or not self._keys:
            return None
        place = bisect.bisect_right(self._keys, self._origin + point / self._video.tick) - 1
        saved = (self._keys[place] - self._origin) * self._video.tick - (self._last or 0)
        return place if place >= 0 and saved * self._video.rate > _AHEAD else None

    def _from(self, place: int, point: Fraction) -> list[Timed]:
        """Go to a key frame that is no later than a point, and give it; to the beginning where none can be reached."""
        for each in (place, place - 1):
            if each >= 0 and self._seek(self._keys[each]):
                first = next((timed for timed in self._frames if timed.frame.key_frame), None)
                if first is not None and first.seconds <= point:
                    return [first]
        self._keys = ()
        self._seek(self._video.keys[0])
        return []

    def _seek(self, stamp: int) -> bool:
        try:
            self._video.container.seek(stamp, stream=self._video.stream, backward=True)
        except pyav().error.FFmpegError:
            return False
        self._frames = self._decode()
        return True

    def _decode(self) -> Iterator[Timed]:
        """Frames in order, without those that are damaged, and those after them up to a key frame."""
        broken = False
        for frame in self._raw():
            if frame is None or frame.is_corrupt:
                broken = True
                self._damaged("damaged" if frame is None else "incomplete frames")
            elif not broken or frame.key_frame:
                broken = False
                yield self._timed(frame)

    def _raw(self) -> Iterator[Any]:
        """Decoded frames; None where a packet cannot be decoded. Where the file cannot be read on, that is the end."""
        errors = pyav().error.FFmpegError
        packets = self._video.container.demux(self._video.stream)
        while True:
            try:
                packet = next(packets, None)
            except errors as error:
                self._damaged(why(error))
                yield from self._waiting()
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except errors:
                yield None
                continue
            self._told.decoded += len(frames)
            yield from frames

    def _waiting(self) -> Iterator[Any]:
        """Frames that the decoder still has, where no end of the video made it give them."""
        try:
            frames = self._video.stream.codec_context.decode(None)
        except pyav().error.FFmpegError:  # it has ended, or was given nothing yet
            return
        self._told.decoded += len(frames)
        yield from frames

    def _timed(self, frame: Any) -> Timed:
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is not None and self._origin is None and self._number == 0:
            self._origin = stamp
        if stamp is None or self._origin is None:
            self._told.untimed |= self._number == 0
            seconds = self._number / self._video.rate if self._told.untimed else (self._last or Fraction(0))
        else:
            seconds = (stamp - self._origin) * self._video.tick
        self._number += 1
        self._last = seconds
        self._told.end = max(self._told.end, seconds + 1 / self._video.rate)
        return Timed(frame, seconds)

    def _damaged(self, what: str) -> None:
        place = f"from {float(self._last or 0):.3f} s on: {what}"
        if len(self._told.damage) < _MOST_DAMAGE and place not in self._told.damage:
            self._told.damage.append(place)


def _next_point(after: Fraction, fps: Fraction | None) -> Fraction:
    """The first point later than a time."""
    return after if fps is None else Fraction(int(after * fps) + 1) / fps
