"""Builds of packages on digits with a tiny base: what several tests use."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.models.registry import build_model

BASE = "preact8"
RECIPE: dict[str, Any] = {
    "channels": 1, "mean": (0.3,), "std": (0.4,), "epochs": 2, "lr": 0.01, "batch_size": 50, "average": 4.0,
    "minimum": 1.0, "frequency": 0.1,
}  # fmt: skip


def weights(folder: Path, outputs: int = 7) -> Path:
    """A file with weights of the base, with running statistics that are not the initial ones."""
    path, network = folder / "base.pth", build_model(BASE, num_classes=outputs, in_channels=1, seed=5)
    draws = torch.Generator().manual_seed(1)
    for name, one in network.state_dict().items():
        if name.endswith("running_mean"):
            one.copy_(torch.randn(one.shape, generator=draws) / 10)
        elif name.endswith("running_var"):
            one.copy_(0.5 + torch.rand(one.shape, generator=draws))
    torch.save(network.state_dict(), path)
    return path


def asked(folder: Path, **changed: Any) -> PackageConfig:
    """A package of digits whose event is the three."""
    given = {"name": "threes", "dataset": "digits", "base": BASE, "event": "3"}
    path = folder / "base.pth"
    return PackageConfig(**given | RECIPE | {"weights": str(path if path.exists() else weights(folder))} | changed)


class _Wide(nn.Module):
    """Two layers side by side, and then their sum: between them no tensor crosses alone."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(64, outputs), nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return self.one(flat) + self.other(flat)


def wide(num_classes: int) -> nn.Module:
    """A model without a narrow cut."""
    return _Wide(num_classes)
