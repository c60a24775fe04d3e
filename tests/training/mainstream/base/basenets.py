"""Networks that show what a base model may and may not be."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """x + f(x), with a ReLU that writes into its input at the beginning where `greedy`."""

    def __init__(self, width: int, out: int, greedy: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, 6 * width, 1), nn.Conv2d(6 * width, out, 3, padding=1)
        self.norm, self.greedy, self.skips = nn.BatchNorm2d(out), greedy, width == out

    def forward(self, x: Tensor) -> Tensor:
        if self.greedy:
            x = functional.relu_(x)
        y = self.norm(self.second(functional.relu(self.first(x))))
        return y + x if self.skips else y


class Small(nn.Module):
    """A stem, blocks of which one has no shortcut, dropout as a function, the batch size carried along, a head."""

    def __init__(self, num_classes: int, in_channels: int = 3, greedy: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 4, 3, stride=2)
        self.blocks = nn.ModuleList([Residual(4, 4), Residual(4, 6, greedy), Residual(6, 6)])
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        size = x.size(0)
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = functional.dropout(x.mean((2, 3)), 0.5, training=self.training)
        return self.head(x.view(size, -1))


class Skipping(nn.Module):
    """A connection from the images to the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(48, 8), nn.Linear(8, 5), nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.b(functional.relu(self.a(x))) + self.c(x)


class Branching(nn.Module):
    """Chooses by the image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(48, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x.flatten(1))
        if y.sum() > 0:
            y = -y
        return self.b(y)


class Tied(nn.Module):
    """Uses one layer twice, so no cut between the two uses parts the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.twice, self.b = nn.Linear(48, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.twice(torch.tanh(self.twice(torch.tanh(self.a(x.flatten(1))))))))


def make(num_classes: int, in_channels: int) -> nn.Module:
    """For `module:function`."""
    return Small(num_classes, in_channels)
