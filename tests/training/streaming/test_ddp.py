"""The DDP example, in real gloo processes that are killed and go on at another world size: every sample counts once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered import Select

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Selection
from tamis.training.streaming.stream import SelectionStream

CHILD = Path(__file__).with_name("ddp_child.py")
BATCH, EVERY = 32, 4  # the example's
Note = dict[str, Any]


class Job:
    """Runs of the example that share a checkpoint."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.checkpoint, self.notes, self._store = folder / "checkpoint", folder / "notes", store

    def killed(self, world: int, at: int) -> list[Note]:
        """Run with so many processes, of which one kills itself at its `at`-th batch, and the others right after."""
        ranks = self._start(world, at)
        while all(rank.poll() is None for rank in ranks):
            time.sleep(0.01)
        for rank in ranks:
            rank.kill()
        said = [rank.communicate(timeout=60)[1] for rank in ranks]
        assert -signal.SIGKILL in [rank.returncode for rank in ranks], said
        assert 0 not in [rank.returncode for rank in ranks], said
        return self._noted()

    def finished(self, world: int) -> list[Note]:
        for rank in (ranks := self._start(world)):
            _, said = rank.communicate(timeout=120)
            assert rank.returncode == 0, said
        assert len(ranks) == world
        return self._noted()

    def killed_by_torchrun(self, world: int, at: int) -> list[Note]:
        """As `killed`; torchrun ends the other ranks, and says so."""
        done = self._torchrun(world, at)
        assert done.returncode != 0
        assert "Signal 9 (SIGKILL)" in done.stderr, done.stderr
        return self._noted()

    def finished_by_torchrun(self, world: int) -> list[Note]:
        """As the example's docstring says."""
        done = self._torchrun(world)
        assert done.returncode == 0, done.stderr
        return self._noted()

    def _torchrun(self, world: int, die_at: int = 0) -> "subprocess.CompletedProcess[str]":
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        command = [*torchrun, *self._command(die_at)]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=False)

    def saved(self) -> dict[str, Any]:
        """What the checkpoint says of the stream."""
        return torch.load(self.checkpoint, weights_only=True)["stream"]

    def _start(self, world: int, die_at: int = 0) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
        return [
            subprocess.Popen(
                [sys.executable, *self._command(die_at)],
                env=environment() | meet | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(world)
        ]

    def _command(self, die_at: int = 0) -> list[str]:
        return [str(part) for part in (CHILD, self.notes, die_at, self._store.root.url, "chosen", self.checkpoint)]

    def _noted(self) -> list[Note]:
        """What the ranks were given in this run."""
        notes = [json.loads(line) for line in self.notes.read_text().splitlines()]
        self.notes.unlink()
        return notes


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def counted(notes: list[Note], epoch: int, until: int) -> list[tuple[int, float]]:
    """(sample, weight) that a run gave of an epoch, in the global order, up to a position; without padding."""
    found: list[tuple[int, float]] = []
    mine = [note for note in notes if note["epoch"] == epoch and note["consumed"] <= until]
    for consumed in sorted({note["consumed"] for note in mine}):
        step = sorted((note for note in mine if note["consumed"] == consumed), key=lambda note: note["rank"])
        assert [note["rank"] for note in step] == list(range(step[0]["world"])), "a rank lacks a batch"
        assert len({len(note["samples"]) for note in step}) == 1
        found += zip(
            np.stack([note["samples"] for note in step], 1).ravel().tolist(),
            np.stack([note["weights"] for note in step], 1).ravel().tolist(),
            strict=True,
        )
    return [(sample, weight) for sample, weight in found if weight > 0]


def whole(store: Store, chosen: Selection, epoch: int) -> list[tuple[int, float]]:
    batches = list(SelectionStream(store, chosen).epoch(epoch))
    return [(s, w) for b in batches for s, w in zip(b.samples.tolist(), b.weights.tolist(), strict=True)]


@pytest.fixture
def chosen(dataset: Dataset, select: Select) -> Selection:
    """601 digits: no world size here shares them out evenly."""
    return select(dataset, (0, list(range(3, 604))))


@pytest.fixture
def job(store: Store, chosen: Selection, tmp_path: Path) -> Job:
    return Job(store, tmp_path)


def test_killed_with_two_goes_on_with_one(store: Store, chosen: Selection, job: Job) -> None:
    """The steps after the last checkpoint are undone with the process: the model that goes on knows nothing of them."""
    first = job.killed_by_torchrun(2, at=7)
    state = job.saved()
    assert state == {"selection": chosen.key, "seed": 0, "epoch": 0, "samples_consumed": EVERY * BATCH * 2}
    rest = job.finished_by_torchrun(1)
    assert counted(first, 0, state["samples_consumed"]) + counted(rest, 0, 601) == whole(store, chosen, 0)
    assert counted(rest, 1, 601) == whole(store, chosen, 1)
    assert job.saved() == state | {"epoch": 1, "samples_consumed": 601}


def test_killed_again_and_again(store: Store, chosen: Selection, job: Job) -> None:
    """Two processes, then three, then two again, killed in both epochs."""
    first = job.killed(2, at=5)
    one = job.saved()
    second = job.killed(3, at=4 + 6)  # 4 batches a rank are left of the first epoch
    two = job.saved()
    assert (one["epoch"], one["samples_consumed"]) == (0, EVERY * BATCH * 2)
    assert (two["epoch"], two["samples_consumed"]) == (1, EVERY * BATCH * 3)
    third = job.finished(2)
    assert counted(first, 0, one["samples_consumed"]) + counted(second, 0, 601) == whole(store, chosen, 0)
    assert counted(second, 1, two["samples_consumed"]) + counted(third, 1, 601) == whole(store, chosen, 1)
    assert {note["epoch"] for note in third} == {1}
