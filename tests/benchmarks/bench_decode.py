"""Decoding photographs to 224 x 224, against pillow the whole way, and beside torchvision's and WebDataset's decoders.

The photographs are those that come with scikit-learn and Matplotlib, cut to 4:3 and encoded anew by pillow (4:2:0) at
the best quality that keeps to a size. "Pillow" is how every image was decoded and scaled until JPEG got its own way:
its codec, its antialiased resizing of the whole picture, and the cut. Figures are CPU time of one thread.
"""

import io
import time
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
import sklearn
import torch
import webdataset as wds
from benchlib import Result, medians
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from tamis.training.decoding import jpeg
from tamis.training.decoding.decode import decode_images

SIZE = 224
SHAPES = ((500, 375, 55_000, 0.45), (2000, 1500, 400_000, 0.3))  # width, height, bytes, target
BATCH = 33  # images decoded in one call, each photograph several times
MEAN, WORST = 2, 16  # levels of difference from pillow

Way = Callable[[bytes], object]


def run(quick: bool, data: Path | None) -> list[Result]:
    turns = 1 if quick else 25
    results: list[Result] = []
    with _one_thread():
        for width, height, most, target in SHAPES:
            photographs = [
                _encode(image, (width, height), most) for image in islice(_photographs(), 1 if quick else None)
            ]
            results += _timed(photographs, f"{width} x {height}", target, turns)
            results += _compared(photographs, f"{width} x {height}")
        results += _png(turns)
    return results


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """[224, 224, 3] by pillow alone."""
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image = Image.frombytes("RGB", image.size, data, "jpeg", "RGB", "")
    scale = SIZE / min(image.size)
    width, height = (max(SIZE, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def _timed(photographs: list[bytes], shape: str, target: float, turns: int) -> list[Result]:
    ours = partial(decode_images, suffix="jpg", size=SIZE)
    ways: dict[str, Way] = {
        "pillow": by_pillow,
        "torchvision (decode_jpeg, resize)": _torchvision,
        "webdataset (torchrgb8), resize": _webdataset("torchrgb8", _fit_tensor),
        "webdataset (pilrgb), resize": _webdataset("pilrgb", v2.Compose([_fit_pil, v2.PILToTensor()])),
        "the same without simplejpeg": _without_simplejpeg,
    }
    batch = photographs * max(1, BATCH // len(photographs))
    work = [lambda: ours(batch), *(partial(_each, way, batch) for way in ways.values())]
    mine, *others = (1e3 * s / len(batch) for s in medians(turns, *work, clock=time.process_time))
    sizes = ", ".join(f"{len(data) / 1e3:.0f}" for data in photographs)
    first = f"{len(photographs)} JPEGs of {sizes} kB, batches of {len(batch)}, one thread"
    return [
        Result(f"{shape} to {SIZE}", mine, "ms", name, other, None if number else target, "" if number else first)
        for number, (name, other) in enumerate(zip(ways, others, strict=True))
    ]


def _each(way: Way, photographs: list[bytes]) -> None:
    for data in photographs:
        way(data)


def _compared(photographs: list[bytes], shape: str) -> list[Result]:
    ours = decode_images(photographs, "jpg", size=SIZE).permute(0, 2, 3, 1).numpy().astype(int)
    apart = [np.abs(mine - by_pillow(data)) for mine, data in zip(ours, photographs, strict=True)]
    return [
        Result(f"{shape}: levels from pillow, mean", max(float(a.mean()) for a in apart), "levels", target=MEAN),
        Result(f"{shape}: levels from pillow, worst", float(max(a.max() for a in apart)), "levels", target=WORST),
    ]


def _png(turns: int) -> list[Result]:
    file = io.BytesIO()
    next(_photographs()).resize((32, 32)).save(file, "PNG")
    several = [file.getvalue()] * 100

    def plain() -> None:
        for data in several:
            np.asarray(Image.open(io.BytesIO(data)))

    mine, other = medians(turns, lambda: decode_images(several, "png"), plain, clock=time.process_time)
    return [Result("32 x 32 PNG", 1e6 * mine / 100, "µs", "pillow", 1e6 * other / 100, 0.7, "libspng")]


def _torchvision(data: bytes) -> torch.Tensor:
    # The copy gives torch memory that it may write to, which it insists on.
    return _fit_tensor(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB))


def _webdataset(spec: str, fit: Callable[[object], object]) -> Way:
    decode = wds.autodecode.imagehandler(spec)
    return lambda data: fit(decode("jpg", data))


def _without_simplejpeg(data: bytes) -> torch.Tensor:
    there, jpeg.simplejpeg = jpeg.simplejpeg, None
    try:
        return decode_images([data], "jpg", size=SIZE)
    finally:
        jpeg.simplejpeg = there


_fit_tensor = v2.Compose([v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE)])
_fit_pil = v2.Compose([v2.Resize(SIZE), v2.CenterCrop(SIZE)])


def _photographs() -> Iterator[Image.Image]:
    images = Path(sklearn.__file__).parent / "datasets" / "images"
    for path in (*sorted(images.glob("*.jpg")), Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"):
        with Image.open(path) as image:
            yield image.convert("RGB")


def _encode(image: Image.Image, size: tuple[int, int], most: int) -> bytes:
    """The middle of a photograph at this size, at the best quality with which it has at most so many bytes."""
    wide, high = image.size
    width, height = min(wide, high * size[0] // size[1]), min(high, wide * size[1] // size[0])
    left, top = (wide - width) // 2, (high - height) // 2
    image = image.crop((left, top, left + width, top + height)).resize(size, Image.Resampling.LANCZOS)

    def at(quality: int) -> bytes:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        return file.getvalue()

    return at(bisect_right(range(1, 98), most, key=lambda quality: len(at(quality))))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # torchvision's, of its decoders
            yield
    finally:
        torch.set_num_threads(threads)
