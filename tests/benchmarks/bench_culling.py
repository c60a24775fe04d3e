"""Dataset Culling: a day of one frame a second scored from boxes, and SemDeDup on features.

The boxes are made up, of the sizes and numbers of a street scene: twenty a frame of three classes. The student's are
the teacher's, moved by some pixels, one in five of them elsewhere, with scores of their own. CPU time, one core.
"""

from pathlib import Path
from time import process_time

import numpy as np
from benchlib import Result, medians
from threadpoolctl import threadpool_limits

from tamis.curation import Inputs
from tamis.curation.culling import Detections, Floors, agreement, confidence_losses
from tamis.curation.culling.semdedup import select_semdedup


def run(quick: bool, data: Path | None) -> list[Result]:
    frames, boxes, repeats = (500, 20, 1) if quick else (86_400, 20, 3)
    samples, width = (2_000, 16) if quick else (50_000, 512)
    student, teacher = made(frames, boxes)
    every = Floors(0.0)

    def score() -> None:
        confidence_losses(student, floors=every)
        agreement(student, teacher, floors=every).losses(standardize=True)

    features = np.random.default_rng(0).normal(size=(samples, width)).astype(np.float32)
    inputs = Inputs(samples, features_NE=features)

    def choose() -> None:
        select_semdedup(inputs, k=samples // 2, generator=np.random.default_rng(0))

    with threadpool_limits(1, user_api="blas"):
        (scored,) = medians(repeats, score, clock=process_time)
        (chosen,) = medians(1, choose, clock=process_time)
    return [
        Result(
            "confidence loss and matching", scored, "s", target=2, note=f"{frames} frames x {boxes} boxes, all count"
        ),
        Result("semdedup, half of the samples", chosen, "s", note=f"{samples} x {width}"),
    ]


def made(frames: int, boxes: int) -> tuple[Detections, Detections]:
    """A student's and a teacher's boxes."""
    draw, count = np.random.default_rng(0), frames * boxes
    starts = draw.uniform((0, 0), (1240, 680), (count, 2))
    teacher = np.concatenate([starts, starts + draw.uniform(20, 200, (count, 2))], axis=1).astype(np.float32)
    moved = teacher + draw.normal(0, 4, teacher.shape).astype(np.float32)
    lost = draw.random(count) < 0.2
    moved[lost] += draw.uniform(-400, 400, (int(lost.sum()), 1)).astype(np.float32)
    moved = np.sort(moved.reshape(count, 2, 2), axis=1).reshape(count, 4)
    offsets, labels = np.arange(frames + 1) * boxes, draw.integers(0, 3, count, np.int32)
    status, classes = np.ones(frames, np.int8), ("car", "person", "bus")
    scores = draw.random((2, count), np.float32)
    return (
        Detections(offsets, labels, scores[0], moved, status, classes),
        Detections(offsets, labels, scores[1], teacher, status, classes),
    )
