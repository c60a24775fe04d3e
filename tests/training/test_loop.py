"""The training step against what can be computed by hand, and that it learns."""

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from tamis.training.augmenting import augment
from tamis.training.devices import pick_device
from tamis.training.errors import NonFiniteLoss
from tamis.training.loop import (
    At,
    Recipe,
    learning_rate,
    make_optimizer,
    make_scaler,
    train_epoch,
    weighted_mean,
)
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.streaming.batches import Batch
from tamis.training.tasks.evaluation import evaluate

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=4,
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    nesterov=True,
    schedule="cosine",
    step_size=30,
    gamma=0.1,
    seed=0,
    augment="none",
    precision="fp32",
)


def batch_of(images: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> Batch:
    weights = torch.ones(len(labels)) if weights is None else weights
    return Batch(images, labels, weights, torch.arange(len(labels)))


def run(model: nn.Module, batches: list[Batch], recipe: Recipe = RECIPE, at: At = At(0, 0, 0)) -> list[torch.Tensor]:  # noqa: B008  # a tuple
    optimizer, scaler = make_optimizer(model, recipe), make_scaler(recipe, CPU)
    size = sum(len(b.samples) for b in batches)
    with torch.random.fork_rng():
        steps = train_epoch(model, batches, optimizer, scaler, recipe, at=at, size=size, device=CPU)
        return [step.losses_B for step in steps]


def digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    found = load_digits()
    images = torch.from_numpy(found.images[:count] * 15.9).to(torch.uint8)[:, None]
    return images, torch.from_numpy(found.target[:count])


def test_the_weighted_loss_by_hand() -> None:
    losses, weights = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 3.0])
    assert weighted_mean(losses, weights).item() == pytest.approx((1 + 12) / 4)
    assert weighted_mean(losses, 5 * weights).item() == pytest.approx((1 + 12) / 4)
    assert weighted_mean(losses, torch.ones(3)).item() == pytest.approx(losses.mean().item())


def test_a_batch_of_padding_gives_no_gradient() -> None:
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    weighted_mean(losses, torch.zeros(2)).backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [0, 0]


def test_schedules() -> None:
    assert [learning_rate(RECIPE, t) for t in (0, 2, 4, 5)] == pytest.approx([0.1, 0.05, 0, 0])
    assert learning_rate(RECIPE, 1) == pytest.approx(0.1 * (1 + math.sqrt(0.5)) / 2)
    step = replace(RECIPE, schedule="step", step_size=30, gamma=0.1)
    rates = [learning_rate(step, t) for t in (0, 29.9, 30, 59.9, 60)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_milestones_multiply_the_rate_when_they_are_reached() -> None:
    """The schedule of DeVries and Taylor for CIFAR-10: a fifth at 60, 120 and 160 epochs."""
    recipe = replace(RECIPE, schedule="milestones", milestones=(60, 120, 160), gamma=0.2, epochs=200)
    rates = [learning_rate(recipe, t) for t in (0, 59.99, 60, 119.99, 120, 159.99, 160, 199.99)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    assert learning_rate(replace(recipe, milestones=(5, 10), gamma=0.1), 10) == pytest.approx(0.001)  # on SVHN


@pytest.mark.parametrize(("by", "rates"), [("epochs", [0.1, 0.1, 0.1, 0.1]), ("backprops", [0.1, 0.01, 0.01, 0.001])])
def test_milestones_are_counted_as_the_schedule_is(
    monkeypatch: pytest.MonkeyPatch, by: Literal["epochs", "backprops"], rates: list[float]
) -> None:
    """Half of the dataset's 16 samples at a time, 12 of them stepped on before the epoch: 12, 20, 28, 36 backprops."""
    set_to: list[float] = []
    monkeypatch.setattr("tamis.training.loop.set_rate", lambda _optimizer, rate: set_to.append(rate))
    images, labels = digits(32)
    batches = [batch_of(images[a : a + 8], labels[a : a + 8]) for a in range(0, 32, 8)]
    model = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), [0.3], [0.4])
    recipe = replace(RECIPE, schedule="milestones", milestones=(1, 2), rate_by=by)
    with torch.random.fork_rng():
        list(
            train_epoch(
                model, batches, make_optimizer(model, recipe), make_scaler(recipe, CPU), recipe,
                at=At(0, 0, 0, 12), size=32, device=CPU, whole=16,
            )
        )  # fmt: skip
    assert set_to[:4] == pytest.approx(rates)


