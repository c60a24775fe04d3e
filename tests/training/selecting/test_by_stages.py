"""Two stages for classes, on digits: what is chosen is what the formulas say of probabilities computed here."""

import numpy as np
import pytest
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.training.job import TrainConfig, train
from tamis.training.selecting import by_stages
from tamis.training.selecting.by_stages import StagesConfig, cull_classes
from tamis.training.signals.outputs import load_model, predict
from tamis.training.streaming.batches import Chosen, Images, load_batches
from tamis.training.streaming.lookup import Index

LOOK, KEEP = 60, 20


def trained(store: Store, seed: int, epochs: int) -> str:
    config = TrainConfig(dataset="digits", model="preact8", epochs=epochs, batch_size=128, channels=1, seed=seed)
    return train(store, config, device="cpu").run.key


def probabilities(store: Store, dataset: Dataset, run: str) -> np.ndarray:
    """Of every digit, in one batch."""
    model, meta = load_model(store, str(store.runs.get(run).blob))
    everything = np.arange(dataset.samples)
    index = Index.open(store, dataset, [dataset.image])
    images = Images(meta.in_channels, meta.image_size)
    (loaded,) = load_batches(index, [Chosen(everything, np.ones(len(everything), np.float32))], images)
    ((_, logits),) = predict(model, [loaded.batch], "cpu")
    return torch.softmax(logits.double(), dim=1).numpy()


def by_hand(student: np.ndarray, teacher: np.ndarray) -> list[int]:
    """The twenty most surprising of the sixty that the student is least sure of."""
    x = student.max(axis=1)
    losses = -4 * x * np.log10(x + 1e-10) + (1 - x) / (1 + np.exp(-x)) + 0.5
    seen = sorted(range(len(x)), key=lambda i: (-losses[i], i))[:LOOK]
    surprise = {i: -float((teacher[i] * np.log(np.maximum(student[i], 1e-12))).sum()) for i in seen}
    return sorted(seen, key=lambda i: (-surprise[i], i))[:KEEP]


def test_what_is_chosen_and_what_the_teacher_saw(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = trained(store, 1, 1), trained(store, 2, 2)
    looked = dict[int, list[int]]()

    def counted(model: torch.nn.Module, batches: object, device: str) -> object:
        for samples, logits in predict(model, batches, device):  # type: ignore[arg-type]  # handed through
            looked.setdefault(id(model), []).extend(samples.tolist())
            yield samples, logits

    monkeypatch.setattr(by_stages, "predict", counted)
    config = StagesConfig(dataset="digits", student=student, teacher=teacher, look=LOOK, keep=KEEP)
    made = cull_classes(store, config, device="cpu", batch_size=500)
    chosen, weights = made.selection.round_at(0)
    both = [probabilities(store, dataset, run) for run in (student, teacher)]
    # the likeliest to differ by rounding are the last of a stage: all but one or two must be the same
    assert len(set(chosen.tolist()) & set(by_hand(*both))) >= KEEP - 1
    assert chosen[:5].tolist() == by_hand(*both)[:5]
    assert (weights == 1).all()
    by_student, by_teacher = sorted(looked.values(), key=len, reverse=True)
    assert len(by_student) == dataset.samples + LOOK
    assert len(by_teacher) == len(set(by_teacher)) == LOOK
    assert set(chosen.tolist()) <= set(by_teacher)
    assert made.selection.stats["looked_at_by_teacher"] == LOOK
    assert not cull_classes(store, config, device="cpu").created
    assert len(looked) == 2
    assert cull_classes(store, config, device="cpu", batch_size=500, force=True).confirmed
    with pytest.raises(SelectionError, match="cannot be kept of 10"):
        cull_classes(store, config.model_copy(update={"look": 10}))
    with pytest.raises(ValueError, match="one model"):
        StagesConfig(dataset="digits", student=student, teacher=student, look=LOOK, keep=KEEP)
