"""Decoders: what is on the list comes out right, everything else is refused, damage is an error."""

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tamis.training.decoding import decode
from tamis.training.decoding.decode import IMAGES, decode_images, decode_member
from tamis.training.errors import DecodeError, DecoderRefused

# What pillow says of damaged TIFF before the error comes.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
FORMATS = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "ppm": "PPM", "pgm": "PPM", "bmp": "BMP", "gif": "GIF",
    "tif": "TIFF", "tiff": "TIFF",
}  # fmt: skip


def encode(image: Image.Image, suffix: str) -> bytes:
    file = io.BytesIO()
    image.save(file, FORMATS[suffix], **({"lossless": True} if suffix == "webp" else {}))
    return file.getvalue()


def image_of(data: bytes, suffix: str = "png", channels: int = 3) -> np.ndarray:
    found = decode_member(f"a.{suffix}", data, channels=channels)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.uint8
    return found.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", ["png", "webp", "ppm", "bmp", "tif", "tiff"])
def test_lossless_formats_come_out_exactly(suffix: str) -> None:
    assert np.array_equal(image_of(encode(Image.fromarray(PIXELS), suffix), suffix), PIXELS)


def test_grey_pgm_and_gif_come_out_exactly() -> None:
    grey = Image.fromarray(PIXELS[:, :, 0])
    for suffix in ("pgm", "gif"):
        assert np.array_equal(image_of(encode(grey, suffix), suffix, 1)[:, :, 0], PIXELS[:, :, 0])
    deep = b"P5 30 20 65535\n" + (PIXELS[:, :, 0].astype(">u2") * 257).tobytes()
    assert np.array_equal(image_of(deep, "pgm", 1)[:, :, 0], PIXELS[:, :, 0])


def test_of_a_moving_gif_the_first_picture_is_taken() -> None:
    file, first = io.BytesIO(), Image.fromarray(PIXELS[:, :, 0])
    first.save(file, "GIF", save_all=True, append_images=[Image.fromarray(PIXELS[:, :, 1])])
    assert np.array_equal(image_of(file.getvalue(), "gif", 1)[:, :, 0], PIXELS[:, :, 0])