def test_one_step_by_hand() -> None:
    """Logits x w of a linear model with w = 0: both classes have probability 1/2, the gradient is x (1/2 - y)."""
    linear = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(linear.weight)
    model = ImageClassifier(nn.Sequential(nn.Flatten(), linear), mean=[0.0], std=[1.0])
    images = torch.tensor([255, 51], dtype=torch.uint8).view(2, 1, 1, 1)
    batch = batch_of(images, torch.tensor([0, 1]), torch.tensor([3.0, 1.0]))
    [losses] = run(model, [batch], replace(RECIPE, weight_decay=0.0, nesterov=False, momentum=0.0, lr=1.0))
    assert losses.tolist() == pytest.approx([math.log(2)] * 2)
    gradient = 0.75 * 1.0 * -0.5 + 0.25 * 0.2 * 0.5  # of class 0's weight
    assert linear.weight.flatten().tolist() == pytest.approx([-gradient, gradient])


def test_momentum_weight_decay_and_nesterov_by_hand() -> None:
    weight, velocity, lr = 2.0, 0.0, 0.1
    linear = nn.Linear(1, 1, bias=False)
    nn.init.constant_(linear.weight, weight)
    # One class: the loss is 0 whatever the logit, and only the decay moves the weight.
    model = ImageClassifier(nn.Sequential(nn.Flatten(), linear), mean=[0.0], std=[1.0])
    batch = batch_of(torch.ones(1, 1, 1, 1, dtype=torch.uint8), torch.tensor([0]))
    run(model, [batch] * 3, replace(RECIPE, weight_decay=0.5, schedule="step"))
    for _ in range(3):
        gradient = 0.5 * weight
        velocity = 0.9 * velocity + gradient
        weight -= lr * (gradient + 0.9 * velocity)
    assert linear.weight.item() == pytest.approx(weight)


def test_augmented_images_are_shifted_and_mirrored() -> None:
    images = torch.arange(1, 2 * 3 * 5 * 6 + 1, dtype=torch.uint8).view(2, 3, 5, 6).repeat(40, 1, 1, 1)
    found = augment(images, "crop-flip", torch.Generator().manual_seed(0))
    assert found.shape == images.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    seen: set[tuple[int, int, bool]] = set()
    for image, result in zip(padded, found, strict=True):
        crops = {
            (y, x, flip): (image.flip(2) if flip else image)[
                :, y : y + 5, (8 - x if flip else x) : (14 - x if flip else x + 6)
            ]
            for y in range(9)
            for x in range(9)
            for flip in (False, True)
        }
        matches = [where for where, crop in crops.items() if torch.equal(crop, result)]
        assert matches
        seen.update(matches)
    assert {flip for _, _, flip in seen} == {False, True}
    assert len({y for y, _, _ in seen}) == len({x for _, x, _ in seen}) == 9


def test_augmentation_is_a_function_of_its_generator() -> None:
    images, _ = digits(20)
    first, same, other = (augment(images, "crop-flip", torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert augment(images, "none", torch.Generator()) is images


def test_steps_depend_on_seed_epoch_and_position_alone() -> None:
    def dropout_run(recipe: Recipe, at: At) -> list[torch.Tensor]:
        torch.manual_seed(id(recipe) % 1000)  # whatever happened before
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
        with torch.no_grad():
            network[2].weight.copy_(torch.linspace(-1, 1, 640).view(10, 64))
            network[2].bias.zero_()
        images, labels = digits(64)
        batches = [batch_of(images[a : a + 16], labels[a : a + 16]) for a in range(0, 64, 16)]
        return run(ImageClassifier(network, [0.3], [0.4]), batches, recipe, at)

    augmented = replace(RECIPE, augment="crop-flip")
    first, same = dropout_run(augmented, At(0, 0, 0)), dropout_run(replace(augmented), At(0, 0, 7))
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], dropout_run(augmented, At(1, 0, 0))[0])
    assert not torch.equal(first[0], dropout_run(replace(augmented, seed=1), At(0, 0, 0))[0])


