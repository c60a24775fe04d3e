"""A real network that notes how many samples each forward pass has."""

from torch import Tensor, nn

BATCHES = list[int]()


class Watched(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(in_channels * 64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        BATCHES.append(len(images))
        return self.head(images.flatten(1))


def watched(num_classes: int, in_channels: int) -> Watched:
    return Watched(num_classes, in_channels)
