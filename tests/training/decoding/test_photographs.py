"""Photographs: scaled JPEGs against pillow's whole way, damage, and what a batch may take."""

import io
import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from numpy.typing import NDArray
from PIL import Image

from tamis.training.decoding import decode, jpeg, scaling
from tamis.training.decoding.decode import LIMIT, decode_images
from tamis.training.errors import DecodeError

IMAGES = Path(sklearn.__file__).parent / "datasets" / "images"
KINDS = [
    pytest.param({"subsampling": "4:2:0"}, id="420"),
    pytest.param({"subsampling": "4:4:4"}, id="444"),
    pytest.param({"subsampling": "4:2:2", "progressive": True}, id="progressive"),
    pytest.param({"subsampling": "4:2:0", "restart_marker_blocks": 4}, id="restarts"),
]


def photograph(width: int, height: int, name: str = "china") -> Image.Image:
    with Image.open(IMAGES / f"{name}.jpg") as image:
        return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def encode(image: Image.Image, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **({"quality": 90} | how))
    return file.getvalue()


def scaled(data: bytes, size: int, channels: int = 3) -> NDArray[np.int64]:
    [found] = decode_images([data], "jpg", size=size, channels=channels)
    return found.permute(1, 2, 0).numpy().astype(np.int64)


def by_pillow(data: bytes, size: int, channels: int = 3) -> NDArray[np.int64]:
    """All pixels by pillow, scaled by pillow."""
    image = Image.open(io.BytesIO(data)).convert("RGB" if channels == 3 else "L")
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), np.int64).reshape(size, size, channels)


def assert_close(found: NDArray[np.int64], expected: NDArray[np.int64], mean: float, worst: int) -> None:
    """So many levels on average, and in the worst pixel."""
    apart = np.abs(found - expected)
    assert (apart.mean() <= mean, apart.max() <= worst) == (True, True), (apart.mean(), apart.max())


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize(
    ("width", "height", "size"), [(500, 375, 224), (375, 501, 224), (333, 333, 200), (90, 120, 96)]
)
def test_a_photograph_decoded_whole_is_pillows(
    name: str, how: dict[str, object], width: int, height: int, size: int
) -> None:
    data = encode(photograph(width, height, name), **how)
    assert_close(scaled(data, size), by_pillow(data, size), 0.05, 1)


@pytest.mark.parametrize(("width", "height"), [(448, 149), (449, 149), (450, 149), (149, 449), (449, 448), (448, 448)])
def test_a_side_that_is_as_long_as_what_is_wanted_of_it_is_scaled_too(width: int, height: int) -> None:
    data = encode(photograph(width, height))
    assert_close(scaled(data, 224), by_pillow(data, 224), 0.05, 1)


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize(
    ("width", "height", "size", "scale"),
    [(1280, 961, 224, 2), (853, 1281, 240, 2), (1277, 857, 129, 4), (1280, 855, 64, 8)],
)
def test_a_photograph_decoded_at_a_part_is_close(
    name: str, how: dict[str, object], width: int, height: int, size: int, scale: int
) -> None:
    data = encode(photograph(width, height, name), **how)
    frame = jpeg.read_frame(data)
    assert frame is not None
    assert jpeg.pick_scale(frame, size) == scale
    assert_close(scaled(data, size), by_pillow(data, size), 1.7, 20)


@pytest.mark.parametrize("name", ["china", "flower"])
def test_a_large_photograph_is_close(name: str) -> None:
    data = encode(photograph(2000, 1500, name), quality=80)
    assert_close(scaled(data, 224), by_pillow(data, 224), 1, 16)


@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize("size", [129, 64, 32])
def test_edges_a_pixel_wide_are_close_too(name: str, size: int) -> None:
    data = encode(photograph(640, 427, name))
    assert_close(scaled(data, size), by_pillow(data, size), 1.7, 22)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [40, 100, 240])
def test_grey_and_colour_have_the_channels_asked_for(mode: str, channels: int, size: int) -> None:
    data = encode(photograph(320, 240).convert(mode))
    if mode == "CMYK":  # ours inverts nothing that pillow does not
        assert jpeg.read_frame(data) is None
    assert_close(scaled(data, size, channels), by_pillow(data, size, channels), 2, 16)