class BadSecondBatch(nn.Module):
    """Logits that are NaN for three samples of the second batch it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = nn.Linear(64, 10), 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        logits = self.linear(images.flatten(1))
        return torch.cat([logits[:3] * torch.nan, logits[3:]]) if self.calls == 2 else logits


def test_losses_that_are_not_finite_stop_the_training() -> None:
    images, labels = digits(32)
    network = BadSecondBatch()
    batches = [batch_of(images[a : a + 8], labels[a : a + 8]) for a in range(0, 32, 8)]
    with pytest.raises(NonFiniteLoss, match=r"3 of 8 losses are NaN or infinite in epoch 3, step 12 of the run"):
        run(ImageClassifier(network, [0.3], [0.4]), batches, at=At(3, 0, 10))
    assert network.calls == 3  # found while the next step was under way


def test_a_bad_loss_in_the_last_step_is_found_too() -> None:
    images, labels = digits(8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(network[1].weight, float("nan"))
    with pytest.raises(NonFiniteLoss):
        run(ImageClassifier(network, [0.3], [0.4]), [batch_of(images, labels)])


def test_a_batch_of_one_trains_where_nothing_is_left_to_normalise() -> None:
    model = ImageClassifier(build_model("resnet18", num_classes=3), [0.5] * 3, [0.5] * 3)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)  # 1 x 1 pixel in the last stage
    labels = torch.tensor([0, 1, 2])
    losses = run(model, [batch_of(images[:2], labels[:2]), batch_of(images[2:], labels[2:])], replace(RECIPE, lr=0.01))
    assert [len(part) for part in losses] == [2, 1]


def test_a_batch_of_one_is_the_step_of_its_sample() -> None:
    images, labels = digits(1)
    models = [ImageClassifier(build_model("preact8", num_classes=10, in_channels=1), [0.3], [0.4]) for _ in range(2)]
    run(models[0], [batch_of(images, labels)])
    run(models[1], [batch_of(images.repeat(2, 1, 1, 1), labels.repeat(2))])
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_learns_digits() -> None:
    images, labels = digits(1797)
    model = ImageClassifier(build_model("preact8", num_classes=10, in_channels=1), [0.3], [0.37])
    optimizer, scaler, recipe = make_optimizer(model, RECIPE), make_scaler(RECIPE, CPU), replace(RECIPE, epochs=3)
    with torch.random.fork_rng():
        for epoch in range(3):
            order = torch.randperm(1400, generator=torch.Generator().manual_seed(epoch))
            batches = [batch_of(images[part], labels[part]) for part in order.split(64)]
            steps = train_epoch(model, batches, optimizer, scaler, recipe, at=At(epoch, 0, 0), size=1400, device=CPU)
            for _ in steps:
                pass
    found = evaluate(model, [batch_of(images[1400:], labels[1400:])])
    assert found.samples == 397
    assert found.accuracy > 0.9
    assert found.loss < 0.4


def test_evaluation_by_hand() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[0.0], [1.0]]))
    model = ImageClassifier(network, [0.5], [1.0])
    images = torch.tensor([0, 255, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    batches = [batch_of(images[:2], torch.tensor([0, 1])), batch_of(images[2:], torch.tensor([0]))]
    found = evaluate(model, batches)
    right, wrong = math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(0.5))
    assert (found.accuracy, found.samples) == (pytest.approx(2 / 3), 3)
    assert found.loss == pytest.approx((2 * right + wrong) / 3)
    assert evaluate(model, []) == (0, 0, 0)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cuda:x", ""])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=r"use auto or cpu|expected auto, cpu, cuda"):
        pick_device(name)


def test_auto_is_a_device() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
