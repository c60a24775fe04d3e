"""A dataset of two cameras, ten frames each, one every half second; boxes and scores of them by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from videokit import H, W, video

from tamis.store import Store
from tamis.store.boxes import DETECT, Frames, starts
from tamis.store.datasets import Dataset
from tamis.store.video import Source
from tamis.store.video.adding import add_videos

Row = tuple[float, float, float, float, float]  # score, x1, y1, x2, y2


def footage(store: Store, folder: Path) -> Dataset:
    """Samples 0 to 9 are of camera north, 10 to 19 of camera south, of 64 x 48 pixels."""
    sources = [Source(str(video(folder / f"{name}.mp4")), name) for name in ("north", "south")]
    return add_videos(store.datasets, "site", sources, folder / "shards", fps="2").dataset


def found(
    store: Store,
    dataset: Dataset,
    key: str,
    rows: Mapping[int, Sequence[Row]],
    *,
    ms: float = 2.0,
    selection: str | None = None,
    model: str | None = None,
) -> str:
    """A detector's pass that looked at some samples, those of a selection (its key), and its milliseconds a frame."""
    flat, count = [row for one in rows.values() for row in one], len(rows)
    frames = Frames(
        np.asarray([*rows], np.int64), starts(np.asarray([len(one) for one in rows.values()], np.int64)),
        np.zeros(len(flat), np.int32), np.asarray([row[0] for row in flat], np.float32),
        np.asarray([row[1:] for row in flat], np.float32).reshape(-1, 4),
        np.tile(np.asarray([[W, H]], np.int32), (count, 1)), [None] * count, np.full(count, ms, np.float32),
    )  # fmt: skip
    about = {"classes": ["car"], "model": model or f"model of {key}"}
    store.runs.begin(
        kind=DETECT, key=key, dataset=dataset.ref, model=f"{key}:net", config=about, selection=selection
    )  # fmt: skip
    store.runs.put_boxes(key, iter([frames]))
    metrics = {"samples": count, "cached": 0, "ms": ms}
    store.runs.finish(key, metrics=metrics, seconds={"total": ms * count / 1e3})
    return key
