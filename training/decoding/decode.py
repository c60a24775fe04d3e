"""Decoders of members, by suffix: a fixed list, and everything else is refused by name.

What: images (those of `tamis.store.shards.images`) become uint8 tensors [C, H, W]; cls, txt and json become an int, a
text and a JSON value. Nothing is ever unpickled or executed: a `.pkl`, `.pyd` or `.pth` member has no decoder.
How: pillow, which turns damaged files into errors, with a shorter way for the usual files. PNG goes to libspng (pyspng)
once its checksums hold, which libspng itself does not look at: 27 µs against pillow's 55 for 32x32. JPEG goes straight
to pillow's codec, past its own reading of the header: 43 against 66 µs for 32x32, 308 against 336 for 256x256 (one
core). A JPEG that is to be scaled has a way of its own (`tamis.training.decoding.jpeg`). torchvision's operators take
42, 23 and 277 µs, but its PNG reader ends the process on many a damaged file, and torchvision is about to drop them.
Every image has the same channels: 3 turns grey, palette and CMYK into RGB (alpha is dropped), 1 turns colour into grey.
A picture is shown as its pixels lie; what EXIF says of its orientation is not heeded.
Memory: what a header claims is looked at before anything is decoded. A picture has at most `MAX_PIXELS`, and the
decoded batch at most `limit` bytes. With a size pictures are decoded and scaled one after the other, so a batch takes
one decoded picture (and a converted copy, for formats that are not RGB or grey) beside its result; pictures of more
than `_LARGE` pixels are decoded by one thread of a process at a time.
"""

import io
import json
import os
import struct
import threading
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pyspng
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tamis.store.shards import images as store_images
from tamis.training.decoding import jpeg
from tamis.training.decoding.pixels import JPEGS
from tamis.training.decoding.scaling import fit_image, fit_pixels, fit_rows, to_image
from tamis.training.decoding.whole import How, fit_whole, whole_pixels
from tamis.training.errors import DecodeError, DecoderRefused

MAX_PIXELS = 2**28  # the largest WebP; more is taken for a decompression bomb
_LARGE = 2**24
LIMIT = "TAMIS_DECODED_LIMIT"  # environment variable: bytes of decoded batches that a process holds at a time
_USUAL_LIMIT = 8 * 2**30
_PIXELS_A_BYTE = 1_100  # deflate packs at most 1,032 bytes into one, JPEG fewer than 400 pixels
Pixels = NDArray[np.uint8]

_PILLOW = store_images.IMAGES
_VALUES: dict[str, Callable[[bytes], object]] = {
    "cls": int,
    "txt": lambda data: data.decode("utf-8"),
    "json": json.loads,
}
# What pillow's plug-ins and libspng raise on damaged files, and what reading the headers raises.
_UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, KeyError, RuntimeError, Image.DecompressionBombError,
)  # fmt: skip
IMAGES = tuple(_PILLOW)
SUFFIXES = (*_PILLOW, *_VALUES)


def check_suffix(member: str, allowed: Sequence[str] = SUFFIXES) -> str:
    """The suffix that decides a member's decoder ("left.png" -> "png"; "jpg;png", of which a sample has either, stays).

    Raises:
        DecoderRefused: there is no decoder for it, naming it and the ones there are.
    """
    if store_images.EITHER in member:
        return store_images.EITHER.join(check_suffix(each, IMAGES) for each in member.split(store_images.EITHER))
    suffix = member.rpartition(".")[2].lower()
    if suffix not in allowed:
        raise DecoderRefused(
            f"Member {member!r} has no decoder: {', '.join(allowed)} can be decoded. Anything else (above all pickles) "
            "is never opened: choose another member."
        )
    return suffix