@pytest.mark.parametrize("kind", [np.float32, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_without_a_white_is_refused(kind: type, channels: int) -> None:
    data = encode(Image.fromarray(PIXELS[:, :, 0].astype(kind)), "tif")
    with pytest.raises(DecodeError, match="pixels have 32 bits"):
        image_of(data, "tif", channels)


def test_jpeg_comes_out_closely() -> None:
    smooth = np.tile(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], (20, 1, 3))
    assert np.abs(image_of(encode(Image.fromarray(smooth), "jpg"), "jpg").astype(int) - smooth).max() < 8


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_has_the_same_channels(mode: str, channels: int) -> None:
    base = Image.fromarray(PIXELS)
    image = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else base.convert(mode)
    suffix = "jpg" if mode == "CMYK" else "png"
    found = image_of(encode(image, suffix), suffix, channels)
    assert found.shape == (20, 30, channels)
    if mode == "L":
        assert np.array_equal(found, np.repeat(np.asarray(image)[:, :, None], channels, 2))
    if mode == "I;16":
        assert np.array_equal(found, np.repeat(PIXELS[:, :, :1], channels, 2))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_short_way_gives_the_same_pixels(
    mode: str, suffix: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(Image.fromarray(PIXELS).convert(mode), suffix)
    assert decode._SHORT_WAY[suffix](data, decode._Room(1, channels, None, 2**20, str)) is not None
    short = image_of(data, suffix, channels)
    monkeypatch.setattr(decode, "_SHORT_WAY", {})
    assert np.array_equal(image_of(data, suffix, channels), short)


def test_values() -> None:
    assert decode_member("cls", b"7") == 7
    assert decode_member("note.txt", "à".encode()) == "à"
    assert decode_member("json", b'{"a": [1, 2]}') == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("member", "data"), [("cls", b"x"), ("txt", b"\xff"), ("json", b"{"), ("json", b"[" * 100_000)]
)
def test_damaged_values_are_named(member: str, data: bytes) -> None:
    with pytest.raises(DecodeError, match=member):
        decode_member(member, data)


@pytest.mark.parametrize("member", ["pkl", "pyd", "a.pickle", "pth", "npz", "exe", "", "png.gz"])
def test_unknown_suffixes_are_refused_by_name(member: str) -> None:
    with pytest.raises(DecoderRefused, match="no decoder") as caught:
        decode_member(member, b"")
    assert repr(member) in str(caught.value)
    assert "png, jpg, jpeg, webp, ppm, pgm, bmp, gif, tif, tiff, cls, txt, json" in str(caught.value)


def test_a_pickle_under_an_image_name_is_not_unpickled(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (witness,)

    for suffix in IMAGES:
        with pytest.raises(DecodeError):
            decode_member(f"a.{suffix}", pickle.dumps(Evil()))
    assert not witness.exists()


@pytest.mark.parametrize("suffix", IMAGES)
@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_truncated_images_are_errors(suffix: str, part: float) -> None:
    data = encode(Image.fromarray(PIXELS), suffix)
    with pytest.raises(DecodeError, match=rf"a\.{suffix}.*not a readable {suffix}"):
        decode_member(f"a.{suffix}", data[: int(len(data) * part)])


@given(data=st.binary(max_size=200), suffix=st.sampled_from(IMAGES))
def test_rubbish_is_never_more_than_an_error(data: bytes, suffix: str) -> None:
    with pytest.raises(DecodeError):
        decode_member(suffix, data)


def test_a_broken_marker_ends_the_search_for_the_size() -> None:
    with pytest.raises(DecodeError):
        decode_member("jpg", b"\xff\xd8\xff\x00" + bytes(100))


@given(at=st.integers(0, 1800), value=st.integers(0, 255), suffix=st.sampled_from(["png", "jpg", "webp"]))
def test_a_damaged_byte_gives_an_image_or_an_error(at: int, value: int, suffix: str) -> None:
    # torchvision's PNG operator ends the process on a third of these.
    data = bytearray(encode(Image.fromarray(PIXELS), suffix))
    data[at % len(data)] = value
    try:
        image_of(bytes(data), suffix)
    except DecodeError:
        return


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_bomb_is_refused_from_its_header(suffix: str) -> None:
    data = bytearray(encode(Image.fromarray(PIXELS), suffix))
    if suffix == "png":
        struct.pack_into(">II", data, 16, 100_000, 100_000)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    else:
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 60_000, 60_000)
    with pytest.raises(DecodeError, match="pixels, more than"):
        decode_member(suffix, bytes(data))


def test_a_batch() -> None:
    images = [PIXELS, PIXELS[::-1]]
    encoded = [np.frombuffer(bytearray(encode(Image.fromarray(i), "png")), np.uint8) for i in images]
    found = decode_images(encoded, "png")
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), np.stack(images))
    assert decode_images([], "png").shape == (0, 3, 0, 0)


def test_images_of_different_sizes_need_an_image_size() -> None:
    images = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[:10, :12])]
    encoded = [np.frombuffer(bytearray(encode(i, "png")), np.uint8) for i in images]
    with pytest.raises(DecodeError, match=r"B is 10 x 12 where A is 20 x 30.*image_size"):
        decode_images(encoded, "png", name="AB".__getitem__)
    assert decode_images(encoded, "png", size=16).shape == (2, 3, 16, 16)


def test_scaling_cuts_the_centre_out() -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 200
    [found] = decode_images([np.frombuffer(bytearray(encode(Image.fromarray(pixels), "png")), np.uint8)], "png", size=8)
    assert (found == 200).all()
