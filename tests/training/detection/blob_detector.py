"""A detector whose answers are known: it sees bright pixels. Written for the tests."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

SEEN = "TAMIS_TEST_SEEN"


class Blob(nn.Module):
    """One box around all pixels above .5, whose score is their mean; fails on a frame whose first pixel is white."""

    classes = ("bright", "dim")

    def __init__(self, log: str | None) -> None:
        super().__init__()
        self.log = log
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self._one(image) for image in images]

    def _one(self, image: Tensor) -> dict[str, Tensor]:
        if image[0, 0, 0] > 0.99:
            raise ValueError("a white corner")
        if self.log is not None:
            with Path(self.log).open("a") as file:
                file.write("seen\n")
        ys, xs = torch.nonzero(image[0] > 0.5, as_tuple=True)
        if not len(ys):
            return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
        box = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
        score = image[0][ys, xs].mean() * self.scale
        return {
            "boxes": torch.stack([box, box + 1]),
            "labels": torch.tensor([1, 2]),
            "scores": torch.stack([score / 2, score]),
        }


def detector(weights: str | None) -> nn.Module:
    """The weights file's text is where each frame that was looked at is told."""
    return Blob(None if weights is None else Path(weights).read_text())


def mortal(weights: str) -> nn.Module:
    """Its process is killed when so many frames were looked at: the second line of the weights file."""
    log, limit = Path(weights).read_text().split()
    return _Mortal(log, int(limit))


class _Mortal(Blob):
    def __init__(self, log: str, limit: int) -> None:
        super().__init__(log)
        self.limit = limit

    def _one(self, image: Tensor) -> dict[str, Tensor]:
        found = super()._one(image)
        if len(Path(str(self.log)).read_bytes().splitlines()) == self.limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def slow(weights: str) -> nn.Module:
    """It begins when two processes have opened it, and takes its time."""
    log = Path(weights).read_text()
    with Path(f"{log}.open").open("a") as file:
        file.write("open\n")
    until = time.monotonic() + 60
    while len(Path(f"{log}.open").read_text().splitlines()) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return _Slow(log)


class _Slow(Blob):
    def _one(self, image: Tensor) -> dict[str, Tensor]:
        time.sleep(0.01)
        return super()._one(image)


def broken(weights: str | None) -> nn.Module:
    return _Broken()


class _Broken(nn.Module):
    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        raise RuntimeError("no such kernel")


def unruly(weights: str | None) -> nn.Module:
    return nn.Identity()
