"""Every task keeps to its contract: losses, their gradients and measures agree; other names are refused."""

import subprocess

import pytest
import torch
from strict import STRICT
from torch import Tensor, nn

from tamis.training.errors import TaskError
from tamis.training.job import TrainConfig
from tamis.training.streaming.batches import Batch
from tamis.training.tasks import CLASSIFICATION, TASKS, get_task
from tamis.training.tasks.contract import Task

EVERY = pytest.mark.parametrize("name", TASKS)


def some(name: str) -> tuple[Tensor, Tensor]:
    """Outputs of a model and targets of seven samples."""
    generator = torch.Generator().manual_seed(3)
    if name == "classification":
        return torch.randn(7, 4, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    if name == "detection":  # 5 priors and 2 classes; an image without boxes is among them
        corner = 40 * torch.rand(7, 5, 2, generator=generator)
        outputs = torch.randn(7, 5, 7, generator=generator)
        boxes = torch.cat([torch.zeros(7, 2, 1), corner[:, :2], corner[:, :2] + 18], dim=2)
        boxes[6] = -1
        return torch.cat([corner, corner + 20, outputs], dim=2), boxes
    return torch.randn(7, 1, generator=generator), torch.randn(7, generator=generator)


class Table(nn.Module):
    """Gives the outputs that stand at the number of its image's first pixel."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs[images[:, 0, 0, 0].long()]


def batches(targets: Tensor, sizes: list[int]) -> list[Batch]:
    images = torch.arange(len(targets), dtype=torch.uint8).view(-1, 1, 1, 1)
    everything = Batch(images, targets, torch.ones(len(targets)), torch.arange(len(targets)))
    return [Batch(*parts) for parts in zip(*(torch.split(part, sizes) for part in everything), strict=True)]


@EVERY
def test_residuals_are_the_gradients_of_the_losses(name: str) -> None:
    task, (outputs, targets) = TASKS[name], some(name)
    leaf = outputs.clone().requires_grad_()
    task.losses(leaf, targets).sum().backward()
    assert leaf.grad is not None
    with torch.inference_mode():
        torch.testing.assert_close(task.residuals(outputs, targets), leaf.grad)
        torch.testing.assert_close(Task.residuals(task, outputs, targets), leaf.grad)  # what a new task has for nothing


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.in_image])
def test_a_model_is_as_good_as_its_measures_are_on_average(name: str) -> None:
    task, (outputs, targets) = TASKS[name], some(name)
    found = task.evaluate(Table(outputs), batches(targets, [3, 3, 1]))
    expected = {k: float(v.double().mean()) for k, v in task.measures(outputs, targets).items()}
    assert found == pytest.approx(expected)
    assert task.evaluate(Table(outputs), []) == {}


@EVERY
def test_the_loss_is_among_the_measures_and_targets_are_known(name: str) -> None:
    task, (outputs, targets) = TASKS[name], some(name)
    torch.testing.assert_close(task.measures(outputs, targets)["loss"], task.losses(outputs, targets))
    assert task.losses(outputs, targets).shape == (7,)
    assert task.known(outputs, targets).all()


@EVERY
def test_every_task_is_entered_under_its_name_and_can_be_asked_for(name: str) -> None:
    assert get_task(name).name == name


def test_classification_by_hand() -> None:
    outputs = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    targets = torch.tensor([1, 0])
    assert CLASSIFICATION.measures(outputs, targets)["accuracy"].tolist() == [False, True]  # of equals, the first
    assert CLASSIFICATION.residuals(outputs, targets).tolist() == [[0.5, -0.5], [-0.5, 0.5]]
    assert CLASSIFICATION.known(outputs, torch.tensor([-1, 2])).tolist() == [False, False]


def test_other_names_are_refused() -> None:
    with pytest.raises(TaskError, match="No task 'guessing': expected one of classification"):
        get_task("guessing")
    with pytest.raises(ValueError, match="No task 'guessing'"):
        TrainConfig(dataset="d", task="guessing")


def test_importing_them_loads_no_torch() -> None:
    code = "import sys, tamis.training.tasks, tamis.training.signals.scorers, tamis.training.strategies as s;"
    subprocess.run([*STRICT, "-c", f"{code} assert s.STRATEGIES and 'torch' not in sys.modules"], check=True)
