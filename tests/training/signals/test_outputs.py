"""Signals: what a model says about every sample, in the samples' order."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import SIDE, Write, numbered
from torch import Tensor, nn
from torch.nn import functional

from tamis.curation.uncertainty import MEASURES
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import BlobNotFound, ShardChanged
from tamis.training.errors import CheckpointError
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.models.weights import ModelMeta, pack_model, unpack_model
from tamis.training.signals.outputs import load_model, predict, score_shard
from tamis.training.streaming.stream import SelectionStream

META = ModelMeta("preact8", 10, 1, (0.3,), (0.4,), ("a", "b"))


@pytest.fixture
def model() -> ImageClassifier:
    return ImageClassifier(build_model("preact8", num_classes=10, in_channels=1, seed=4), META.mean, META.std).eval()


def whole(store: Store, dataset: Dataset) -> Tensor:
    [batch] = SelectionStream(store, dataset, shuffle=False, channels=1, batch_size=dataset.samples).epoch(0)
    return batch.images


@pytest.mark.parametrize("batch_size", [1000, 64, 7])
def test_scores_are_those_of_the_logits(
    store: Store, dataset: Dataset, model: ImageClassifier, batch_size: int
) -> None:
    with torch.inference_mode():
        logits = model(whole(store, dataset))
    labels = torch.tensor(dataset.labels())
    shard = dataset.shards[2]
    part = slice(shard.first_sample, shard.first_sample + shard.count)
    found = score_shard(store, dataset, 2, model, META, device="cpu", batch_size=batch_size)
    assert list(found) == ["confidence", "margin", "entropy", "predicted", "loss", "correct"]
    for name, measure in MEASURES.items():
        np.testing.assert_allclose(found[name], measure(logits[part]), rtol=1e-4, atol=1e-9)
    losses = functional.cross_entropy(logits[part], labels[part], reduction="none")
    np.testing.assert_allclose(found["loss"], losses, rtol=1e-4, atol=1e-5)
    assert np.array_equal(found["predicted"], logits[part].argmax(1))
    assert np.array_equal(found["correct"], (logits[part].argmax(1) == labels[part]))
    kinds = [found[name].dtype for name in found]
    assert kinds == [np.float64, np.float64, np.float64, np.int64, np.float64, np.bool_]


def test_predictions_name_their_samples(store: Store, dataset: Dataset, model: ImageClassifier) -> None:
    stream = SelectionStream(store, dataset, channels=1, batch_size=100)
    model.train()
    samples, logits = (torch.cat(part) for part in zip(*predict(model, stream.epoch(3), "cpu"), strict=True))
    assert not model.training
    assert (samples.dtype, logits.dtype, logits.shape) == (torch.int64, torch.float32, (dataset.samples, 10))
    with torch.inference_mode():
        expected = model(whole(store, dataset))
    torch.testing.assert_close(logits, expected[samples], rtol=1e-4, atol=1e-4)


class Odd(nn.Module):
    """NaN for sample 1, +inf for sample 2, a masked class for sample 3."""

    def forward(self, images: Tensor) -> Tensor:
        number = images[:, 0, 0, 0].long()
        logits = torch.stack([number.float(), torch.zeros(len(number)), torch.ones(len(number))], dim=1)
        logits[number == 1, 0] = math.nan
        logits[number == 2, 1] = math.inf
        logits[number == 3, 2] = -math.inf
        return logits


def test_logits_that_are_not_finite_give_nan(store: Store, sixty: Dataset) -> None:
    found = score_shard(store, sixty, 0, Odd(), META, device="cpu", batch_size=10)
    for name in MEASURES:
        assert np.flatnonzero(np.isnan(found[name])).tolist() == [1, 2]
    assert np.isnan(found["loss"][1])


def test_data_without_labels_has_no_losses(store: Store, tmp_path: Path, write: Write, model: ImageClassifier) -> None:
    shard = write(tmp_path / "bare.tar", [(f"s{i}", {"png": numbered(i)}) for i in range(5)])
    dataset = store.datasets.add("bare", [shard], label=None)
    assert set(score_shard(store, dataset, 0, model, META, device="cpu")) == {*MEASURES, "predicted"}


def test_a_class_that_the_model_lacks_has_no_loss(store: Store, tmp_path: Path, write: Write) -> None:
    samples = [(f"s{i}", {"png": numbered(9 + i), "cls": b"%d" % label}) for i, label in enumerate((0, 7, 2))]
    dataset = store.datasets.add("wide", [write(tmp_path / "wide.tar", samples)])
    found = score_shard(store, dataset, 0, Odd(), META, device="cpu")
    assert np.isnan(found["loss"]).tolist() == [False, True, False]
    assert not found["correct"][1]


def test_images_are_scaled_as_in_training(store: Store, sixty: Dataset) -> None:
    shapes: list[tuple[int, ...]] = []

    class Watch(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            shapes.append(tuple(images.shape[1:]))
            return torch.zeros(len(images), 2)

    meta = ModelMeta("x", 2, 3, (0.5,) * 3, (0.5,) * 3, image_size=2 * SIDE)
    score_shard(store, sixty, 2, Watch(), meta, device="cpu")
    assert shapes == [(3, 2 * SIDE, 2 * SIDE)]


def test_a_changed_shard_is_named(store: Store, sixty: Dataset) -> None:
    Path(sixty.shards[1].uri).write_bytes(b"")
    score_shard(store, sixty, 0, Odd(), META, device="cpu")
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar"):
        score_shard(store, sixty, 1, Odd(), META, device="cpu")


def test_batch_size_is_checked(store: Store, sixty: Dataset) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        score_shard(store, sixty, 0, Odd(), META, batch_size=0)


def test_a_model_comes_back_as_it_was(store: Store, model: ImageClassifier) -> None:
    digest = store.blobs.put(pack_model(model.network.state_dict(), META))
    loaded, meta = load_model(store, digest)
    assert meta == META
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))


def test_the_same_weights_give_the_same_bytes(model: ImageClassifier) -> None:
    packed = pack_model(model.network.state_dict(), META)
    again = build_model("preact8", num_classes=10, in_channels=1, seed=4).to(memory_format=torch.channels_last)
    assert pack_model(again.state_dict(), META) == packed
    weights, meta = unpack_model(packed)
    assert pack_model(weights, meta) == packed


def test_tied_weights_can_be_kept() -> None:
    tied = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    tied[1].weight = tied[0].weight
    weights, _ = unpack_model(pack_model(tied.state_dict(), META))
    assert torch.equal(weights["0.weight"], weights["1.weight"])


def test_what_is_no_model_is_refused(store: Store, model: ImageClassifier) -> None:
    from safetensors.torch import save

    state = model.network.state_dict()
    good = pack_model(state, META)
    foreign = [
        b"",
        b"rubbish" * 50,
        good[:-10],
        save({"x": torch.zeros(2)}),
        save({"x": torch.zeros(2)}, {"tamis": "[]"}),
    ]
    for data in foreign:
        with pytest.raises(CheckpointError, match="not a tamis model"):
            load_model(store, store.blobs.put(data))
    smaller = ModelMeta("preact8", 7, 1, (0.3,), (0.4,))
    with pytest.raises(CheckpointError, match="do not fit preact8 with 7 outputs"):
        load_model(store, store.blobs.put(pack_model(state, smaller)))
    with pytest.raises(BlobNotFound):
        load_model(store, "0" * 64)
