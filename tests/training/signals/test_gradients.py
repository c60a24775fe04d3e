"""Gradients of single samples: the closed form and torch.func against plain backward passes, one sample at a time."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tamis.curation.gradmatch.gradients import LastLayer, Matrix
from tamis.curation.gradmatch.matching import match
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.errors import HeadError, LabelError
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.signals.gradients import last_layer, per_sample_gradients
from tamis.training.streaming.batches import Batch
from tamis.training.streaming.stream import SelectionStream


def batches(count: int = 11, size: int = 4, channels: int = 3, side: int = 16, classes: int = 5) -> list[Batch]:
    """Random images; sample i has number 100 + i."""
    source = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=source)
    labels = torch.randint(0, classes, (count,), generator=source)
    every = Batch(images, labels, torch.ones(count), torch.arange(100, 100 + count))
    return [Batch(*(part[a : a + size] for part in every)) for a in range(0, count, size)]


def classifier(network: nn.Module, channels: int = 3) -> ImageClassifier:
    return ImageClassifier(network, (0.4,) * channels, (0.3,) * channels)


def one_by_one(model: nn.Module, parameters: Sequence[Tensor], given: Sequence[Batch]) -> np.ndarray:
    """The gradient of each sample's loss by a backward pass of its own, flat."""
    model.eval()
    rows: list[np.ndarray] = []
    for batch in given:
        for image, label in zip(batch.images, batch.labels, strict=True):
            loss = functional.cross_entropy(model(image[None]).reshape(1, -1), label[None])
            rows.append(np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, list(parameters))]))
    return np.stack(rows)


def closed(gradients: LastLayer) -> np.ndarray:
    """Written out in the order of autograd: all weights, then all biases."""
    rows = gradients.rows(np.arange(len(gradients)))
    if not gradients.bias:
        return rows
    wide = rows.reshape(len(rows), gradients.classes, -1)
    return np.concatenate([wide[:, :, :-1].reshape(len(rows), -1), wide[:, :, -1]], axis=1)


@pytest.mark.parametrize(
    ("name", "head", "side"),
    [("preact8", "network.fc", 16), ("resnet18", "network.fc", 32), ("mobilenet_v2", "network.classifier.1", 32)],
)
def test_the_closed_form_is_the_gradient(name: str, head: str, side: int) -> None:
    model, given = classifier(build_model(name, num_classes=5)), batches(side=side)
    found = last_layer(model, given, "cpu")
    assert found.head == head
    assert isinstance(found.gradients, LastLayer)
    assert found.gradients.residuals_NC.dtype == found.gradients.features_NE.dtype == np.float32
    expected = one_by_one(model, list(model.get_submodule(head).parameters()), given)
    np.testing.assert_allclose(closed(found.gradients), expected, rtol=1e-3, atol=1e-5)
    assert found.samples.tolist() == list(range(100, 111))
    assert found.labels.tolist() == torch.cat([batch.labels for batch in given]).tolist()
    assert found.nonfinite.tolist() == []


def test_a_linear_head_by_autograd_is_the_closed_form() -> None:
    model, given = classifier(build_model("preact8", num_classes=5)), batches()
    found = per_sample_gradients(model, given, "network.fc", "cpu")
    linear = last_layer(model, given, "cpu")
    assert isinstance(found.gradients, Matrix)
    assert isinstance(linear.gradients, LastLayer)
    np.testing.assert_allclose(found.gradients.gradients_ND, closed(linear.gradients), rtol=1e-4, atol=1e-6)
    assert found.samples.tolist() == linear.samples.tolist()
    assert found.labels.tolist() == linear.labels.tolist()


class Headed(nn.Module):
    """A body and a head of one's own; what comes after the head is `after`."""

    def __init__(self, head: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(2))
        self.head, self.after = head, after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.head(self.body(x).flatten(1)))


def mlp() -> nn.Module:
    # The first layer works in place on what the head is given, which must not be seen twice.
    return nn.Sequential(nn.Hardswish(inplace=True), nn.Linear(24, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 5))


@pytest.mark.parametrize("size", [1, 4, 100])
def test_other_heads_by_autograd(size: int) -> None:
    model, given = classifier(Headed(mlp())), batches(size=size)
    found = per_sample_gradients(model, given, "network.head", "cpu")
    assert isinstance(found.gradients, Matrix)
    expected = one_by_one(model, list(model.network.head.parameters()), given)
    np.testing.assert_allclose(found.gradients.gradients_ND, expected, rtol=1e-3, atol=1e-5)
    assert found.gradients.gradients_ND.dtype == np.float32


def test_a_convolution_as_head() -> None:
    model, given = classifier(build_model("squeezenet1_1", num_classes=5)), batches(count=5, side=40)
    with pytest.raises(HeadError, match=r"network\.classifier\.3 \(AdaptiveAvgPool2d\), not a torch\.nn\.Linear"):
        last_layer(model, given, "cpu")
    found = per_sample_gradients(model, given, "network.classifier", "cpu")
    assert isinstance(found.gradients, Matrix)
    expected = one_by_one(model, list(model.network.classifier.parameters()), given)
    np.testing.assert_allclose(found.gradients.gradients_ND, expected, rtol=1e-3, atol=1e-5)


def test_a_head_without_bias() -> None:
    model, given = classifier(Headed(nn.Linear(24, 5, bias=False))), batches()
    found = last_layer(model, given, "cpu")
    assert isinstance(found.gradients, LastLayer)
    assert found.gradients.width == 24 * 5
    np.testing.assert_allclose(
        closed(found.gradients), one_by_one(model, [model.network.head.weight], given), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("after", [nn.Identity(), nn.Dropout(0.5)])
def test_what_changes_nothing_may_follow_the_head(after: nn.Module) -> None:
    assert last_layer(classifier(Headed(nn.Linear(24, 5), after)), batches(), "cpu").head == "network.head"


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fc(x.flatten(1)[:, :5].float()))