@pytest.mark.parametrize("size", [375, 376, 374])
def test_a_side_that_fits_is_left_alone(size: int) -> None:
    data = encode(photograph(500, 375))
    found, expected = scaled(data, size), by_pillow(data, size)
    assert_close(found, expected, 0.05, 0 if size == 375 else 1)


def test_orientation_is_not_heeded() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image = photograph(300, 200)
    assert np.array_equal(scaled(encode(image, exif=exif), 64), scaled(encode(image), 64))
    plain = decode_images([encode(image, exif=exif)], "jpg")
    assert plain.shape == (1, 3, 200, 300)


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_pillow_gives_the_same_pixels_where_simplejpeg_is_missing(
    mode: str, how: dict[str, object], scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(photograph(333, 251).convert(mode), **({} if mode == "L" else how))
    frame = jpeg.read_frame(data)
    assert frame is not None
    found = jpeg.decode(data, frame, scale).copy()
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert np.array_equal(jpeg.decode(data, frame, scale), found)


@pytest.mark.parametrize("size", [30, 100, 224])
def test_resizing_without_the_quick_kernel_is_a_level_away(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photograph(500, 375))
    quick = scaled(data, size)
    monkeypatch.setattr(scaling, "_HAS_KERNEL", False)
    assert_close(scaled(data, size), quick, 0.1, 1)


@pytest.mark.parametrize(("width", "height"), [(1, 20_000), (20_000, 1), (3, 60_000)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_like_a_thread_takes_no_memory(width: int, height: int, suffix: str) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:] = 60
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG" if suffix == "jpg" else "PNG")
    [found] = decode_images([file.getvalue()], suffix, size=224)
    assert (found == 60).all()


def test_a_large_picture_is_scaled_strip_by_strip_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    for image in (photograph(500, 375), photograph(375, 500).convert("L")):
        file = io.BytesIO()
        image.save(file, "PNG")
        for channels in (1, 3):
            monkeypatch.setattr(scaling, "_ROWS", 1 << 24)
            [whole] = decode_images([file.getvalue()], "png", size=100, channels=channels)
            monkeypatch.setattr(scaling, "_ROWS", 20_000)
            [strips] = decode_images([file.getvalue()], "png", size=100, channels=channels)
            assert torch.equal(whole, strips)


def damaged(seed: int, count: int) -> Iterator[bytes]:
    """Usual files with a byte changed, cut off, or with bytes missing."""
    choose = random.Random(seed)
    image = photograph(96, 72)
    whole = [encode(image, quality=60, **how.values[0]) for how in KINDS]  # type: ignore[arg-type]
    whole += [encode(image.convert(mode), quality=60) for mode in ("L", "CMYK")]
    for number in range(count):
        data = bytearray(choose.choice(whole))
        at = choose.randrange(min(len(data), 700) if number % 2 else len(data))
        if number % 5 < 3:
            data[at] = choose.randrange(256)
        elif number % 5 == 3:
            del data[at:]
        else:
            del data[at : at + choose.randrange(1, 40)]
        yield bytes(data)


@pytest.mark.parametrize("has_simplejpeg", [True, False])
def test_what_pillow_refuses_whole_is_refused_scaled_and_nothing_else(
    has_simplejpeg: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_simplejpeg:
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    refused = 0
    for data in damaged(int(has_simplejpeg), 1_000):
        answers: list[bool] = []
        for size in (None, 9, 40):  # whole, at a quarter, whole and scaled
            try:
                decode_images([data], "jpg", size=size)
                answers.append(True)
            except DecodeError:
                answers.append(False)
        assert len(set(answers)) == 1, (answers, len(data))
        refused += not answers[0]
    assert 200 < refused < 800


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("how", KINDS)
def test_half_a_photograph_is_none(how: dict[str, object], part: float) -> None:
    data = encode(photograph(500, 375), **how)
    with pytest.raises(DecodeError, match="not a readable jpg"):
        decode_images([data[: int(len(data) * part)]], "jpg", size=100)


@pytest.mark.parametrize("field", [5, 7])
@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_photograph_without_pixels_is_refused(field: int, size: int | None, mode: str) -> None:
    data = bytearray(encode(photograph(64, 48).convert(mode)))
    struct.pack_into(">H", data, data.index(b"\xff\xc0") + field, 0)
    with pytest.raises(DecodeError, match="not a readable jpg"):
        decode_images([bytes(data)], "jpg", size=size)


def test_a_second_header_that_libjpeg_would_find_is_not_followed() -> None:
    """A marker without a length, which a reader that expects one would take for a segment with a small frame in it."""
    large = encode(photograph(640, 427))
    small = encode(photograph(8, 8))
    frame = small[small.index(b"\xff\xc0") :][:19]
    room = bytes(65_000)
    data = bytearray(b"\xff\xd8\xff\x01" + large[2:20])
    data += b"".join(b"\xff\xfe" + struct.pack(">H", 65_002) + room for _ in range(2)) + large[20:]
    data[4 + 0xFFE0 : 4 + 0xFFE0 + 19] = frame
    assert jpeg.read_frame(bytes(data)) is None
    for size in (None, 64):
        with pytest.raises(DecodeError):
            decode_images([bytes(data)], "jpg", size=size)


def test_a_scan_that_is_repeated_without_end_is_refused() -> None:
    data = encode(photograph(64, 64), progressive=True)
    at = data.rindex(b"\xff\xda")
    again = data[:-2] + data[at:-2] * 600 + data[-2:]
    for size in (None, 16):
        with pytest.raises(DecodeError, match="scans, more than 500"):
            decode_images([again], "jpg", size=size)
    decode_images([encode(photograph(64, 64).convert("L"), progressive=True)], "jpg", size=16)


def png_that_claims(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(2**20), 9) * 64  # no picture, but large enough to be believed
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body * 5) + chunk(b"IEND", b"")


def test_a_batch_that_would_take_too_much_is_refused_from_its_first_header() -> None:
    data = png_that_claims(16_000, 16_000)
    with pytest.raises(DecodeError) as caught:
        decode_images([data] * 64, "png", name="s{:03d}".format)
    advice = ("image_size", "smaller batches", LIMIT)
    for part in ("s000 is 16000 x 16000", "64 such images", *advice, "49,152,000,000 bytes", "may have 2,147,483,648"):
        assert part in str(caught.value)


def test_a_large_picture_among_small_ones_is_refused_before_it_is_decoded() -> None:
    small = io.BytesIO()
    photograph(32, 32).save(small, "PNG")
    with pytest.raises(DecodeError, match="image 1 is 16000 x 16000 where image 0 is 32 x 32"):
        decode_images([small.getvalue(), png_that_claims(16_000, 16_000)], "png")


def test_an_image_size_beyond_reason_is_refused() -> None:
    with pytest.raises(DecodeError, match=r"200000 x 200000: 2 such images.*choose a smaller image_size"):
        decode_images([encode(photograph(32, 32))] * 2, "jpg", size=200_000)


@pytest.mark.parametrize("size", [None, 32])
def test_the_limit_can_be_set(size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photograph(32, 32))
    monkeypatch.setenv(LIMIT, str(4 * 2 * 32 * 32 * 3))
    assert decode_images([data] * 2, "jpg", size=size).shape == (2, 3, 32, 32)
    with pytest.raises(DecodeError, match="3 such images of 3 channels"):
        decode_images([data] * 3, "jpg", size=size)
    assert decode_images([data] * 3, "jpg", size=size, channels=1).shape == (3, 1, 32, 32)


@pytest.mark.parametrize("given", ["", "-1", "8 GiB", "0", "1e9", "9" * 40, "٣"])
def test_a_limit_that_is_no_number_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, given)
    with pytest.raises(DecodeError, match="number of bytes"):
        decode_images([], "jpg")


def test_large_pictures_are_decoded_one_at_a_time_and_a_refused_one_lets_the_next_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "_LARGE", 1_000)
    running, most, lock = 0, 0, threading.Lock()
    really = jpeg.decode

    def counted(*given: object) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return really(*given)  # type: ignore[arg-type]
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(jpeg, "decode", counted)
    good, bad = encode(photograph(640, 427)), encode(photograph(640, 427))[:9_000]

    def work() -> None:
        for data in (good, bad, good):
            try:
                decode_images([data], "jpg", size=64)
            except DecodeError:
                assert data is bad

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most == 1
