"""Pictures without cutting: worked by hand, and the same through every decoder."""

import io

import numpy as np
import pytest
from PIL import Image

from tamis.training.decoding.decode import decode_images
from tamis.training.decoding.whole import PADDING, How, fit_whole


def encoded(pixels: np.ndarray, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def test_by_hand() -> None:
    """4 x 8, the left half white: stretched, the left half is white still; padded, bars of 2 are above and below."""
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, :4] = 255
    image = Image.fromarray(pixels)
    flat = np.asarray(fit_whole(image, 4, "stretch"))
    assert (flat[:, [0, 3]] == [255, 0]).all()
    padded = np.asarray(fit_whole(image, 8, "pad"))
    assert (padded[[0, 1, 6, 7]] == PADDING).all()
    assert (padded[2:6] == pixels).all()
    tall = np.asarray(fit_whole(Image.fromarray(pixels.T), 8, "pad"))
    assert (tall == padded.T).all()
    assert np.asarray(fit_whole(Image.new("RGB", (1, 1000)), 10, "pad")).shape == (10, 10, 3)


@pytest.mark.parametrize("how", ["stretch", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_decoder_sees_the_sides(how: How, channels: int) -> None:
    """A large JPEG is decoded at a part of its size; what is where stays the same."""
    rows, columns = np.mgrid[:450, :801]
    pixels = np.stack([columns * 255 / 801, rows * 255 / 450, 0 * rows], axis=-1).astype(np.uint8)
    (png,), (jpg,) = (
        decode_images([encoded(pixels, form, **options)], suffix, channels=channels, size=48, fit=how).numpy()
        for form, suffix, options in (("PNG", "png", {}), ("JPEG", "jpg", {"quality": 95, "subsampling": 0}))
    )
    assert png.shape == (channels, 48, 48)
    # where padding meets the picture, a part of a row more or less may be scaled in
    assert np.quantile(np.abs(png.astype(int) - jpg), 0.98) <= 3
    seen = png[0, 24].astype(int)
    assert seen[-1] - seen[0] > (200 if channels == 3 else 60)  # of 255, .299 of it in grey
    cut = decode_images([encoded(pixels, "PNG")], "png", channels=channels, size=48).numpy()[0, 0, 24].astype(int)
    assert cut[-1] - cut[0] < (seen[-1] - seen[0]) * 0.62  # 450 of 801 columns