class Bare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5].float()


class Doubled(nn.Module):
    """Changes its linear layer's output where it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)[:, :5].float()).mul_(2)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Headed(nn.Linear(24, 5), nn.ReLU(inplace=True)), r"after \(ReLU\), not a torch\.nn\.Linear"),
        (Headed(nn.Linear(24, 5), nn.Softmax(1)), r"after \(Softmax\)"),
        (Headed(mlp(), nn.BatchNorm1d(5)), r"after \(BatchNorm1d\)"),
        (Twice(), r"fc \(Linear\), and .* used more than once"),
        (Doubled(), r"fc \(Linear\), and what it returns is changed afterwards"),
        (Bare(), "Bare, not"),
    ],
)
def test_a_model_without_a_linear_head_is_refused(model: nn.Module, named: str) -> None:
    floats = [Batch(batch.images.float(), *batch[1:]) for batch in batches()]
    with pytest.raises(HeadError, match=named) as refused:
        last_layer(model, floats, "cpu")
    assert "per_sample_gradients(model, batches, head=" in str(refused.value)
    assert not any(module._forward_hooks for module in model.modules())


def test_heads_that_are_none_are_refused() -> None:
    model = classifier(Headed(mlp(), nn.ReLU()))
    with pytest.raises(HeadError, match=r"no module 'fc'.*network\.after"):
        per_sample_gradients(model, batches(), "fc", "cpu")
    with pytest.raises(HeadError, match="has no parameters"):
        per_sample_gradients(model, batches(), "network.after", "cpu")
    with pytest.raises(HeadError, match="is not what the model returns"):
        per_sample_gradients(model, batches(), "network.head", "cpu")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_evaluation_mode_and_back() -> None:
    """Batch statistics and dropout have no part in it, and every module is left as it was."""
    model, given = classifier(Headed(nn.Linear(24, 5), nn.Dropout(0.5))), batches()
    model.train()
    model.network.body[1].eval()  # frozen by the user
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    seen: list[bool] = []

    def watched() -> Iterator[Batch]:
        for batch in given:
            seen.append(model.training)
            yield batch

    rows = [closed(last_layer(model, each, "cpu").gradients) for each in (watched(), given, batches(size=11))]
    per_sample_gradients(model, given, "network.head", "cpu")
    assert seen == [True] * len(given)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_allclose(rows[2], rows[0], rtol=1e-4, atol=1e-6)
    model.eval()
    np.testing.assert_array_equal(closed(last_layer(model, given, "cpu").gradients), rows[0])


class Broken(nn.Module):
    """Sample 1 has NaN for an input of its head, sample 2 an infinite logit."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = images[:, 0, 0, :3].float() / 255
        number = images[:, 1, 0, 0]
        features[number == 1, 0] = math.nan
        features[number == 2, 1] = math.inf
        return self.fc(features)


@pytest.mark.parametrize("kind", ["class", "class-gradient", "batch"])
def test_samples_with_nan_are_named_and_never_matched(kind: str) -> None:
    given = batches(classes=3)
    for number, batch in enumerate(given):
        batch.images[:, 1, 0, 0] = torch.arange(4 * number, 4 * number + len(batch.images))
    found = last_layer(Broken(), given, "cpu")
    assert found.nonfinite.tolist() == [101, 102]
    other = per_sample_gradients(Broken(), given, "fc", "cpu")
    assert other.nonfinite.tolist() == [101, 102]
    for each in (found, other) if kind != "class-gradient" else (found,):
        matched = match(each.gradients, each.labels, k=9, kind=kind, batch_size=3, generator=np.random.default_rng(0))
        assert sorted(matched.samples.tolist()) == [0, *range(3, 11)]
        assert matched.excluded.tolist() == [1, 2]


def test_labels_have_to_be_there() -> None:
    model = classifier(build_model("preact8", num_classes=5))
    for bad in (-1, 5):
        given = batches()
        given[1].labels[2] = bad
        wanted = r"1 samples .* no label that a model of 5 outputs knows .samples 106"
        with pytest.raises(LabelError, match=wanted):
            last_layer(model, given, "cpu")
        with pytest.raises(LabelError, match=wanted):
            per_sample_gradients(model, given, "network.fc", "cpu")


def test_no_batches() -> None:
    with pytest.raises(ValueError, match="no batches"):
        last_layer(classifier(build_model("preact8", num_classes=5)), [], "cpu")


def test_from_the_stream(store: Store, dataset: Dataset) -> None:
    """Real shards, in any order: the same gradients, named by their samples."""
    model = classifier(build_model("preact8", num_classes=10, in_channels=1, seed=4), channels=1)
    plain = SelectionStream(store, dataset, shuffle=False, channels=1, batch_size=300).epoch(0)
    mixed = SelectionStream(store, dataset, shuffle=True, seed=5, channels=1, batch_size=300).epoch(2)
    one, two = last_layer(model, plain, "cpu"), last_layer(model, mixed, "cpu")
    assert one.samples.tolist() == list(range(dataset.samples))
    assert one.labels.tolist() == dataset.labels().tolist()
    assert sorted(two.samples.tolist()) == one.samples.tolist()
    assert isinstance(one.gradients, LastLayer)
    assert isinstance(two.gradients, LastLayer)
    np.testing.assert_allclose(
        two.gradients.residuals_NC, one.gradients.residuals_NC[two.samples], rtol=1e-3, atol=1e-5
    )