def decode_member(member: str, data: bytes, *, channels: int = 3) -> object:
    """One member: an image as a uint8 tensor [C, H, W], `cls` as int, `txt` as str, `json` as its value.

    Raises:
        DecoderRefused: the suffix is not on the list.
        DecodeError: the bytes are not what the suffix says.
    """
    suffix = check_suffix(member)
    if suffix in _PILLOW:
        return decode_images([data], suffix, channels=channels, name=lambda _: member)[0]
    try:
        return _VALUES[suffix](data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{member}: {data[:40]!r} is not a valid .{suffix}: {error}.") from error


def decoded_limit(batches: int = 4) -> int:
    """Bytes that one decoded batch may take where a process holds so many at a time.

    All of them together may take 8 GiB, or what the environment variable TAMIS_DECODED_LIMIT says.

    Raises:
        DecodeError: it says no number of bytes.
    """
    given = os.environ.get(LIMIT, str(_USUAL_LIMIT))
    if not (given.isascii() and given.isdigit() and 0 < int(given[:20]) < 2**63):
        raise DecodeError(f"{LIMIT} is {given[:40]!r}: expected a number of bytes, such as {_USUAL_LIMIT}.")
    return max(1, int(given) // batches)


def decode_images(
    members: Sequence[bytes | memoryview | Pixels],
    suffix: str,
    *,
    channels: int = 3,
    size: int | None = None,
    fit: How = "crop",
    limit: int | None = None,
    name: Callable[[int], str] = "image {}".format,
) -> Tensor:
    """A batch of images of one suffix.

    Args:
        members: B encoded images, as bytes, views of them or arrays of uint8.
        suffix: one of IMAGES; of several ("jpg;png"), each image is what its first bytes say.
        channels: 1 (grey) or 3 (RGB).
        size: None takes images as they are, which must then be equally large; a number scales the shorter side to it
            and cuts the centre out.
        fit: with a size: "crop" is that; "stretch" and "pad" keep the whole picture (`tamis.training.decoding.whole`).
        limit: bytes that the decoded batch may take; by default those of `decoded_limit`.
        name: what image i is called in an error message.

    Returns:
        uint8 [B, channels, H, W], laid out channels last.

    Raises:
        DecodeError: an image is damaged or too large, sizes differ, or the batch would take more than `limit`.
    """
    room = _Room(len(members), channels, size, decoded_limit() if limit is None else limit, name)
    mixed = store_images.EITHER in suffix
    out = np.zeros((0, size or 0, size or 0, channels), np.uint8)
    for i, data in enumerate(members):
        try:
            encoded = bytes(data)
            pixels = _pixels(encoded, store_images.told(encoded) if mixed else suffix, channels, size, fit, room)
        except DecodeError:
            raise
        except _UNREADABLE as error:
            why = "its header is cut off" if isinstance(error, struct.error) else error
            raise DecodeError(
                f"{name(i)}: {len(data)} bytes that are not a readable {suffix} image ({why})."
            ) from error
        finally:
            room.next()
        if i == 0:
            out = np.empty((len(members), *pixels.shape), np.uint8)
        out[i] = pixels
    return torch.from_numpy(out).permute(0, 3, 1, 2)


class _Room:
    """What a batch may still hold: asked by decoders once they know a picture's size and have taken no memory for it.

    Args:
        count: images of the batch.
        channels, size, limit, name: of `decode_images`.
    """

    def __init__(self, count: int, channels: int, size: int | None, limit: int, name: Callable[[int], str]) -> None:
        self._count, self._channels, self._scaled, self._limit, self._name = count, channels, size, limit, name
        self._at, self._first, self._alone = 0, (0, 0), False
        if size is not None and count:
            self._measure(size, size)

    def admit(self, width: int, height: int, size: int | None = None) -> None:
        """Refuse a picture. `size` is the file's, for formats that cannot hold many pixels a byte.

        Raises:
            ValueError: it claims no pixels, or more than anybody decodes.
            DecodeError: it does not fit the batch.
        """
        most = MAX_PIXELS if size is None else min(MAX_PIXELS, _PIXELS_A_BYTE * size)
        if width < 1 or height < 1:
            raise ValueError(f"it claims {width} x {height} pixels")
        if width * height > most:
            raise ValueError(f"it claims {width} x {height} pixels, more than {most}")
        if self._scaled is None:
            self._compare(height, width)
        if width * height > _LARGE and not self._alone:
            self._alone = _Turn.lock.acquire()

    def next(self) -> None:
        """The picture at hand is done with, however that came out."""
        self._at += 1
        if self._alone:
            self._alone = False
            _Turn.lock.release()

    def _compare(self, height: int, width: int) -> None:
        if self._at == 0:
            self._first = (height, width)
            self._measure(height, width)
        if (height, width) != self._first:
            here, there = self._name(self._at), f"{self._name(0)} is {self._first[0]} x {self._first[1]}"
            raise DecodeError(
                f"{here} is {height} x {width} where {there}: images of one batch must be equally large. "
                "Set image_size to scale them."
            )

    def _measure(self, height: int, width: int) -> None:
        needed = self._count * height * width * self._channels
        if needed > self._limit:
            smaller = "set image_size to scale them" if self._scaled is None else "choose a smaller image_size"
            raise DecodeError(
                f"{self._name(0)} is {height} x {width}: {self._count} such images of {self._channels} channels take "
                f"{needed:,} bytes in one batch, which may have {self._limit:,}. Take smaller batches, {smaller}, or "
                f"raise {LIMIT} (bytes for all batches that a process holds at a time)."
            )


class _Turn:
    """Whose turn it is to decode a large picture."""

    lock = threading.Lock()


def _new_turn() -> None:
    _Turn.lock = threading.Lock()  # in a forked process nobody is left to release the old one


os.register_at_fork(after_in_child=_new_turn)


def _pixels(data: bytes, suffix: str, channels: int, size: int | None, fit: How, room: _Room) -> Pixels:
    """uint8 [H, W, channels]."""
    if size is not None and suffix in JPEGS:
        frame = jpeg.read_frame(data)
        if frame is not None:
            return _scaled_jpeg(data, frame, channels, size, fit, room)
    mode = "RGB" if channels == 3 else "L"
    found = _SHORT_WAY.get(suffix, _no_short_way)(data, room)
    if isinstance(found, np.ndarray):
        if size is None and found.shape[2] == channels:
            return found
        image = fit_rows(found, mode, size) if size is not None and fit == "crop" else to_image(found, mode)
    else:
        image = found or _long_way(data, suffix, room)
        image = image if image.mode == mode else image.convert(mode)
        image = fit_image(image, size) if size is not None and fit == "crop" else image
    image = fit_whole(image, size, fit) if size is not None and fit != "crop" else image
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, channels)


def _scaled_jpeg(data: bytes, frame: jpeg.Frame, channels: int, size: int, fit: How, room: _Room) -> Pixels:
    """uint8 [size, size, channels]."""
    room.admit(frame.width, frame.height, len(data))
    scale = jpeg.pick_scale(frame, size)
    decoded, full = jpeg.decode(data, frame, scale), (frame.height, frame.width)
    if fit == "crop":
        found = fit_pixels(decoded, full, scale, size)
    else:
        found = np.asarray(whole_pixels(decoded, full, scale, size, fit)).reshape(size, size, -1)
    if frame.channels == channels:
        return found
    if channels == 3:
        return found.repeat(3, 2)
    return np.asarray(Image.fromarray(np.ascontiguousarray(found)).convert("L"))[:, :, None]


def _long_way(data: bytes, suffix: str, room: _Room) -> Image.Image:
    """Any file of a format, as pillow reads it."""
    if suffix in JPEGS:
        jpeg.check_scans(data)
    with Image.open(io.BytesIO(data), formats=(_PILLOW[suffix],)) as image:
        room.admit(image.width, image.height)
        if image.format == "TIFF" and image.mode in ("F", "I"):  # nobody knows which number is white
            raise ValueError(f"pixels have 32 bits (mode {image.mode}); expected 8 or 16")
        if image.mode.startswith("I"):  # 16 bits a channel: pillow clips on conversion, the high byte is what is meant
            return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        if image.mode == "P" or "transparency" in image.info:
            return image.convert("RGBA")
        image.load()  # what it was read from is closed now, what it shows stays
        return image


def _png(data: bytes, room: _Room) -> Pixels | None:
    """A PNG of 8 bits, grey or RGB, neither interlaced nor transparent; None for others."""
    width, height, *kind = struct.unpack_from(">IIBBBBB", data, 16)
    mode = _PNG_KINDS.get(tuple(kind))
    if mode is None or not data.startswith(_PNG_START):
        return None
    at, chunk = 8, b""
    while chunk != b"IEND":
        length, chunk = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if chunk == b"tRNS":
            return None
        if chunk in _PNG_CHECKED and zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError(f"the checksum at byte {end} does not match")
        at = end + 4
    room.admit(width, height, len(data))
    return pyspng.load(data, mode).reshape(height, width, -1)


def _jpeg(data: bytes, room: _Room) -> Image.Image | None:
    """A JPEG of 8 bits, grey or in colour; None for others (CMYK)."""
    frame = jpeg.read_frame(data)
    if frame is None:
        return None
    room.admit(frame.width, frame.height, len(data))
    return Image.frombytes(frame.mode, (frame.width, frame.height), data, "jpeg", frame.mode, "")


def _no_short_way(data: bytes, room: _Room) -> Pixels | Image.Image | None:
    return None


_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_CHECKED = (b"IHDR", b"IDAT")
_PNG_KINDS: dict[tuple[int, ...], str] = {(8, 0, 0, 0, 0): "L", (8, 2, 0, 0, 0): "RGB"}
_SHORT_WAY: dict[str, Callable[[bytes, _Room], Pixels | Image.Image | None]] = {
    "png": _png,
    "jpg": _jpeg,
    "jpeg": _jpeg,
}
