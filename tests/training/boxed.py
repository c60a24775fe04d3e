"""Images with coloured rectangles, whose boxes are exact."""

import io
from pathlib import Path

import numpy as np
from numbered import Write
from PIL import Image

from tamis.store import Store
from tamis.store.boxes import ANNOTATIONS, Frames
from tamis.store.datasets import Dataset

SIDE = 64
COLOURS = ((220, 30, 30), (30, 30, 220))
Row = tuple[int, float, float, float, float]


def drawn(seed: int) -> tuple[bytes, list[Row]]:
    """An image and its rows (class, x1, y1, x2, y2): one or two rectangles; none where the seed is 5 more than tens."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(90, 140, (SIDE, SIDE, 3)).astype(np.uint8)
    rows: list[Row] = []
    for place in range(0 if seed % 10 == 5 else 1 + seed % 2):
        label, side = int(generator.integers(2)), int(generator.integers(18, 28))
        x, y = (int(one) for one in generator.integers(2, SIDE // 2 - side, 2)) if side < 28 else (2, 2)
        x, y = x + place * SIDE // 2, y + place * SIDE // 2
        pixels[y : y + side, x : x + side] = COLOURS[label]
        rows.append((label, x, y, x + side, y + side))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), rows


def boxed(
    store: Store, folder: Path, write: Write, name: str, seeds: range, classes: tuple[str, ...] = ("red", "blue")
) -> tuple[Dataset, str]:
    """A dataset of such images, and the key of the run that has their boxes."""
    made = [drawn(seed) for seed in seeds]
    shard = write(folder / f"{name}.tar", [(f"i{i:03d}", {"png": image}) for i, (image, _) in enumerate(made)])
    dataset = store.datasets.add(name, [shard], label=None)
    key = f"{name}-boxes"
    keep(store, dataset, key, [rows for _, rows in made], classes)
    return dataset, key


def keep(
    store: Store, dataset: Dataset, key: str, rows: list[list[Row] | None], classes: tuple[str, ...], *,
    kind: str = ANNOTATIONS,
) -> None:  # fmt: skip
    """Boxes of a dataset under a run's key; None where a sample was not looked at."""
    looked = [i for i, one in enumerate(rows) if one is not None]
    flat = [row for one in rows for row in one or ()]
    frames = Frames(
        np.asarray(looked), np.concatenate([[0], np.cumsum([len(rows[i] or ()) for i in looked])]).astype(np.int64),
        np.asarray([row[0] for row in flat], np.int32), np.ones(len(flat), np.float32),
        np.asarray([row[1:] for row in flat], np.float32).reshape(-1, 4),
        np.full((len(looked), 2), SIDE, np.int32), [None] * len(looked),
    )  # fmt: skip
    store.runs.begin(kind=kind, key=key, dataset=dataset.ref, config={"classes": [*classes]})
    store.runs.put_boxes(key, iter([frames]))
    store.runs.finish(key)
