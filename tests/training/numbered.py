"""Tiny images whose pixels tell which sample they are."""

import contextlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tamis.store.selections import Selection

Write = Callable[[Path, Sequence[tuple[str, Mapping[str, bytes]]]], Path]
Select = Callable[..., Selection]

SIDE = 4


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def numbered(sample: int) -> bytes:
    """A 4 x 4 image whose first two pixels are the number's low and high byte."""
    pixels = np.full((SIDE, SIDE), 7, np.uint8)
    pixels[0, :2] = sample % 256, sample // 256
    return png(pixels)


def read_number(images: torch.Tensor) -> list[int]:
    """The numbers that a batch of `numbered` images carries."""
    return (images[:, 0, 0, 0].long() + 256 * images[:, 0, 0, 1].long()).tolist()


def open_shards() -> int:
    """How many descriptors of this process are shards."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # it may be closed by now: libraries have descriptors of their own
            found += os.readlink(f"/proc/self/fd/{number}").endswith(".tar")
    return found
