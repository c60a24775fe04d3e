"""Opening videos: local regular files only, and nothing that a file names is opened.

How: the file is opened by us and handed to PyAV as an object. FFmpeg probes what it is, but only among containers that
hold their own bytes: a playlist or a list of files under a video's name is refused, no protocol is allowed, and
whatever a container wants to open beside itself is refused too. A header that claims more than `MAX_PIXELS` is refused
before anything is decoded; the decoder holds the same limit for every frame.
Damage: decoders are told to take what a codec does not allow for damage, which FFmpeg's MPEG-4 otherwise conceals
without a word. What a few altered bytes turn into another valid stream nobody can tell: 8 bytes in MPEG-4 and H.264 go
unnoticed about as often as not; HEVC and VP9 have no redundancy to check, and seldom tell anything at all.
"""

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tamis.store.errors import ShardError
from tamis.store.roots.regular import open_regular

MAX_PIXELS = 2**26  # of a frame; 8K has half of it
FORMATS = "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,h264,hevc,m4v"
_COUNTED = ("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v")  # containers whose duration is a guess, or none
_LIVE = "tcp,udp,rtp,rtsp,rtsps,rtmp,rtmps,srt,http,https,httpproxy,tls,crypto"  # no files
_KEY = 1  # AVINDEX_KEYFRAME
_CHECKED = "crccheck+bitstream+buffer"  # without "explode", which gives up on slips that do no harm


@dataclass(frozen=True)
class Opened:
    """An open video.

    Attributes:
        container, stream: of PyAV.
        origin: time stamp at which the video begins, in units of `tick`; None where it has none until it is decoded.
        tick: seconds a unit of time stamps.
        rate: frames a second, on average.
        keys: time stamps, rising, from which decoding can begin; empty where the container has no index.
    """

    container: Any
    stream: Any
    origin: int | None
    tick: Fraction
    rate: Fraction
    keys: tuple[int, ...]


def pyav() -> Any:
    """PyAV.

    Raises:
        ShardError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ShardError("Reading videos needs PyAV: pip install 'tamis[video]'.") from error
    return av


@contextlib.contextmanager
def opened(path: str) -> Generator[Opened]:
    """A video, open.

    Raises:
        ShardError: it cannot be read, is no video of a known container, or its frames are too large.
    """
    av = pyav()
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(path))
            if not os.fstat(file.fileno()).st_size:
                raise ShardError(f"{path} is empty: expected a video.")
            options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
            container = stack.enter_context(
                av.open(file, options=options, io_open=_refuse, buffer_size=1 << 20, metadata_errors="replace")
            )
        except (OSError, av.error.FFmpegError) as error:
            raise ShardError(f"{path} cannot be read as a video: {why(error)}. {_EXPECTED}") from error
        yield _looked_at(path, container)


@contextlib.contextmanager
def opened_live(where: str, name: str, timeout: float, device: bool = False) -> Generator[Opened]:
    """A live source, open: a URL (rtsp://, http://, udp://, ...) or a capture device.

    Args:
        where: what the user named; nothing else is opened but what a stream over the network refers to there.
        name: what to call it in messages.
        timeout: seconds that opening, and each read, may take.
        device: whether it is a device (Video4Linux).

    Raises:
        ShardError: it cannot be opened, has no pictures, or its frames are too large.
    """
    av = pyav()
    given: dict[str, Any] = {"format": "v4l2"} if device else {"options": {"protocol_whitelist": _LIVE}}
    try:
        container = av.open(where, timeout=(timeout, timeout), metadata_errors="replace", **given)
    except (OSError, av.error.FFmpegError) as error:
        raise ShardError(f"{name} cannot be opened as a live source: {why(error)}. Check the address.") from error
    with container:
        yield _looked_at(name, container)


def length(path: str) -> Fraction:
    """Seconds that a video lasts: what its container says, or, where that is a guess, what its packets say.

    Cost: where packets are asked, one read of the file; nothing is decoded.
    """
    with opened(path) as video:
        container, stream = video.container, video.stream
        if container.format.name not in _COUNTED:
            if stream.duration is not None:
                return Fraction(stream.duration) * video.tick
            if container.duration is not None:
                return Fraction(container.duration, 1_000_000)
        last, count, first = None, 0, video.origin
        try:
            for packet in container.demux(stream):
                if packet.size:
                    count += 1
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    if stamp is not None:
                        first = stamp if first is None else min(first, stamp)
                        last = stamp if last is None else max(last, stamp)
        except pyav().error.FFmpegError:
            pass  # truncated: up to there; decoding says so
        if last is None or first is None:
            return count / video.rate
        return (last - first) * video.tick + 1 / video.rate


def why(error: BaseException) -> str:
    """What FFmpeg or the system says, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:150]


def _looked_at(path: str, container: Any) -> Opened:
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise ShardError(f"{path} has no pictures (streams: {_kinds(container)}). {_EXPECTED}")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise ShardError(f"{path} cannot be decoded: no decoder for its codec in this build of PyAV.")
    if context.width * context.height > MAX_PIXELS:
        raise ShardError(
            f"{path} claims frames of {context.width}x{context.height}; at most {MAX_PIXELS:,} pixels are read."
        )
    context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": _CHECKED}
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
    if container.format.name.startswith("matroska"):
        with contextlib.suppress(pyav().error.FFmpegError):
            container.seek(0)  # its index lies at the end, and is read when it is needed
    keys = sorted(entry.timestamp for entry in stream.index_entries if entry.flags & _KEY)
    return Opened(container, stream, stream.start_time, Fraction(stream.time_base), Fraction(rate), tuple(keys))


def _kinds(container: Any) -> str:
    return ", ".join(s.type for s in container.streams) or "none"


def _refuse(url: str, _flags: int, _options: object) -> Any:
    raise PermissionError(f"a video names another file ({url[:100]!r}), which is not opened")


_EXPECTED = "Expected an mp4, mov, mkv, webm, avi, ts or mpg file with pictures."
