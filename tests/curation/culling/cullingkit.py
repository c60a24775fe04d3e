"""What the tests of culling share: detections from plain lists."""

import numpy as np

from tamis.curation.culling import Detections

Box = tuple[str, float, tuple[float, float, float, float]]  # class, score, corners


def detections(*frames: list[Box] | None, classes: tuple[str, ...] = ("car", "person"), status: int = 0) -> Detections:
    """Frames as lists of boxes; None: one that was not looked at (or has the status given)."""
    boxes = [box for frame in frames for box in frame or []]
    counts = [len(frame or []) for frame in frames]
    return Detections(
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
        np.array([classes.index(name) for name, _, _ in boxes], np.int32),
        np.array([score for _, score, _ in boxes], np.float32),
        np.array([corners for _, _, corners in boxes], np.float32).reshape(-1, 4),
        np.array([status if frame is None else 1 for frame in frames], np.int8),
        classes,
    )


def square(x: float, y: float = 0.0, side: float = 40.0) -> tuple[float, float, float, float]:
    return (x, y, x + side, y + side)


def shuffled(given: Detections, seed: int) -> Detections:
    """The same boxes in another order within each frame."""
    generator = np.random.default_rng(seed)
    order = np.lexsort((generator.random(len(given.scores_B)), given.frames_B))
    return Detections(
        given.offsets_N1, given.labels_B[order], given.scores_B[order], given.corners_B4[order], given.status_N,
        given.classes,
    )  # fmt: skip


def random_detections(seed: int, frames: int = 12, most: int = 7) -> Detections:
    """Crowded boxes on a coarse grid, with many equal scores and equal corners, in frames of different sizes."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, most + 1, frames)
    total = int(counts.sum())
    starts = generator.integers(0, 4, (total, 2)) * 10.0
    corners = np.concatenate([starts, starts + generator.integers(2, 5, (total, 2)) * 10.0], axis=1)
    return Detections(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), generator.integers(0, 2, total).astype(np.int32),
        (generator.integers(5, 10, total) / 10).astype(np.float32), corners.astype(np.float32),
        np.ones(frames, np.int8), ("car", "person"),
    )  # fmt: skip
