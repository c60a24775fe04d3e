"""Detection: what is learnt from a run's boxes, how good a detector is, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boxed import SIDE, boxed, drawn, keep
from numbered import Write
from pydantic import ValidationError

from tamis.store import Store
from tamis.training.config import InLoop
from tamis.training.errors import LabelError
from tamis.training.job import TrainConfig, train
from tamis.training.planning import plan
from tamis.training.signals.outputs import load_model
from tamis.training.streaming.stream import SelectionStream
from tamis.training.tasks.coco import average_precision
from tamis.training.tasks.detection import Detection
from tamis.training.tasks.truth import truth_of
from tamis.training.trainer import Fitting

QUICK: dict[str, Any] = {
    "dataset": "boxed", "task": "detection", "model": "ssd64-resnet18@0.25", "epochs": 4, "batch_size": 8, "lr": 0.02,
    "truth": ("boxed-boxes",),
}  # fmt: skip


def targets(store: Store, task: Detection, name: str, size: int | None = None) -> torch.Tensor:
    dataset = store.datasets.get(name)
    stream = SelectionStream(
        store, dataset, batch_size=100, rank=0, world=1, shuffle=False, image_size=size, targets=task.targets(dataset)
    )
    [batch] = stream.epoch(0)
    return batch.labels


@pytest.fixture
def task(store: Store, tmp_path: Path, write: Write) -> Detection:
    boxed(store, tmp_path, write, "boxed", range(24))
    return Detection().bound(store, TrainConfig(**QUICK).model_dump())


def test_a_batch_has_the_boxes_of_its_images_and_padding(store: Store, task: Detection) -> None:
    found = targets(store, task, "boxed")
    assert found.shape == (24, 2, 5)
    for seed, rows in enumerate(found):
        assert sorted(rows[rows[:, 0] >= 0].tolist()) == sorted(map(list, drawn(seed)[1]))
    assert task.outputs(store, store.datasets.get("boxed")) == 3
    assert (found[5, :, 0] == -1).all()


def test_boxes_are_scaled_and_cut_as_images_are(store: Store, task: Detection, tmp_path: Path, write: Write) -> None:
    """64 pixels to 32: every corner is halved."""
    smaller = Detection().bound(store, TrainConfig(**QUICK | {"image_size": 32}).model_dump())
    whole, half = targets(store, task, "boxed"), targets(store, smaller, "boxed", 32)
    near = whole[:, :, 0] >= 0
    torch.testing.assert_close(half[near][:, 1:], whole[near][:, 1:] / 2)


def test_perfect_detections_have_a_precision_of_1_and_none_0() -> None:
    truth = [np.asarray(drawn(seed)[1], np.float32).reshape(-1, 5) for seed in range(20)]
    found = [np.concatenate([rows, np.full((len(rows), 1), 0.9)], axis=1) for rows in truth]
    assert average_precision(truth, found, 2) == {"map": 1, "map50": 1, "map_small": 1}
    assert average_precision(truth, [rows[:0] for rows in found], 2)["map"] == 0
    shifted = [rows + np.asarray([0, 8, 0, 8, 0, 0]) for rows in found]  # overlaps of 10 / 26 to 19 / 35: under .55
    assert average_precision(truth, shifted, 2)["map"] < 0.06


def test_sizes_are_those_of_coco() -> None:
    """Boxes of 31^2, 33^2 and 97^2 pixels, of which the middle one is not found."""
    truth = [np.asarray([[0, 0, 0, side, side]], np.float32) for side in (31, 33, 97)]
    found = [np.concatenate([rows, np.ones((1, 1))], axis=1) for rows in truth]
    found[1] = found[1][:0]
    judged = average_precision(truth, found, 1)
    assert (judged["map_small"], judged["map_medium"], judged["map_large"]) == (1, 0, 1)


def test_a_student_learns_and_is_judged(store: Store, task: Detection, tmp_path: Path, write: Write) -> None:
    boxed(store, tmp_path, write, "judged", range(30, 36))
    config = TrainConfig(
        **QUICK | {"evaluate_on": "judged", "evaluate_every": 1, "truth": ("boxed-boxes", "judged-boxes")}
    )
    run = train(store, config, device="cpu").run
    assert {"map", "map50", "map_small", "loss"} <= run.metrics.keys()
    losses = [one["train_loss"] for one in run.metrics["history"]]
    assert losses[-1] < 0.8 * losses[0]
    assert run.blob is not None
    model, meta = load_model(store, run.blob)
    assert (meta.task, meta.classes, meta.num_classes) == ("detection", ("red", "blue"), 3)
    [one] = task.found(model, torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8))
    assert {"boxes", "labels", "scores"} == one.keys()


def test_selective_backprop_in_the_batch_trains_on_a_part_and_resumes_to_the_bit(
    store: Store, tmp_path: Path, write: Write
) -> None:
    boxed(store, tmp_path, write, "boxed", range(12))
    strategy = InLoop(name="in-batch", begin=0.25, end=1.0, share=0.5, interrupt=2)
    fewer: dict[str, Any] = {"strategy": strategy, "epochs": 2, "batch_size": 4, "augment": "zoom-flip"}
    made = plan(store, TrainConfig(**QUICK | fewer))
    whole = Fitting(store, made, device="cpu", resumable=False).fit()
    # Epoch 0 is whole (12); of epoch 1's three batches the middle one keeps half.
    assert whole.metrics["backprops"] == 12 + 4 + 2 + 4

    class Killed(Exception):
        pass

    def kill(done: int, _total: int) -> None:
        if done == 5:
            raise Killed

    store.runs.begin(kind="train", key=made.key, dataset="boxed@1")
    with pytest.raises(Killed):
        Fitting(store, made, device="cpu", every=5).fit(kill)
    spoken = list[str]()
    again = Fitting(store, made, device="cpu", every=5, notify=spoken.append).fit()
    assert any("Resuming" in one for one in spoken)
    assert again.model == whole.model


def test_bad_truth_is_refused(store: Store, task: Detection, tmp_path: Path, write: Write) -> None:
    dataset = store.datasets.get("boxed")
    boxed(store, tmp_path, write, "other", range(6), classes=("blue", "red"))
    both = TrainConfig(**QUICK | {"truth": ("boxed-boxes", "other-boxes")})
    bound = Detection().bound(store, both.model_dump())
    with pytest.raises(LabelError, match="other@1 are of the classes blue, red, those of boxed@1 of red, blue"):
        bound.outputs(store, dataset, store.datasets.get("other"))
    with pytest.raises(LabelError, match="The boxes of other@1 are not known: give the run"):
        task.outputs(store, dataset, store.datasets.get("other"))
    with pytest.raises(LabelError, match="both have boxes of boxed@1"):
        Detection().bound(store, TrainConfig(**QUICK | {"truth": ("boxed-boxes",) * 2}).model_dump())
    keep(store, dataset, "none", [[] for _ in range(24)], ("red", "blue"))
    with pytest.raises(LabelError, match="has no box with a score of 0 or more"):
        truth_of(store, dataset, "none")
    keep(store, dataset, "part", [[(0, 1, 1, 9, 9)], *[None] * 23], ("red", "blue"))
    part = Detection().bound(store, TrainConfig(**QUICK | {"truth": ("part",)}).model_dump())
    with pytest.raises(LabelError, match=r"Sample i001 \(number 1\): run part did not look at it"):
        targets(store, part, "boxed")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "resnet18"}, "resnet18 is no detector, and the task is detection"),
        ({"truth": None}, "detection and truth belong together"),
        ({"task": "classification"}, "is a detector, and the task is classification"),
        ({"task": "regression", "truth": None, "model": "resnet18", "augment": "zoom-flip"}, "is for detection"),
    ],
)
def test_configurations_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**QUICK | fields)
