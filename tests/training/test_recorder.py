"""What a loop records is what SQL shows: epochs whole, as they finish, whatever becomes of the loop."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound, InvalidName, RunBusy
from tamis.training import LossRecorder
from tamis.training.errors import RecordingRefused

CHILD = Path(__file__).with_name("recorder_child.py")
COLUMNS = "epoch, sample, loss, loss_epoch, probability, selected, correct"


def rows(store: Store, run: str = "mine") -> list[tuple[Any, ...]]:
    found = store.query(f"select {COLUMNS} from losses where run = $run order by epoch, sample", {"run": run})
    return [tuple(row.values()) for row in found.to_pylist()]


def counts(store: Store) -> list[tuple[int, int, float]]:
    found = store.query("select epoch, count(*) as n, avg(loss) as mean from losses group by epoch order by epoch")
    return [tuple(row.values()) for row in found.to_pylist()]


def until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("half a minute, and it is not so")


def test_a_loop_of_ones_own(store: Store, dataset: Dataset) -> None:
    with LossRecorder(store, "mine", dataset="digits", model="linear", config={"lr": 0.1}) as recorder:
        recorder.add(torch.tensor([3, 1]), torch.tensor([0.5, 1.5]), correct=torch.tensor([True, False]))
        recorder.add([2], [2.5], probability=[0.25], selected=[True], loss_epoch=0)
        recorder.end_epoch()
        recorder.add(np.array([1, 2]), np.array([1.0, np.nan]), probability=0.5, selected=False, loss_epoch=[1, 0])
    assert rows(store) == [
        (0, 1, 1.5, 0, None, None, False),
        (0, 2, 2.5, 0, 0.25, True, None),
        (0, 3, 0.5, 0, None, None, True),
        (1, 1, 1.0, 1, 0.5, False, None),
        (1, 2, None, 0, 0.5, False, None),
    ]
    run = store.runs.get("mine")
    assert (run.status, run.kind, run.dataset, run.model, run.config) == (
        "finished", "train", dataset.ref, "linear", {"lr": 0.1},
    )  # fmt: skip
    assert run.metrics == {"epochs": 2, "nonfinite": 1}
    assert recorder.nonfinite == 1


def test_an_epoch_shows_while_the_next_is_under_way(store: Store, dataset: Dataset) -> None:
    with LossRecorder(store, "mine", dataset=dataset) as recorder:
        recorder.add([0, 1], [1.0, 3.0])
        assert rows(store) == []
        recorder.end_epoch()
        until(lambda: bool(rows(store)))
        assert counts(store) == [(0, 2, 2.0)]
        assert store.runs.get("mine").status == "running"


def test_what_is_added_is_a_copy(store: Store, dataset: Dataset) -> None:
    weight, samples = torch.ones(2, requires_grad=True), torch.tensor([0, 1])
    with LossRecorder(store, "mine", dataset=dataset) as recorder:
        losses = weight * torch.tensor([1.0, 2.0])
        recorder.add(samples, losses.to(torch.bfloat16))
        with torch.no_grad():
            losses.zero_()
        samples.zero_()
    assert [row[1:3] for row in rows(store)] == [(0, 1.0), (1, 2.0)]


def test_a_sample_that_comes_again_has_its_last_row(store: Store, dataset: Dataset) -> None:
    with LossRecorder(store, "mine", dataset=dataset) as recorder:
        recorder.add([5, 6], [1.0, 2.0], correct=[True, True])
        recorder.add([6], [4.0])
    assert rows(store) == [(0, 5, 1.0, 0, None, None, True), (0, 6, 4.0, 0, None, None, None)]


def test_rows_of_many_calls_are_all_there(store: Store, dataset: Dataset) -> None:
    everyone = np.random.default_rng(0).permutation(dataset.samples)
    with LossRecorder(store, "mine", dataset=dataset) as recorder:
        for _ in range(4):
            for part in np.array_split(everyone, 50):
                recorder.add(part, part / 2)
            recorder.end_epoch()
    found = store.query("select epoch, count(*) as n, sum(loss) as s, max(abs(loss - sample / 2)) as off from losses "
                        "group by epoch order by epoch").to_pylist()  # fmt: skip
    total = dataset.samples * (dataset.samples - 1) / 4
    assert found == [{"epoch": e, "n": dataset.samples, "s": total, "off": 0.0} for e in range(4)]


@pytest.mark.parametrize(
    ("samples", "losses", "more", "message"),
    [
        ([0, 1], [1.0], {}, r"loss is \[1\] for 2 samples: expected \[2\]"),
        ([0], 1.0, {}, r"loss is \[\] for 1 samples"),
        (0, 1.0, {}, r"samples are \[\]: expected numbers of samples"),
        ([[0]], [[1.0]], {}, r"samples are \[1, 1\]"),
        ([0, 1], [1.0, 1.0], {"correct": [True]}, r"correct is \[1\] for 2 samples"),
        ([-1], [1.0], {}, r"samples go from -1 to -1: digits@1 has those from 0 to 1497"),
        ([0, 1498], [1.0, 1.0], {}, r"samples go from 0 to 1498"),
        ([0.5], [1.0], {}, r"samples are float64: expected whole numbers"),
    ],
)
def test_rows_that_are_refused_at_once(
    store: Store, dataset: Dataset, samples: Any, losses: Any, more: dict[str, Any], message: str
) -> None:
    with LossRecorder(store, "mine", dataset=dataset) as recorder:
        with pytest.raises(RecordingRefused, match=message):
            recorder.add(samples, losses, **more)
        recorder.add([7], [7.0])
    assert [row[1] for row in rows(store)] == [7]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"probability": [1.5]}, r"probability goes from 1\.5 to 1\.5: expected 0 to 1"),
        ({"loss_epoch": 2}, "loss_epoch goes from 2 to 2: expected 0 to 1"),
        ({"loss_epoch": -1}, "loss_epoch goes from -1 to -1"),
        ({"correct": [0.5]}, "correct is float64: expected"),
        ({"selected": [2]}, "selected goes from 2 to 2"),
    ],
)
def test_what_goes_wrong_beside_the_loop_is_raised_by_it(
    store: Store, dataset: Dataset, more: dict[str, Any], message: str
) -> None:
    def loop() -> None:
        with LossRecorder(store, "mine", dataset=dataset) as recorder:
            recorder.add([0], [1.0])
            recorder.end_epoch()
            recorder.add([0], [1.0], **more)
            recorder.end_epoch()
            for _ in range(600):
                recorder.add([1], [1.0])
                time.sleep(0.05)

    with pytest.raises(RecordingRefused, match=message):
        loop()
    assert (counts(store), store.runs.get("mine").status) == ([(0, 1, 1.0)], "failed")


def test_the_end_of_the_block_hears_of_it_too(store: Store, dataset: Dataset) -> None:
    with (
        pytest.raises(RecordingRefused, match="probability"),
        LossRecorder(store, "mine", dataset=dataset) as recorder,
    ):
        recorder.add([0], [1.0], probability=7)
    assert (rows(store), store.runs.get("mine").status) == ([], "failed")


def test_a_block_that_raises(store: Store, dataset: Dataset) -> None:
    """Finished epochs stay, the one under way goes; the same name goes on behind them."""

    def loop() -> None:
        with LossRecorder(store, "mine", dataset=dataset) as recorder:
            recorder.add([0, 1], [1.0, 1.0])
            recorder.end_epoch()
            recorder.add([0], [2.0])
            raise ArithmeticError("diverged")

    with pytest.raises(ArithmeticError):
        loop()
    run = store.runs.get("mine")
    assert (run.status, run.error, counts(store)) == ("failed", "ArithmeticError: diverged", [(0, 2, 1.0)])
    with LossRecorder(store, "mine", dataset=dataset) as recorder:
        assert recorder.epoch == 1
        recorder.add([0], [5.0])
    assert counts(store) == [(0, 2, 1.0), (1, 1, 5.0)]


def test_an_epoch_that_is_recorded_again_is_replaced(store: Store, dataset: Dataset) -> None:
    store.runs.begin(kind="train", key="mine", dataset=dataset.ref)
    store.runs.put_losses("mine", 0, [0, 1], [1.0, 1.0], 0)
    store.runs.put_losses("mine", 1, [0], [9.0], 1)
    store.runs.fail("mine", "killed halfway")
    with LossRecorder(store, "mine", dataset=dataset, epoch=1) as recorder:
        recorder.add([0, 1], [2.0, 4.0])
    assert counts(store) == [(0, 2, 1.0), (1, 2, 3.0)]


def test_a_run_of_this_process_is_written_to_and_not_ended(store: Store, dataset: Dataset) -> None:
    store.runs.begin(kind="train", key="f00d" * 8, dataset=dataset.ref)
    with LossRecorder(store, "f00d" * 8, dataset=dataset, epoch=3) as recorder:
        recorder.add([0], [1.0])
        with pytest.raises(RunBusy, match="in this process already"), LossRecorder(store, "f00d" * 8, dataset=dataset):
            pass
    assert (counts(store), store.runs.get("f00d").status) == ([(3, 1, 1.0)], "running")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"dataset": "none"}, DatasetNotFound, "none"),
        ({"run": "no/name"}, InvalidName, "no/name"),
        ({"epoch": -1}, ValueError, "epoch is -1: expected"),
        ({"epoch": 1.5}, TypeError, "epoch is 1.5: expected a whole number"),
        ({"run": "done"}, RecordingRefused, "Run done is finished"),
        ({"run": "other"}, RecordingRefused, "Run other records losses of elsewhere@1, not of digits@1"),
    ],
)
def test_runs_that_are_refused(
    store: Store, dataset: Dataset, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    store.runs.begin(kind="train", key="done", dataset=dataset.ref)
    store.runs.finish("done")
    store.runs.begin(kind="train", key="other", dataset="elsewhere@1")
    with (
        pytest.raises(error, match=message),
        LossRecorder(store, **{"run": "mine", "dataset": "digits", **given}),  # type: ignore[arg-type]  # on purpose
    ):
        pass
    assert store.runs.state("mine") is None


def test_outside_of_its_block_it_records_nothing(store: Store, dataset: Dataset) -> None:
    recorder = LossRecorder(store, "mine", dataset=dataset)
    with pytest.raises(RecordingRefused, match="not open"):
        recorder.add([0], [1.0])
    assert store.runs.state("mine") is None


def test_killed_and_two_jobs_under_one_name(store: Store, dataset: Dataset) -> None:
    """The second is refused while the first lives, and goes on behind its finished epochs when that is killed."""
    command = [sys.executable, str(CHILD), store.root.url, "mine"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        until(lambda: len(counts(store)) == 2)
        with (
            pytest.raises(RunBusy, match=rf"Run mine is being written by process {job.pid} on .*: wait until it ends"),
            LossRecorder(store, "mine", dataset=dataset),
        ):
            pass
        job.kill()
    assert store.runs.get("mine").status == "interrupted"
    assert counts(store) == [(0, 1498, 1.0), (1, 1498, 2.0)]
    with LossRecorder(store, "mine", dataset=dataset) as recorder:
        assert recorder.epoch == 2
        recorder.add([0], [3.0])
    assert counts(store)[2:] == [(2, 1, 3.0)]
    assert store.runs.get("mine").status == "finished"
