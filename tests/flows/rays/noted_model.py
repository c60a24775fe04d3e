"""A real network whose passes note the process that they run in, and that one process does not outlive.

In the folder TAMIS_NOTES: a file a process, named by its id; the process that removes the file "die" kills itself.
"""

import os
import signal
from pathlib import Path

from torch import Tensor, nn


class Noted(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(in_channels * 64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if "TAMIS_NOTES" in os.environ and not self.training:
            note(Path(os.environ["TAMIS_NOTES"]))
        return self.head(images.flatten(1))


def noted(num_classes: int, in_channels: int) -> Noted:
    return Noted(num_classes, in_channels)


def note(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    try:
        (folder / "die").unlink()
    except FileNotFoundError:
        return
    (folder / "dead").write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
