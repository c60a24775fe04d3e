"""Runs docs/examples/ddp.py as it stands: python ddp_child.py NOTES DIE_AT STORE SELECTION CHECKPOINT

What each batch of each rank held is noted, a line of JSON a batch. At its DIE_AT-th batch (0: never) the process kills
itself with SIGKILL.
"""

import json
import os
import runpy
import signal
import sys
from collections.abc import Generator
from pathlib import Path

from tamis.training.streaming.batches import Batch
from tamis.training.streaming.stream import SelectionStream

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "ddp.py"
epoch_of = SelectionStream.epoch


def noted(self: SelectionStream, epoch: int) -> Generator[Batch]:
    global left
    for batch in epoch_of(self, epoch):
        note = {"rank": self.rank, "world": self.world, "epoch": epoch, "samples": batch.samples.tolist()}
        note |= {"weights": batch.weights.tolist(), "consumed": self.state_dict()["samples_consumed"]}
        os.write(notes, json.dumps(note).encode() + b"\n")
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


if __name__ == "__main__":
    notes, left = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND), int(sys.argv[2])
    SelectionStream.epoch = noted
    sys.argv[:] = [str(EXAMPLE), *sys.argv[3:]]
    runpy.run_path(str(EXAMPLE), run_name="__main__")
